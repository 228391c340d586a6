"""Where the sentences of a text are: of a note, and of an answer that is still being written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ABBREVIATIONS = (
    "e.g i.e etc vs cf fig eq eqs sec ch no approx resp al dr prof mr mrs ms st bzw z.b d.h usw ca vgl t.ex bl.a dvs vb"
)
_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s|$)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)]|\(?[a-z]\)|#{1,6}|>|\|)\s")
_MATH = re.compile(r"\$\$.+?\$\$|\$[^$\n]+?\$|\\\[.+?\\\]|\\\(.+?\\\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sentence:
    """Characters ``start`` to ``end`` of a text; ``prose`` is False for headings, tables and code."""

    start: int
    end: int
    prose: bool = True


def sentences(text: str) -> tuple[Sentence, ...]:
    """The sentences in order; white space between them belongs to none."""
    return tuple(part for block in _blocks(text) for part in (_split(text, block) if block.prose else [block]))


def _blocks(text: str) -> Iterator[Sentence]:
    """Paragraphs, list items, headings, table rows and code blocks. A display formula may run over lines."""
    math = [match.span() for match in _MATH.finditer(text) if "\n" in match[0]]
    start, at, fence, prose = 0, 0, "", True

    def block(end: int) -> Iterator[Sentence]:
        body = text[start:end]
        if body.strip():
            left = start + len(body) - len(body.lstrip())
            yield Sentence(left, start + len(body.rstrip()), prose)

    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip("`~"):
                yield from block(at + len(line))
                start, fence, prose = at + len(line), "", True
        elif mark:
            yield from block(at)
            start, fence, prose = at, mark[1], False
        elif not any(left < at < right for left, right in math):
            item = _ITEM.match(line)
            if item or not line.strip() or not prose:
                yield from block(at)
                start = at
            prose = not (item and item[0].strip()[:1] in ("#", "|"))
        at += len(line)
    yield from block(len(text))


def _split(text: str, block: Sentence) -> Iterator[Sentence]:
    math = [match.span() for match in _MATH.finditer(text, block.start, block.end)]
    start = block.start
    item = _ITEM.match(text, start, block.end)
    search = item.end() if item else start
    for match in _END.finditer(text, search, block.end):
        if any(left < match.start() < right for left, right in math):
            continue
        if match[0].startswith(".") and _abbreviates(text[start : match.start()]):
            continue
        after = text[match.end() : block.end].lstrip()
        if after and (after[0].islower() or after[0] in ",;:)"):
            continue
        yield Sentence(start, match.end())
        start = match.end() + len(text[match.end() : block.end]) - len(after)
    if text[start : block.end].strip():
        yield Sentence(start, block.end)


def _abbreviates(before: str) -> bool:
    word = re.split(r"[\s(\[\"]", before)[-1].lower()
    return word in _ABBREVIATIONS.split() or (len(word) == 1 and word.isalpha())
