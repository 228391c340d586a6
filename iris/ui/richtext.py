"""Markdown with LaTeX as HTML that is safe whatever the text: tags are shown as they are written, formulas are MathML.

For texts from courses, notes, students and models that stand in a page of ours. MathML needs no script, and screen
readers read it.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from xml.etree import ElementTree

from markdown_it import MarkdownIt

_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False, "breaks": False}).enable("table").disable(["image", "link", "autolink"])
)

# Code first, so that a dollar sign in it stays one. Between single dollars no space stands inside and no digit behind,
# so that "$5 and $10" is money.
_PARTS = re.compile(
    r"(?P<code>^ {0,3}(?P<fence>`{3,}|~{3,}).*?(?:^ {0,3}(?P=fence)[`~]*\s*$|\Z)"
    r"|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|\$\$(?P<display>.+?)\$\$|\\\[(?P<bracket>.+?)\\\]|\\\((?P<round>.+?)\\\)"
    r"|(?<!\\)\$(?P<inline>(?=\S)[^$\n]*?[^\s\\$])\$(?!\d)",
    re.S | re.M,
)
# Stands for a formula while the text around it is rendered; a private character, taken out of the text before.
_MARK = "\ue000"

_TAGS = """
math mrow mi mo mn mtext mspace ms msup msub msubsup munder mover munderover mmultiscripts mprescripts none mfrac msqrt
mroot mtable mtr mtd mstyle mpadded mphantom menclose merror semantics
"""
_ATTRIBUTES = """
display mathvariant stretchy fence form separator accent accentunder movablelimits largeop symmetric lspace rspace
minsize maxsize linethickness columnalign rowalign columnlines rowlines columnspacing rowspacing displaystyle
scriptlevel width height depth voffset notation mathsize
"""
_ALLOWED_TAGS, _ALLOWED_ATTRIBUTES = frozenset(_TAGS.split()), frozenset(_ATTRIBUTES.split())
_NAMESPACE = "http://www.w3.org/1998/Math/MathML"
# Names of operators that the converter does not know.
_NAMES = re.compile(r"\\(arg|plim|sgn|softmax|argmin|argmax)(?![a-zA-Z])")
MAX_FORMULA = 2000
"""Characters of a formula that is set; a longer one is shown as it is written."""


@lru_cache(maxsize=1024)
def to_html(text: str) -> str:
    """Blocks of HTML for a Markdown text with LaTeX between dollar signs."""
    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        display = match["display"] or match["bracket"]
        formulas.append(math(display or match["inline"] or match["round"], display=bool(display)))
        return f"{_MARK}{len(formulas) - 1}{_MARK}"

    shown: str = _MARKDOWN.render(_PARTS.sub(keep, text.replace(_MARK, "")))
    return re.sub(rf"{_MARK}(\d+){_MARK}", lambda match: formulas[int(match[1])], shown)


def inline(text: str) -> str:
    """HTML for one line of such a text, without a block around it."""
    shown = to_html(" ".join(text.split())).strip()
    inner = re.fullmatch(r"<p>(.*)</p>", shown, re.S)
    return inner[1] if inner and "<p>" not in inner[1] else html.escape(text)


@lru_cache(maxsize=4096)
def math(latex: str, *, display: bool = False) -> str:
    """A formula as MathML; one that cannot be read as LaTeX is shown as it is written."""
    from latex2mathml.converter import convert

    source = latex.strip()
    as_written = f"<code>{html.escape(source)}</code>"
    if len(source) > MAX_FORMULA:
        return as_written
    try:
        found = convert(
            _NAMES.sub(r"\\operatorname{\1}", source).replace("<", r"\lt ").replace(">", r"\gt "),
            display="block" if display else "inline",
        )
        root = ElementTree.fromstring(re.sub(r"&(?!#?\w+;)", "&amp;", found))
    except Exception:  # whatever a parser makes of broken LaTeX
        return as_written
    # The converter copies text and links as they are: what is not MathML does not get into the page.
    for node in root.iter():
        name = node.tag.removeprefix(f"{{{_NAMESPACE}}}")
        if name not in _ALLOWED_TAGS:
            return as_written
        node.tag = name
        node.attrib = {key: value for key, value in node.attrib.items() if key in _ALLOWED_ATTRIBUTES}
    root.set("alttext", source)
    return ElementTree.tostring(root, encoding="unicode")
