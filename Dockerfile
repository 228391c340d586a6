# Iris for a machine of one's own.
#
#   docker build -t iris .
#   docker run --rm -p 7860:7860 -v iris-state:/state iris
#
# llama.cpp is compiled for the processor that builds the image. For an image that runs on any x86 processor with AVX2:
#   docker build --build-arg CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON" -t iris .

FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.txt ./
COPY native/ native/
ARG CMAKE_ARGS=""
# The header keeps GCC from compiling AMX to garbage; see the file.
RUN python -m venv /venv \
    && CMAKE_ARGS="$CMAKE_ARGS" CXXFLAGS="-include /build/native/amx_tile_config.h" \
       /venv/bin/pip install --no-cache-dir --no-deps --no-binary llama-cpp-python \
       "$(grep '^llama-cpp-python==' requirements.txt)" \
    && /venv/bin/pip install --no-cache-dir --no-deps -r requirements.txt

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home iris \
    && install -d -o iris /state
COPY --from=build /venv /venv
WORKDIR /app
COPY iris/ iris/
COPY data/courses/ data/courses/
ENV IRIS_HOST=0.0.0.0 IRIS_PORT=7860 IRIS_HOME=/state PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER iris
VOLUME /state
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["/venv/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/config', timeout=9)"]
CMD ["/venv/bin/python", "-m", "iris"]
