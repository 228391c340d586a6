"""A cheat sheet as a PDF of one A4 page in two columns; formulas are drawn as outlines, so they are sharp at any size.

fpdf2 writes the file, ziamath sets the formulas; both are imported when the first page is made, not with the app.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from iris.tools.cheat_sheet import OWN_MARK, OWN_NOTE, PARTS, Line, Sheet

# fpdf2 writes a line for each glyph that the font lacks and for each table of the font that it leaves out.
for _name in ("fpdf", "fontTools"):
    logging.getLogger(_name).setLevel(logging.ERROR)

MARGIN, GAP = 32.0, 18.0
WIDTH, HEIGHT = 595.28, 841.89
"""A4, in points."""
COLUMN = (WIDTH - 2 * MARGIN - GAP) / 2
SIZES = (12.0, 11.5, 11.0, 10.5, 10.0, 9.5, 9.0, 8.5, 8.0, 7.5, 7.0, 6.5, 6.0, 5.5)
"""Sizes of type, in points; the largest at which the page holds everything is taken."""
INK, ACCENT, SOFT = (35, 29, 48), (77, 54, 173), (98, 90, 114)


@dataclass(frozen=True, slots=True)
class _Formula:
    """A formula set at some size: its SVG, and how far it reaches from the baseline, in points."""

    svg: bytes
    width: float
    above: float
    below: float


@dataclass(frozen=True, slots=True)
class _Word:
    """A word or formula of a line. ``glued``: no space before it."""

    content: str | _Formula
    width: float
    bold: bool
    glued: bool


@dataclass(frozen=True, slots=True)
class _Box:
    """A piece of a column that is not divided. ``draw`` is called with the left edge and the top."""

    height: float
    draw: Callable[[float, float], None]
    keep: bool = False
    """Not to stand last in a column: a heading."""


def pdf(sheet: Sheet) -> bytes:
    """The page as a PDF file.

    What would not fit even in the smallest type is left out from the end, and the last line says so; with the budget
    of ``cheat_sheet`` that does not happen.
    """
    for size in SIZES:
        page = _Page(sheet, size)
        columns = page.columns()
        if len(columns) <= 2:
            break
    return page.render(columns[:2], cut=len(columns) > 2)


class _Page:
    def __init__(self, sheet: Sheet, size: float) -> None:
        from fpdf import FPDF

        self._size = size
        self._leading = 1.32 * size
        self._sheet = sheet
        self._pdf: Any = FPDF(unit="pt", format="A4")
        self._pdf.set_auto_page_break(False)
        self._pdf.set_title(sheet.title)
        self._pdf.set_creator("Iris")
        self._pdf.add_font("body", fname=str(files("ziafont") / "fonts" / "DejaVuSans.ttf"))
        self._pdf.add_page()
        self._pdf.set_font("body", size=size)
        self._top = MARGIN + 26

    def columns(self) -> list[list[_Box]]:
        """The page's boxes in columns: two of the same height if they hold everything, else as many as it takes."""
        boxes = list(self._boxes())
        room = HEIGHT - MARGIN - self._top - self._leading  # the foot has a line
        height = sum(box.height for box in boxes) / 2
        while height < room and len(self._filled(boxes, height)) > 2:
            height += self._leading
        return self._filled(boxes, min(height, room))

    def _filled(self, boxes: list[_Box], room: float) -> list[list[_Box]]:
        columns: list[list[_Box]] = [[]]
        used = 0.0
        for place, box in enumerate(boxes):
            following = boxes[place + 1].height if box.keep and place + 1 < len(boxes) else 0.0
            if used + box.height + following > room and columns[-1]:
                columns.append([])
                used = 0.0
            columns[-1].append(box)
            used += box.height
        return columns

    def render(self, columns: list[list[_Box]], *, cut: bool) -> bytes:
        pdf = self._pdf
        pdf.set_font("body", size=15)
        pdf.set_text_color(*ACCENT)
        title = self._sheet.title
        while len(title) > 10 and pdf.get_string_width(title) > WIDTH - 2 * MARGIN:
            title = title[:-4].rstrip() + " …"
        self._text(MARGIN, MARGIN + 13, title, bold=True)
        pdf.set_draw_color(*ACCENT)
        pdf.set_line_width(0.8)
        pdf.line(MARGIN, MARGIN + 19, WIDTH - MARGIN, MARGIN + 19)
        for number, boxes in enumerate(columns):
            y = self._top
            for box in boxes:
                box.draw(MARGIN + number * (COLUMN + GAP), y)
                y += box.height
        pdf.set_font("body", size=6)
        pdf.set_text_color(*SOFT)
        foot = f"Iris. Word for word from the notes, save lines marked {OWN_MARK}."
        self._text(MARGIN, HEIGHT - MARGIN + 6, foot + (" Not everything fitted on this page." if cut else ""))
        return bytes(pdf.output())

    def _boxes(self) -> Iterator[_Box]:
        for part, heading in PARTS:
            lines = self._sheet.of(part)
            if not lines:
                continue
            yield self._heading(heading)
            if part == "own":
                yield from self._paragraph(OWN_NOTE, 0, COLUMN)
            if part == "result":
                yield from (self._row(line) for line in lines)
                yield _Box(0.4 * self._size, lambda x, y: None)
                continue
            for line in lines:
                if part == "formula":
                    *words, last = self._paragraph(f"**{line.title}**", 0, COLUMN)
                    yield from words
                    yield _Box(last.height, last.draw, keep=True)
                    yield self._display(line.text)
                else:
                    mark = f"{OWN_MARK} " if line.own else ""
                    yield from self._paragraph(f"{mark}**{line.title}.** {line.text}", 0, COLUMN)
                    yield _Box(0.35 * self._size, lambda x, y: None)

    def _heading(self, text: str) -> _Box:
        size = 1.2 * self._size

        def draw(x: float, y: float) -> None:
            self._pdf.set_font("body", size=size)
            self._pdf.set_text_color(*ACCENT)
            self._text(x, y + 1.35 * size, text, bold=True)

        return _Box(1.85 * size, draw, keep=True)

    def _display(self, text: str) -> _Box:
        formula = self._formula(text.strip("$").strip(), self._size * 1.05, False)
        # A wide one is made narrower rather than cut.
        scale = min(1.0, COLUMN / formula.width) if formula.width else 1.0
        height = (formula.above + formula.below) * scale

        def draw(x: float, y: float) -> None:
            self._draw(formula, x + (COLUMN - formula.width * scale) / 2, y + 0.15 * self._size, scale)

        return _Box(height + 0.7 * self._size, draw)

    def _row(self, line: Line) -> _Box:
        """A row of the table: topic on the left, text on the right, a rule above."""
        pad, left = 0.3 * self._size, COLUMN * 0.28
        names = list(self._paragraph(f"**{line.title}**", 0, left - pad))
        texts = list(self._paragraph(line.text, left, COLUMN))
        height = max(sum(box.height for box in names), sum(box.height for box in texts))

        def draw(x: float, y: float) -> None:
            self._pdf.set_draw_color(*SOFT)
            self._pdf.set_line_width(0.3)
            self._pdf.line(x, y, x + COLUMN, y)
            for boxes in (names, texts):
                top = y + pad
                for box in boxes:
                    box.draw(x, top)
                    top += box.height

        return _Box(height + 2 * pad, draw)

    def _paragraph(self, text: str, left: float, right: float) -> Iterator[_Box]:
        """A box for each line of a text between two edges of the column."""
        space = self._width(" ", bold=False)
        line: list[tuple[float, _Word]] = []
        at = left
        for word in self._words(text, right - left):
            gap = 0.0 if word.glued or not line else space
            if line and not word.glued and at + gap + word.width > right:
                yield self._line(line)
                line, at, gap = [], left, 0.0
            line.append((at + gap, word))
            at += gap + word.width
        if line:
            yield self._line(line)

    def _line(self, words: list[tuple[float, _Word]]) -> _Box:
        formulas = [word.content for _, word in words if isinstance(word.content, _Formula)]
        above = max([0.95 * self._size, *(formula.above + 1 for formula in formulas)])
        below = max([self._leading - 0.95 * self._size, *(formula.below + 1 for formula in formulas)])

        def draw(x: float, y: float) -> None:
            for at, word in words:
                if isinstance(word.content, _Formula):
                    self._draw(word.content, x + at, y + above - word.content.above, 1.0)
                else:
                    self._pdf.set_font("body", size=self._size)
                    self._pdf.set_text_color(*INK)
                    self._text(x + at, y + above, word.content, bold=word.bold)

        return _Box(above + below, draw)

    def _words(self, text: str, widest: float) -> Iterator[_Word]:
        bold = False
        glued = True
        for piece in re.findall(r"\*\*|`[^`]*`|\$[^$]+\$|\s+|[^\s$*`]+|[$*`]", " ".join(text.split())):
            if piece == "**":
                bold = not bold
            elif piece.isspace():
                glued = False
            elif len(piece) > 2 and piece[0] == piece[-1] == "$":
                formula = self._formula(piece[1:-1], self._size, True)
                yield _Word(formula, formula.width, bold, glued)
                glued = True
            else:
                content = piece.strip("`") if len(piece) > 1 else piece
                for part in self._pieces(content, widest, bold):
                    yield _Word(part, self._width(part, bold=bold), bold, glued)
                    glued = True

    def _pieces(self, word: str, widest: float, bold: bool) -> Iterator[str]:
        """A word that is wider than the column, cut into parts that are not."""
        while len(word) > 1 and self._width(word, bold=bold) > widest:
            length = max(1, int(len(word) * widest / self._width(word, bold=bold)))
            yield word[:length]
            word = word[length:]
        yield word

    def _formula(self, latex: str, size: float, inline: bool) -> _Formula:
        return _set(latex, size, inline) or _Formula(b"", 0.0, 0.0, 0.0)

    def _draw(self, formula: _Formula, x: float, y: float, scale: float) -> None:
        if formula.svg:
            width, height = formula.width * scale, (formula.above + formula.below) * scale
            self._pdf.image(io.BytesIO(formula.svg), x=x, y=y, w=width, h=height)

    def _width(self, text: str, *, bold: bool) -> float:
        self._pdf.set_font("body", size=self._size)
        width: float = self._pdf.get_string_width(text)
        return width + (0.04 * self._size if bold else 0.0)

    def _text(self, x: float, y: float, text: str, *, bold: bool = False) -> None:
        from fpdf.enums import TextMode

        if not bold:
            self._pdf.text(x, y, text)
            return
        # The font has one weight; an outline of its own colour makes it heavier.
        with self._pdf.local_context(text_mode=TextMode.FILL_STROKE, line_width=0.035 * self._size):
            self._pdf.set_draw_color(self._pdf.text_color)
            self._pdf.text(x, y, text)


@lru_cache(maxsize=1024)
def _set(latex: str, size: float, inline: bool) -> _Formula | None:
    """A formula as SVG; one that cannot be read as LaTeX is set as it is written."""
    import ziamath

    ziamath.config.svg2 = False  # outlines, no references: what fpdf2 draws
    try:
        svg = ziamath.Latex(latex, size=size, inline=inline).svg()
    except Exception:  # whatever a parser makes of broken LaTeX
        try:
            svg = ziamath.Text(latex, size=size).svg()
        except Exception:
            return None
    box = re.search(r'viewBox="([-\d.e]+) ([-\d.e]+) ([-\d.e]+) ([-\d.e]+)"', svg)
    if not box:
        return None
    _, top, width, height = map(float, box.groups())
    return _Formula(svg.encode(), width, -top, height + top)
