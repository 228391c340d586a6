"""The Notes tab: a student's files beside the course's notes, searched together."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from iris.courses import Course
from iris.errors import IrisError
from iris.notes import Passage, ingest, library
from iris.notes.cite import Span
from iris.notes.library import OwnNote, Scope
from iris.notes.search import search
from iris.ui import passages, student
from iris.ui.page import Page
from iris.ui.strings import say, t

log = logging.getLogger(__name__)

READERS = 2
"""Files read at the same time, of all students; others wait in line."""

HITS = 8

# What a student does with the list, as events: a tick, or a click on Delete that was confirmed.
_LIST = """
element.addEventListener("change", (event) => {
  const ticked = [...element.querySelectorAll("input[type=checkbox]:checked")].map((box) => Number(box.value));
  if (event.target.matches("input[type=checkbox]")) trigger("select", {ticked});
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-note]");
  if (button && window.confirm(button.dataset.sure)) trigger("delete", {note: Number(button.dataset.note)});
});
"""


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    for course in page.courses.values():
        library.sync(page.store, course)
    tab = _Tab(page)
    with gr.Column(elem_id="iris-notes"):
        gr.Markdown(t("notes.intro"), elem_id="iris-notes-intro")
        files = gr.File(
            label=t("notes.add"),
            file_count="multiple",
            file_types=list(ingest.SUFFIXES),
            elem_id="iris-notes-files",
            height=130,
        )
        with gr.Row(elem_id="iris-notes-foot"):
            status = gr.HTML("", elem_id="iris-notes-status", elem_classes="iris-line", js_on_load=_STATUS)
            gr.Markdown(t("notes.too_large"), elem_id="iris-notes-too-large", elem_classes="iris-line")
            stop = gr.Button(t("notes.stop"), size="sm", visible=False, elem_id="iris-notes-stop", scale=0)
        own = gr.HTML("", elem_id="iris-notes-own", js_on_load=_LIST)
        with gr.Row(elem_id="iris-notes-search"):
            query = gr.Textbox(label=t("notes.search"), placeholder=t("notes.search_for"), max_lines=1, scale=4)
            seek = gr.Button(t("notes.seek"), scale=0, min_width=110)
        found = gr.HTML("", elem_id="iris-notes-found", js_on_load=None)
        passages.viewer(page, "notes")
        shared = gr.HTML("", elem_id="iris-notes-course", js_on_load=None)

    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    who = [page.course, page.student]
    reading = files.upload(
        tab.add,
        [files, *who],
        [files, own, status, stop],
        concurrency_limit=READERS,
        concurrency_id="notes",
        **quick,
    )
    # Two steps: what was said of the progress must not arrive after the end.
    stopping = stop.click(None, cancels=reading, queue=False, **quick)
    stopping.then(tab.stopped, who, [files, own, status, stop], queue=False, **quick)
    own.select(tab.choose, who, status, queue=False, **quick)
    own.delete(tab.delete, who, [own, status], queue=False, **quick)
    gr.on([query.submit, seek.click], tab.search, [query, *who], found, queue=False, **quick)
    for event in (page.app.load, page.course.change):
        event(tab.lists, who, [own, shared], queue=False, **quick)
    page.student.change(tab.lists, who, [own, shared], queue=False, **quick)


# Gradio's box says no more than "Error" of a file over the limit, so such files never reach it.
_STATUS = f"""
element.setAttribute("role", "status");
element.setAttribute("aria-live", "polite");
const refuse = (event) => {{
  if (!event.target.closest?.("#iris-notes-files")) return;
  const files = event.target.files ?? event.dataTransfer?.files ?? [];
  const large = [...files].some((file) => file.size > {ingest.MAX_BYTES});
  document.getElementById("iris-notes-too-large").classList.toggle("told", large);
  if (!large) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (event.target.files) event.target.value = "";
}};
document.addEventListener("change", refuse, true);
document.addEventListener("drop", refuse, true);
"""


class _Tab:
    """The tab's handlers."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def _who(self, seat: object, request: gr.Request) -> str:
        try:
            return self._page.who(seat, request)
        except IrisError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def add(
        self, files: list[str] | None, course: str | None, seat: object, request: gr.Request
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Read files and keep them; yields (file box, list, status line, stop button)."""
        who = self._who(seat, request)
        lines: list[str] = []
        same, box = gr.skip(), gr.File(interactive=False)
        for path in map(Path, files or []):
            name = html.escape(ingest.tidy_name(path.name))
            try:
                reading = ingest.read(path)
                shown = -1
                while True:
                    try:
                        done, pages = next(reading)
                    except StopIteration as ended:
                        document = ended.value
                        break
                    percent = 100 * done // max(1, pages)
                    if percent != shown and (percent >= shown + 2 or done in (0, pages)):
                        shown = percent
                        line = say("notes.reading", request, name=name, done=done, pages=pages)
                        yield box, same, _lines([*lines, _progress(line, percent)]), gr.Button(visible=True)
                        box = same
                library.add(self._page.store, who, course or "", document)
                key = "added_gaps" if document.kind == "pdf" and document.empty_pages else "added"
                lines.append(
                    _line(
                        say(f"notes.{key}", request, name=name, count=document.empty_pages, pages=len(document.pages))
                    )
                )
            except Exception as error:
                if not isinstance(error, IrisError):
                    log.exception("a file could not be added")
                problem = str(error) if isinstance(error, IrisError) else say("notes.crashed", request)
                lines.append(_line(html.escape(problem), "problem"))
            finally:
                with suppress(OSError):
                    path.unlink()  # the upload's own copy: what is kept of it is in the store
        yield (
            gr.File(value=None, interactive=True),
            self._own(who, course, request),
            _lines(lines),
            gr.Button(visible=False),
        )

    def stopped(self, course: str | None, seat: object, request: gr.Request) -> tuple[Any, Any, Any, Any]:
        who = self._who(seat, request)
        line = _line(html.escape(say("notes.stopped", request)))
        return (
            *(gr.File(value=None, interactive=True), self._own(who, course, request)),
            *(_lines([line]), gr.Button(visible=False)),
        )

    def choose(self, course: str | None, seat: object, event: gr.EventData, request: gr.Request) -> str:
        """Keep which notes are ticked."""
        ticked = [int(note) for note in getattr(event, "ticked", [])]
        library.choose(self._page.store, self._who(seat, request), course or "", ticked)
        return _lines([_line(html.escape(say("notes.chosen", request, count=len(ticked))))])

    def delete(self, course: str | None, seat: object, event: gr.EventData, request: gr.Request) -> tuple[Any, str]:
        who = self._who(seat, request)
        try:
            title = library.delete(self._page.store, who, int(getattr(event, "note", 0)))
            line = _line(html.escape(say("notes.deleted", request, name=title)))
        except IrisError as error:
            line = _line(html.escape(str(error)), "problem")
        return self._own(who, course, request), _lines([line])

    def search(self, query: str, course: str | None, seat: object, request: gr.Request) -> str:
        """The hits of a search over the course's notes and all of the student's."""
        who = self._who(seat, request)
        hits = search(self._page.store, query or "", Scope(course or "", who, everything=True), limit=HITS).hits
        if not hits:
            return f"<p>{html.escape(say('notes.nothing_found' if query else 'notes.search_for', request))}</p>"
        rows = []
        for hit in hits:
            address = html.escape(passages.link(hit.passage, hit.marks))
            before, snippet, after = _snippet(hit.passage.text, hit.marks)
            rows.append(
                f'<li><a href="{address}">{html.escape(hit.passage.label)}</a><p>{before}{snippet}{after}</p></li>'
            )
        return f"<ol>{''.join(rows)}</ol>"

    def lists(self, course: str | None, seat: object, request: gr.Request) -> tuple[str, str]:
        """The student's notes, and the course's."""
        known = self._page.courses.get(course or "")
        shared = _course_list(self._page, known, request) if known else ""
        if not (seat or student.signed_in(request)):
            return "", shared  # a browser that is just being given its id; see student.connect
        return self._own(self._who(seat, request), course, request), shared

    def _own(self, who: str, course: str | None, request: gr.Request) -> str:
        notes = library.own(self._page.store, who, course or "")
        head = f"<h2>{html.escape(say('notes.mine', request))}</h2>"
        if not notes:
            return f"{head}<p>{html.escape(say('notes.none_yet', request))}</p>"
        hint = html.escape(say("notes.ticked_are_used", request))
        firsts = library.first_passages(self._page.store, who, course or "")
        return f"{head}<p>{hint}</p><ul>{''.join(_row(note, firsts.get(note.id), request) for note in notes)}</ul>"


def _row(note: OwnNote, first: Passage | None, request: gr.Request) -> str:
    title = html.escape(note.title)
    size = say("notes.pages", request, count=note.pages) if note.pages else f"{note.characters:,}"
    size = size if note.pages else say("notes.characters", request, count=size)
    gaps = " · " + say("notes.gaps", request, count=note.empty_pages) if note.empty_pages else ""
    sure = html.escape(say("notes.sure", request, name=note.title))
    name = f'<a href="{html.escape(passages.link(first))}">{title}</a>' if first else title
    use = html.escape(say("notes.use", request, name=note.title))
    delete = html.escape(say("notes.delete", request))
    return (
        f'<li><input type="checkbox" value="{note.id}" aria-label="{use}"{" checked" if note.chosen else ""}>'
        f"<span>{name} <small>{html.escape(size + gaps)}</small></span>"
        f'<button type="button" data-note="{note.id}" data-sure="{sure}" aria-label="{delete}: {title}">{delete}'
        "</button></li>"
    )


def _course_list(page: Page, course: Course, request: gr.Request) -> str:
    firsts = library.course_passages(page.store, course.id)
    parts = []
    for chapter in course.chapters:
        notes = [firsts[topic.id] for topic in course.topics_of(chapter.id) if topic.id in firsts]
        links = [f'<li><a href="{passages.link(note)}">{html.escape(note.title)}</a></li>' for note in notes]
        if links:
            title = html.escape(chapter.title)
            parts.append(f"<details><summary>{title}</summary><ul>{''.join(links)}</ul></details>")
    return f"<h2>{html.escape(say('notes.of_course', request))}</h2>{''.join(parts)}" if parts else ""


def _snippet(body: str, marks: tuple[Span, ...], size: int = 260) -> tuple[str, str, str]:
    """About ``size`` characters of a text around its marked words, as HTML."""
    head = passages.after_heading(body)
    marks = tuple(span for span in marks if span[0] >= head)
    start = max(head, marks[0][0] - 60) if marks else head
    if start > head:
        start = body.find(" ", start) + 1 or start
    end = min(len(body), start + size)
    parts, at = [], start
    for left, right in marks:
        if left >= at and right <= end:
            parts += [html.escape(body[at:left]), f"<mark>{html.escape(body[left:right])}</mark>"]
            at = right
    parts.append(html.escape(body[at:end]))
    return "… " if start > head else "", "".join(parts), " …" if end < len(body) else ""


def _line(line: str, kind: str = "") -> str:
    return f'<p class="{kind}">{line}</p>'


def _progress(line: str, percent: int) -> str:
    return f'<p>{line}</p><progress max="100" value="{percent}" aria-label="{line}"></progress>'


def _lines(lines: list[str]) -> str:
    return "".join(lines)
