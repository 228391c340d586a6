"""What the engine loads and what it refuses: models, LoRA adapters, too little memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf as gguf_library
import numpy as np
import pytest

from iris.engine.batch import LocalEngine
from iris.errors import ModelFileError
from tests.conftest import THREADS
from tests.unit.engines import PATIENCE_S, Got, ask

WIDTH = 576  # of SmolLM2-135M's residual stream
RANK = 4


def load(path: Path, adapter: Path | None = None) -> LocalEngine:
    return LocalEngine(path, adapter=adapter, slots=1, context=256, cache=256, threads=THREADS)


# ---- Models.


def changed(path: Path, original: Path, old: bytes, new: bytes) -> Path:
    """A copy of a GGUF with a few bytes of its header replaced."""
    data = original.read_bytes()
    assert len(old) == len(new)
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


def test_a_model_without_a_chat_template_is_refused(gguf: Path, tmp_path: Path) -> None:
    path = changed(tmp_path / "base.gguf", gguf, b"tokenizer.chat_template", b"tokenizer.chat_templatX")
    with pytest.raises(ModelFileError, match=r"base\.gguf carries no chat template.*instruction-tuned"):
        load(path)


def test_a_chat_template_that_does_not_compile_is_refused(gguf: Path, tmp_path: Path) -> None:
    path = changed(tmp_path / "odd.gguf", gguf, b"{% for message in messages %}", b"{% far message in messages %}")
    with pytest.raises(ModelFileError, match=r"chat template cannot be used"):
        load(path)


def test_an_unsupported_architecture_is_refused_by_name(gguf: Path, tmp_path: Path) -> None:
    key = b"general.architecture" + (8).to_bytes(4, "little") + (5).to_bytes(8, "little")
    path = changed(tmp_path / "odd.gguf", gguf, key + b"llama", key + b"lxama")
    with pytest.raises(ModelFileError, match=r"odd\.gguf.*'lxama'"):
        load(path)


def test_a_truncated_model_is_refused(gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(gguf.read_bytes()[:40_000_000])
    with pytest.raises(ModelFileError, match=r"half\.gguf cannot be loaded: .{10,}"):
        load(path)


def test_too_little_memory_is_a_clear_error(gguf: Path) -> None:
    code = f"""
import resource, sys
from pathlib import Path
from iris.engine.batch import LocalEngine
from iris.errors import ModelFileError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), used + (400 << 20)))
try:
    LocalEngine(Path({str(gguf)!r}), context=8192, cache=65536, threads={THREADS})
except ModelFileError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert re.match(r"No memory for a context of [\d,]+ tokens.*Lower IRIS_CACHE", done.stdout), done.stderr[-2000:]


_AGAIN_AND_AGAIN = """
import sys
from pathlib import Path

from tests.unit.engines import ask
from tests.unit.test_engine_load import load

for _ in range(5):
    engine = load(Path(sys.argv[1]))
    ask(engine, "hi", max_tokens=2)
    engine.close()
    print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6)
"""


def test_memory_is_given_back(gguf: Path) -> None:
    """Loading and closing again and again, as switching between models does, in a process that does nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", _AGAIN_AND_AGAIN, gguf], capture_output=True, text=True, timeout=300, check=True
    )
    sizes = [float(line) for line in done.stdout.split()]
    assert sizes[-1] - sizes[1] < 30


# ---- Adapters.

WriteAdapter = Callable[..., Path]


@pytest.fixture
def write_adapter(tmp_path: Path) -> WriteAdapter:
    """A LoRA adapter for the attention outputs of the first ten layers; ``b`` scales its second matrix."""

    def write(name: str, *, b: float, alpha: float = RANK, width: int = WIDTH, architecture: str = "llama") -> Path:
        chance = np.random.default_rng(1)
        writer = gguf_library.GGUFWriter(str(tmp_path / name), architecture)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        for layer in range(10):
            down = chance.standard_normal((RANK, width)).astype(np.float32) / width**0.5
            up = b * chance.standard_normal((width, RANK)).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.attn_output.weight.lora_a", down)
            writer.add_tensor(f"blk.{layer}.attn_output.weight.lora_b", up)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    return write


@pytest.fixture
def answer(gguf: Path) -> Iterator[Callable[..., Got]]:
    engines: list[LocalEngine] = []

    def given(adapter: Path | None = None) -> Got:
        engines.append(load(gguf, adapter))
        return ask(engines[-1], "What is a neural network?", max_tokens=4, logprobs=20)

    yield given
    for engine in engines:
        engine.close()


def test_an_adapter_is_applied(answer: Any, write_adapter: WriteAdapter) -> None:
    base = answer()
    assert answer(write_adapter("zero.gguf", b=0.0)).logprobs == base.logprobs
    some = answer(write_adapter("some.gguf", b=0.5))
    assert some.logprobs != base.logprobs
    # Its strength is alpha / rank: half the matrix at twice the alpha is the same adapter.
    assert answer(write_adapter("same.gguf", b=0.25, alpha=2 * RANK)).logprobs == some.logprobs
    assert answer(write_adapter("more.gguf", b=2.0)).text != base.text


def test_an_adapter_of_another_model_is_refused(gguf: Path, write_adapter: WriteAdapter) -> None:
    for other in (
        write_adapter("wide.gguf", b=1.0, width=WIDTH * 2),
        write_adapter("phi.gguf", b=1.0, architecture="phi3"),
        gguf,
    ):
        with pytest.raises(ModelFileError, match=rf"adapter {other.name} cannot be used with {gguf.name}: .{{10,}}"):
            load(gguf, other)
