"""Text of courses, students and models in the page: formulas are set, tags are only text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris import courses
from iris.ui import richtext

_TAGS = """
p em strong code pre ul ol li blockquote h1 h2 h3 h4 h5 h6 hr br table thead tbody tr th td
math mrow mi mo mn mtext mspace ms msup msub msubsup munder mover munderover mfrac msqrt mroot mtable mtr mtd mstyle
mpadded mphantom menclose merror semantics mmultiscripts mprescripts none
"""
ALLOWED = set(_TAGS.split())
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\style{position:fixed}{x}$",
    "[x](javascript:alert(1))",
    "![x](http://elsewhere.example/x.png)",
    "`<b>`",
    "| <b>a</b> | $x$ |\n|---|---|\n| <i>1</i> | 2 |",
    "\ue0000\ue000 $x$ \ue0007\ue000",
)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def harmless(shown: str) -> bool:
    found = Tags(shown)
    bad = {name for name in found.attributes if name.startswith("on") or name in ("href", "src", "style")}
    return found.tags <= ALLOWED and bad <= {"style"}  # Markdown aligns cells by a style of its own


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_hostile_is_shown_as_text(text: str) -> None:
    assert harmless(richtext.to_html(text))
    assert harmless(richtext.inline(text))


@given(
    st.lists(st.sampled_from([*HOSTILE, "$", "$$", "\\(", "`", "```\n", "\n\n", "a < b", "& ", "\\frac{"]), max_size=8)
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_no_mixture_of_it_gets_through(parts: list[str]) -> None:
    assert harmless(richtext.to_html("".join(parts)))
    assert harmless(richtext.inline("".join(parts)))


def test_every_formula_of_the_course_is_set() -> None:
    course = courses.load(courses.folders()[1] / "id2223")
    for note in course.notes:
        shown = richtext.to_html(note.text)
        assert not re.search(r"\$(?!\d)", shown), note.topic  # what is left is money
        assert shown.count("<math") == shown.count("</math>") > 0


def test_money_is_no_formula_and_code_stays_code() -> None:
    assert "<math" not in richtext.to_html("It costs $5 and $10, and `a $x$ b` is code.")
    assert richtext.math("\\frac{") == "<code>\\frac{</code>"
