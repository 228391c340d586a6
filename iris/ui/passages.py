"""How passages of notes look in a page: numbers in an answer that open them, the passage itself with its words marked.

All of a note is text that anybody may have written, and is shown as text: what Markdown or HTML would make of it is
escaped. Formulas are the exception, they are rendered.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import gradio as gr

from iris.errors import IrisError, NoteError
from iris.notes import Owner, Passage, library
from iris.notes.cite import Span
from iris.ui.page import Page
from iris.ui.strings import say, t

MOST_MARKS = 60

LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]

_MATH = re.compile(r"\$\$.+?\$\$|\$(?=\S)[^$\n]*?[^\s$]\$", re.DOTALL)
_SPECIAL = re.compile(r"[\\`*_{}\[\]()#+\-.!|~$=>:^@]")
_HEADINGS = re.compile(r"(?:\s*#{1,6}[ \t][^\n]*\n)+\s*(?=\S)")
_LINK = re.compile(r"#note-(?P<owner>[cs])(?P<id>\d{1,15})(?:-(?P<marks>[\d._]*))?")
_OWNERS: dict[str, Owner] = {"c": "course", "s": "student"}

# Links to passages, wherever in the tab they are, open them in it. A click is caught before the browser follows it.
_LISTEN = """
const tab = () => element.closest(".tabitem") || document;
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href*='#note-']");
  if (!link || !tab().contains(link)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  trigger("click", {link: link.getAttribute("href")});
}, true);
"""
_SHOW = """
() => {
  const shown = [...document.querySelectorAll(".iris-passage")].find((one) => one.offsetParent);
  if (!shown) return;
  shown.setAttribute("role", "region");
  shown.setAttribute("aria-label", shown.querySelector("h3")?.innerText || "");
  shown.setAttribute("tabindex", "-1");
  shown.focus({preventScroll: true});
  shown.scrollIntoView({block: "nearest"});
  shown.querySelector("mark")?.scrollIntoView({block: "nearest"});
}
"""


def viewer(page: Page, name: str) -> None:
    """Where this tab shows a passage, empty until a link to one is followed. ``name`` makes its ids."""
    with gr.Column(visible=False, elem_id=f"iris-{name}-passage", elem_classes="iris-passage") as column:
        body = gr.Markdown("", latex_delimiters=LATEX, sanitize_html=True, line_breaks=True, container=False)
        close = gr.Button(t("notes.close"), size="sm", elem_classes="iris-close")
    listener = gr.HTML("", elem_id=f"iris-{name}-links", elem_classes="iris-links", js_on_load=_LISTEN)
    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def show(seat: object, event: gr.EventData, request: gr.Request) -> tuple[Any, str]:
        try:
            passage, marks = opened(page, str(getattr(event, "link", "")), page.who(seat, request))
        except IrisError as error:
            return gr.Column(visible=True), text(str(error))
        return gr.Column(visible=True), shown(page, passage, marks, request)

    listener.click(show, page.student, [column, body], queue=False, **quick).then(None, None, None, js=_SHOW, **quick)
    close.click(lambda: gr.Column(visible=False), None, column, queue=False, **quick)


def opened(page: Page, link: str, student: str) -> tuple[Passage, tuple[Span, ...]]:
    """The passage that a link names, and the spans to mark in it.

    Raises:
        NoteError: there is no such passage, or it is another student's.
    """
    match = _LINK.search(link)
    if not match:
        raise NoteError("This link leads to no passage.")
    passage = library.passage(page.store, _OWNERS[match["owner"]], int(match["id"]), student)
    spans = [tuple(map(int, part.split("."))) for part in re.findall(r"\d{1,9}\.\d{1,9}", match["marks"] or "")]
    return passage, tuple((start, end) for start, end in spans if start < end <= len(passage.text))


def shown(page: Page, passage: Passage, marks: Sequence[Span], request: gr.Request | None) -> str:
    """The passage as Markdown: where it is from, its text with the words marked, and the ways to its neighbours."""
    here = f"### {text(passage.label)}"
    head = after_heading(passage.text)
    body, marks = passage.text[head:], [(start - head, end - head) for start, end in marks if start >= head]
    kin = {one.number: one for one in library.around(page.store, passage)}
    ways = [
        f"[{text(say(f'notes.{key}', request))}]({link(kin[number])})"
        for key, number in (("previous", passage.number - 1), ("next", passage.number + 1))
        if number in kin
    ]
    return "\n\n".join(filter(None, [here, marked(body, marks), " · ".join(ways)]))


def after_heading(body: str) -> int:
    """Where the text of a passage begins that starts with Markdown headings: those are in its label."""
    match = _HEADINGS.match(body)
    return match.end() if match else 0


def link(passage: Passage, marks: Sequence[Span] = ()) -> str:
    """The address of a passage, with the words to mark."""
    spans = "_".join(f"{start}.{end}" for start, end in merged(passage.text, marks)[:MOST_MARKS])
    return f"#note-{passage.owner[0]}{passage.id}" + (f"-{spans}" if spans else "")


def merged(body: str, marks: Sequence[Span]) -> list[Span]:
    """Spans in order, neighbours with only white space between them joined."""
    found: list[Span] = []
    for start, end in sorted(marks):
        if found and not body[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def marked(body: str, marks: Sequence[Span]) -> str:
    """The text as Markdown that shows it to the letter, formulas rendered, with spans marked."""
    math = [match.span() for match in _MATH.finditer(body)]
    # A formula is marked as a whole or not at all.
    spans = []
    for start, end in merged(body, marks):
        for left, right in math:
            if start < right and end > left:
                start, end = min(start, left), max(end, right)
        spans.append((start, end))
    parts, at = [], 0
    for start, end in merged(body, spans):
        parts += [text(body[at:start]), "<mark>", text(body[start:end]), "</mark>"]
        at = end
    return "".join([*parts, text(body[at:])])


def text(body: str) -> str:
    """Any text as Markdown that shows it to the letter; formulas stay formulas."""
    parts, at = [], 0
    for match in _MATH.finditer(body):
        parts += [_escaped(body[at : match.start()]), _formula(match[0])]
        at = match.end()
    return "".join([*parts, _escaped(body[at:])])


def _escaped(body: str) -> str:
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", html.escape(body, quote=True))


def _formula(body: str) -> str:
    return body.replace("<", r"\lt ").replace(">", r"\gt ")
