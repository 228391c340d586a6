"""Token counts: as fast as remembered words, and exactly those of llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris import courses
from iris.engine.tokenizer import Tokenizer, embedded_gguf
from iris.errors import ModelFileError
from tests.unit.test_gguf_file import tiny

TOKENIZER = Tokenizer()
# Where words begin and end is where counts could go wrong: spaces, punctuation, digits, line ends, other alphabets.
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u200b"]
SIGNS = [".", ",", "...", "'s", "’", "(", ")", "_", "-", "–", "<|im_end|>", "$\\frac{a}{b}$", "🙂", "3", "1978", "0.5"]
PIECES = st.sampled_from([*SPACES, *SIGNS, "a", "The", "gradient", "Überanpassung", "學習", "e.g."])
TEXT = st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text(max_size=80))


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=6))
def test_counts_are_those_of_llama_cpp(texts: list[str]) -> None:
    assert TOKENIZER.count_many(texts) == [TOKENIZER._exact(text) for text in texts]


def test_counts_of_real_text() -> None:
    course = courses.find("id2223")
    texts = [*(note.text for note in course.notes), *(question.answer for question in course.questions)]
    fresh = Tokenizer()
    counts = fresh.count_many(texts)
    assert counts == [TOKENIZER._exact(text) for text in texts]
    assert counts == fresh.count_many(texts), "the second time from memory"
    assert 80 < sum(counts) / len(counts) < 300
    fresh.close()
    fresh.close()


def test_a_word_costs_what_it_costs_alone() -> None:
    assert TOKENIZER.count("") == 0
    assert TOKENIZER.count("Hello world") == 2
    assert TOKENIZER.count("<|im_end|>") > 1, "a control token in a text is text"
    assert TOKENIZER.count("x" * 10_000) == TOKENIZER._exact("x" * 10_000)


def test_the_embedded_file_is_found(gguf: Path) -> None:
    assert embedded_gguf() == gguf
    assert TOKENIZER.name == gguf.name


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.gguf cannot be read"):
        Tokenizer(tmp_path / "nothing.gguf")
    (tmp_path / "bare.gguf").write_bytes(tiny("llama"))
    with pytest.raises(ModelFileError, match=r"bare\.gguf has no vocabulary"):
        Tokenizer(tmp_path / "bare.gguf")
