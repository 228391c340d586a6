"""The Q8_0 copy that small models of slow formats are served from: what it may change, and when it is made."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from iris.engine import GenerationRequest, Message, Sampling
from iris.engine.batch import LocalEngine
from iris.engine.fastcopy import fast_copy

QUESTIONS = (
    "What is gradient descent?",
    "Why is the sky blue? Answer in one paragraph.",
    "Explain to me how a database index works.",
    "Write a Python function that reverses a list.",
)


@pytest.fixture(scope="module")
def copy(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fast_copy(gguf, tmp_path_factory.mktemp("cache"), threads=2)


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


def test_the_copy_says_the_same(gguf: Path, copy: Path) -> None:
    """While both write the same tokens, the likeliest ones differ by a KL divergence under 0.02 nats on average."""
    divergences = []
    for ours, theirs in zip(_answers(gguf), _answers(copy), strict=True):
        for a, b in zip(ours, theirs, strict=False):
            shared = a.keys() & b.keys()
            divergences.append(sum(math.exp(a[t]) * (a[t] - b[t]) for t in shared))
            if max(a, key=a.__getitem__) != max(b, key=b.__getitem__):
                break  # from here on they write different texts
    assert len(divergences) >= 10
    assert abs(sum(divergences) / len(divergences)) < 0.02


def test_made_once_under_its_final_name(gguf: Path, copy: Path) -> None:
    assert copy != gguf
    made = copy.stat().st_mtime_ns
    assert fast_copy(gguf, copy.parent, threads=2) == copy
    assert copy.stat().st_mtime_ns == made
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_fast_format_is_served_as_it_is(copy: Path, tmp_path: Path) -> None:
    assert fast_copy(copy, tmp_path / "cache", threads=2) == copy
    assert not (tmp_path / "cache").exists()


def test_without_room_for_a_copy_the_file_itself_is_served(gguf: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file where the folder should be")
    assert fast_copy(gguf, blocked, threads=2) == gguf
