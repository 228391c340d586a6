"""Bytes of tokens to text that may be shown."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.engine.text import TextStream

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
CUTS = st.lists(st.integers(0, 300), max_size=20)
# Few letters and much repetition: stop strings that begin inside each other, and in themselves.
AB = st.text("abé", max_size=40)
STOPS = st.lists(st.text("abé", min_size=1, max_size=5), max_size=4)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def shown(parts: list[bytes], stop: list[str] | None = None) -> list[str]:
    """What is handed out after each part, and at the end."""
    stream = TextStream(stop or [])
    return [*(stream.push(part) for part in parts), stream.finish()]


@settings(deadline=None)
@given(text=TEXT, cuts=CUTS)
def test_any_split_of_any_text_gives_the_text_back(text: str, cuts: list[int]) -> None:
    pieces = shown(split(text.encode(), cuts))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces if "\ufffd" not in text)


@settings(deadline=None)
@given(text=TEXT, cuts=CUTS)
def test_without_stop_strings_nothing_whole_is_held_back(text: str, cuts: list[int]) -> None:
    stream, sent, seen = TextStream(), b"", ""
    for part in split(text.encode(), cuts):
        sent += part
        seen += stream.push(part)
        assert seen == sent.decode("utf-8", "ignore")


@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8", min_codepoint=128), min_size=1, max_size=5), cuts=CUTS)
def test_half_a_character_at_the_end_is_dropped(text: str, cuts: list[int]) -> None:
    data = text.encode()[:-1]
    assert "".join(shown(split(data, cuts))) == text[:-1]


@settings(deadline=None)
@given(data=st.binary(max_size=60), cuts=CUTS)
def test_bytes_that_are_no_text_break_nothing(data: bytes, cuts: list[int]) -> None:
    """A model can sample any byte token. What cannot be read is marked, and never depends on how it was cut."""
    whole = "".join(shown([data]))
    assert "".join(shown(split(data, cuts))) == whole
    assert data.decode("utf-8", "replace").startswith(whole)


@settings(deadline=None, max_examples=400)
@given(text=AB, cuts=CUTS, stop=STOPS)
def test_text_ends_where_the_first_stop_string_begins(text: str, cuts: list[int], stop: list[str]) -> None:
    stream, seen = TextStream(stop), ""
    data = text.encode()
    for end, part in zip([*sorted(min(c, len(data)) for c in cuts), len(data)], split(data, cuts), strict=True):
        seen += stream.push(part)
        arrived = data[:end].decode("utf-8", "ignore")
        places = [arrived.index(s) for s in stop if s in arrived]
        assert stream.stopped == bool(places)
        if places:  # no part of it is shown, and all before it
            assert seen == arrived[: min(places)]
            assert stream.push(b"more") == stream.finish() == ""
            return
        kept = arrived.removeprefix(seen)
        assert seen + kept == arrived
        assert not kept or any(s.startswith(kept) for s in stop), "nothing else is held back"
    assert seen + stream.finish() == text


@pytest.mark.parametrize(
    ("parts", "stop", "pieces"),
    [
        (["Hello", " world"], ["STOP"], ["Hello", " world", ""]),
        (["Hello ST", "OP more", "!"], ["STOP"], ["Hello ", "", "", ""]),
        (["Hello ST", "AR"], ["STOP"], ["Hello ", "STAR", ""]),
        (["Hello ST"], ["STOP"], ["Hello ", "ST"]),  # it did not come: what was held back belongs to the answer
        (["a\n", "\nb"], ["\n\n"], ["a", "", ""]),
        (["xaab"], ["aaab", "ab"], ["xa", ""]),  # the one that appears ends it, though another began before
        (["one two"], ["two", "one"], ["", ""]),
        (["end", "e"], ["e", "ende"], ["", "", ""]),
    ],
)
def test_stop_strings_by_example(parts: list[str], stop: list[str], pieces: list[str]) -> None:
    assert shown([part.encode() for part in parts], stop) == pieces


def test_a_stop_string_of_characters_in_pieces() -> None:
    stream = TextStream(["🙂"])
    assert [stream.push(bytes([byte])) for byte in "ok🙂!".encode()] == ["o", "k", *[""] * 5]
    assert stream.stopped
    assert stream.finish() == ""
