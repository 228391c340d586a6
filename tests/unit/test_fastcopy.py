"""The Q8_0 copy that small models of slow formats are served from: what it may change, and when it is made."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import pytest

from iris.engine import GenerationRequest, Message, Sampling, llama
from iris.engine.batch import LocalEngine
from iris.engine.fastcopy import fast_copy

QUESTIONS = (
    "What is gradient descent?",
    "Why is the sky blue? Answer in one paragraph.",
    "Explain to me how a database index works.",
    "Write a Python function that reverses a list.",
)


@pytest.fixture(scope="module")
def slow(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model in Q5_1, which is slow on every processor (Q4_1, its own format, is not where AMX is)."""
    path = tmp_path_factory.mktemp("slow") / "slow.gguf"
    params = llama.library.llama_model_quantize_default_params()
    params.ftype = llama.library.LLAMA_FTYPE_MOSTLY_Q5_1
    params.allow_requantize = True
    assert llama.library.llama_model_quantize(str(gguf).encode(), str(path).encode(), ctypes.byref(params)) == 0
    return path


@pytest.fixture(scope="module")
def copy(slow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fast_copy(slow, tmp_path_factory.mktemp("cache"), threads=2)


def _answers(path: Path) -> list[list[dict[int, float]]]:
    """The 20 likeliest next tokens, with log-probability, at the first ten places of a greedy answer."""
    engine = LocalEngine(path, slots=1, context=512, cache=512)
    try:
        answers = []
        for question in QUESTIONS:
            request = GenerationRequest(
                (Message("user", question),), Sampling(temperature=0, repeat_penalty=1, max_tokens=10), logprobs=20
            )
            with engine.stream(request) as chunks:
                answers.append([dict(row.top) for chunk in chunks for row in chunk.logprobs])
        return answers
    finally:
        engine.close()


def test_the_copy_says_the_same(slow: Path, copy: Path) -> None:
    """While both write the same tokens, the likeliest ones differ by a KL divergence under 0.02 nats on average."""
    divergences = []
    for ours, theirs in zip(_answers(slow), _answers(copy), strict=True):
        for a, b in zip(ours, theirs, strict=False):
            shared = a.keys() & b.keys()
            divergences.append(sum(math.exp(a[t]) * (a[t] - b[t]) for t in shared))
            if max(a, key=a.__getitem__) != max(b, key=b.__getitem__):
                break  # from here on they write different texts
    assert len(divergences) >= 10
    assert abs(sum(divergences) / len(divergences)) < 0.02


def test_made_once_under_its_final_name(slow: Path, copy: Path) -> None:
    assert copy != slow
    made = copy.stat().st_mtime_ns
    assert fast_copy(slow, copy.parent, threads=2) == copy
    assert copy.stat().st_mtime_ns == made
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_fast_format_is_served_as_it_is(copy: Path, tmp_path: Path) -> None:
    assert fast_copy(copy, tmp_path / "cache", threads=2) == copy
    assert not (tmp_path / "cache").exists()


def test_without_room_for_a_copy_the_file_itself_is_served(slow: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file where the folder should be")
    assert fast_copy(slow, blocked, threads=2) == slow


def test_the_built_in_format_needs_a_copy_only_without_amx(gguf: Path, tmp_path: Path) -> None:
    assert (fast_copy(gguf, tmp_path, threads=2) == gguf) == (llama.AMX == "works")
