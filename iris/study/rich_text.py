"""Markdown with formulas between dollar signs, taken apart: what is text, what is formula, what is code."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from markdown_it import MarkdownIt

Kind = Literal["text", "inline", "display"]

# Code first, so that a dollar sign in it stays one. Between single dollars, pandoc's rule: no space inside the signs
# and no digit behind the second, so that "$5 and $10" is money.
_PIECES = re.compile(
    r"(?P<code>^(?P<fence>`{3,}|~{3,}).*?(?:^(?P=fence)|\Z)|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|\\(?P<escaped>\$)"
    r"|\$\$(?P<display>.+?)\$\$"
    r"|\\\[(?P<bracket>.+?)\\\]"
    r"|\\\((?P<paren>.+?)\\\)"
    r"|\$(?P<inline>(?=\S)[^$\n]*?[^\s\\$])\$(?!\d)",
    re.DOTALL | re.MULTILINE,
)
# Stands for a formula while the text around it is rendered: private characters, which no renderer touches.
_OPEN, _CLOSE = "\ue000", "\ue001"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text; a formula is without its dollar signs."""

    kind: Kind
    text: str


def pieces(text: str) -> Iterator[Piece]:
    """The text and its formulas in order. Code, with its backticks, is text."""
    plain: list[str] = []
    end = 0
    for match in _PIECES.finditer(text):
        plain.append(text[end : match.start()])
        end = match.end()
        display = match["display"] or match["bracket"]
        inline = match["inline"] or match["paren"]
        if display or inline:
            if "".join(plain):
                yield Piece("text", "".join(plain))
            plain = []
            yield Piece("display", display.strip()) if display else Piece("inline", inline.strip())
        else:
            plain.append(match[0])
    plain.append(text[end:])
    if "".join(plain):
        yield Piece("text", "".join(plain))


def anki(text: str) -> str:
    r"""HTML as Anki shows it: Markdown rendered, HTML escaped, formulas as ``\(…\)`` and ``\[…\]``."""
    formulas: list[str] = []
    marked: list[str] = []
    for piece in pieces(text.replace(_OPEN, "").replace(_CLOSE, "")):
        if piece.kind == "text":
            marked.append(piece.text)
        else:
            left, right = (r"\[", r"\]") if piece.kind == "display" else (r"\(", r"\)")
            marked.append(f"{_OPEN}{len(formulas)}{_CLOSE}")
            formulas.append(f"{left}{html.escape(piece.text, quote=False)}{right}")
    rendered: str = _markdown().render("".join(marked)).strip()
    rendered = re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda match: formulas[int(match[1])], rendered)
    one = re.fullmatch(r"<p>(.*)</p>", rendered, re.DOTALL)
    return one[1] if one and "<p>" not in one[1] else rendered


@cache
def _markdown() -> MarkdownIt:
    # Raw HTML is shown as it was typed; a picture or link of a model's answer is not fetched by Anki either.
    return (
        MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable(["image", "link", "autolink"])
    )
