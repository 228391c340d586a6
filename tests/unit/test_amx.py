"""The matrix unit of Intel's server processors: used where it works, left alone where it would end the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from iris.engine import llama

FIXED = SimpleNamespace(iris_amx_tile_config=1)


@pytest.mark.parametrize(
    ("system_info", "library", "amx"),
    [
        (b"CPU : AVX2 = 1 | AMX_INT8 = 1 | REPACK = 1", FIXED, "works"),
        (b"CPU : AVX2 = 1 | AMX_INT8 = 1 | REPACK = 1", SimpleNamespace(), "crashes"),
        (b"CPU : AVX2 = 1 | REPACK = 1", FIXED, "none"),
        (b"CPU : AVX2 = 1 | REPACK = 1", SimpleNamespace(), "none"),
    ],
)
def test_amx_is_trusted_only_when_compiled_with_the_fix(system_info: bytes, library: object, amx: str) -> None:
    assert llama._amx(system_info, library) == amx


def test_make_compiles_llama_cpp_with_the_fix() -> None:
    assert hasattr(llama.library.llama_cpp._lib, "iris_amx_tile_config")


@pytest.mark.skipif(llama.AMX == "none", reason="this processor has no AMX")
@pytest.mark.parametrize("amx", ["works", "crashes"])
def test_a_prompt_is_read_with_and_without_amx(gguf: Path, amx: str) -> None:
    """In a process of its own, because the failure would be a fault of the processor, not an exception."""
    code = f"""
from pathlib import Path
from iris.engine import GenerationRequest, Message, Sampling, complete, llama
from iris.engine.batch import LocalEngine

llama.AMX = {amx!r}
engine = LocalEngine(Path({str(gguf)!r}), context=256, cache=256, slots=1)
request = GenerationRequest((Message("user", "What is a feature store? " * 5),), Sampling(temperature=0, max_tokens=4))
print(complete(engine, request)[1].completion_tokens)
engine.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "4"), done.stderr
