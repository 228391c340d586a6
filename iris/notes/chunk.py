"""Cuts documents into passages: by headings and pages first, then by paragraphs, sentences, words.

The pieces of a page follow each other without a gap, so that nothing is lost and a passage can be shown in its place.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from iris.notes import Document, Piece
from iris.notes.sentences import sentences

LONGEST = 1_200
"""Characters of a passage at most, about 300 tokens: one thought with its formula."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SPACE = re.compile(r"\s+")


def pieces(document: Document) -> tuple[Piece, ...]:
    """The pieces of all pages that carry text. Those of a page, joined, are the page."""
    found: list[Piece] = []
    for number, text in enumerate(document.pages):
        if not text.strip():
            continue
        heading = document.headings[number] if number < len(document.headings) else ""
        parts = _sections(text) if document.kind == "markdown" else iter([(0, len(text), heading)])
        for start, end, name in parts:
            found += (Piece(number, left, right, name) for left, right in _cut(text, start, end))
    return tuple(found)


def _sections(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, heading) of the parts under each heading; a heading without a text goes with the next."""
    start, at, heading, fence, empty = 0, 0, "", "", True
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and (not fence or (mark[1].startswith(fence) and not line.strip().strip("`~"))):
            fence = "" if fence else mark[1]
        title = None if fence else _HEADING.match(line)
        if title:
            if not empty:
                yield start, at, heading
                start, empty = at, True
            heading = title[2]
        elif line.strip():
            empty = False
        at += len(line) + 1
    yield start, len(text), heading


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Parts of about the same length, none over ``LONGEST``, cut where it hurts least."""
    if end - start <= LONGEST:
        yield start, end
        return
    body = text[start:end]
    paragraphs = [start + match.end() for match in _PARAGRAPH.finditer(body)]
    ends = [start + part.start for part in sentences(body)]
    spaces = [start + match.end() for match in _SPACE.finditer(body)]
    while end - start > LONGEST:
        aim = start + math.ceil((end - start) / math.ceil((end - start) / LONGEST))
        cut = min(start + LONGEST, end)
        for choices, least in ((paragraphs, 0.5), (ends, 0.3), (spaces, 0.0)):
            low = start + max(1, int((aim - start) * least))
            near = choices[bisect_left(choices, low) : bisect_right(choices, start + LONGEST)]
            if near:
                cut = min(near, key=lambda place: abs(place - aim))
                break
        yield start, cut
        start = cut
    if start < end:
        yield start, end
