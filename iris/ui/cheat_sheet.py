"""The Cheat Sheet tab, and its API endpoint ``/cheat_sheet``."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from iris.errors import IrisError, RequestError
from iris.tools import cheat_sheet as tool
from iris.tools import passages, sheet_pdf
from iris.tools.cheat_sheet import Sheet
from iris.ui import richtext, running, topics
from iris.ui.page import Page
from iris.ui.running import status as line
from iris.ui.strings import say, t

Update = tuple[Any, ...]


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    tab, place = _Tab(page), Context.block
    with gr.Column(elem_id="iris-sheet", elem_classes="iris-tool"):
        gr.Markdown(t("cheat_sheet.intro"))
        chosen = topics.chooser(next(iter(page.courses.values()), None), "iris-sheet-topics")
        own = gr.Checkbox(False, label=t("cheat_sheet.own"), elem_id="iris-sheet-own")
        with gr.Row(elem_classes="iris-actions"):
            make = gr.Button(t("cheat_sheet.make"), variant="primary", elem_id="iris-sheet-make", scale=0)
            stop = gr.Button(t("quiz.stop"), elem_id="iris-sheet-stop", scale=0, visible=False)
            example = gr.Button(t("quiz.example"), elem_id="iris-sheet-example", scale=0)
        status = gr.HTML("", elem_id="iris-sheet-status", elem_classes="iris-line")
        files = gr.HTML("", elem_id="iris-sheet-files", js_on_load=None)
        shown = gr.HTML("", elem_id="iris-sheet-shown", js_on_load=None)
    growing = gr.State(None)

    quick = running.QUICK
    slow = running.slow(page.concurrency)
    if isinstance(place, gr.Tab):
        place.select(tab.choices, [page.course, page.student], [chosen], **quick)
    page.course.change(tab.changed, [page.course, page.student], [chosen], **quick)
    wanted = [chosen, own, page.course, page.model, page.student]
    made = [growing, shown, files, status, make, stop]
    event = make.click(tab.make, wanted, made, **slow)
    filled = example.click(tab.example, [page.course], [chosen, own], **quick)
    shows = filled.success(tab.make, wanted, made, **slow)
    stop.click(None, cancels=[event, shows], **quick).then(tab.stopped, growing, made, **quick)
    gr.api(
        tab.cheat_sheet,
        api_name="cheat_sheet",
        api_description="A cheat sheet of one page for topics of a course: Markdown, lines with sources, and a PDF.",
        concurrency_limit=page.concurrency,
        concurrency_id="engine",
    )


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    page: Page

    def choices(self, course: str | None, who: Any, request: gr.Request) -> gr.Dropdown:
        """Own notes and topics with their chapters in the student's language; what is chosen stays."""
        return gr.Dropdown(self._topics(course, who, request))

    def changed(self, course: str | None, who: Any, request: gr.Request) -> gr.Dropdown:
        """Another course: its topics."""
        return gr.Dropdown(self._topics(course, who, request), value=[])

    def _topics(self, course: str | None, who: Any, request: gr.Request) -> list[tuple[str, str]]:
        known = self.page.courses.get(course or "")
        return topics.choices(known, request, passages.own_notes(self.page.store, self.page.who(who, request), known))

    def example(self, course: str | None) -> Update:
        """The first topics that have notes."""
        known = self.page.courses.get(course or "")
        return [topic.id for topic in (known.study_order if known else ()) if known and known.note(topic.id)][:2], False

    def make(
        self, chosen: Any, own: bool, course: str | None, model: str, who: Any, request: gr.Request
    ) -> Iterator[Update]:
        """Make the page; yields (growing, preview, files, status, make, stop)."""
        skip = gr.skip()
        try:
            known = self.page.courses.get(course or "")
            wanted = topics.chosen(known, chosen)
            student = self.page.who(who, request)
            added = passages.own_notes(self.page.store, student, known)
            evidence = passages.of_student(known, self.page.store, student, added) if known else None
            # What is wrong with the wish is said before a model is opened.
            tool.compose(known, wanted, evidence=evidence, own=added)
            yield skip, skip, skip, line(say("cheat_sheet.working", request)), *_buttons(True)

            def told(text: str) -> Update:
                return skip, skip, skip, line(text), skip, skip

            engine = yield from running.opened(self.page.models.open(model), told)
            sheet = tool.compose(known, wanted, count=engine.count_tokens, evidence=evidence, own=added)
            if own and known is not None:
                note = line(say("cheat_sheet.writing", request))
                yield sheet, _html(sheet, request), "", note, skip, skip
                pace = running.Pace()
                for sheet in tool.add_own(engine, known, sheet, evidence=evidence):  # noqa: B020 - it grows
                    if sheet.place and pace.due():
                        yield told(say("quiz.line", request, place=sheet.place))
                    elif not sheet.place:
                        yield sheet, _html(sheet, request), skip, note, skip, skip
            yield None, _html(sheet, request), _files(sheet, request), line(_summary(sheet, request)), *_buttons(False)
        except Exception as error:
            problem = running.problem(error, "a cheat sheet could not be made")
            yield None, skip, skip, line(problem, kind="problem"), *_buttons(False)

    def stopped(self, growing: Any, request: gr.Request) -> Update:
        """The page as far as it had got."""
        note = line(say("quiz.stopped", request))
        if not isinstance(growing, Sheet):
            return None, gr.skip(), gr.skip(), note, *_buttons(False)
        return None, _html(growing, request), _files(growing, request), note, *_buttons(False)

    def cheat_sheet(
        self,
        topics: list[str],
        own_lines: bool = False,
        pdf: bool = False,
        course: str = "",
        model: str = "",
    ) -> dict[str, Any]:
        """Make a cheat sheet of one page, 900 tokens at most, for topics of a course.

        Args:
            topics: ids of topics, such as "gradient-descent".
            own_lines: whether the model may add lines of its own, marked as such; takes seconds.
            pdf: whether to make the PDF, too.
            course: id of a course; empty for the server's first.
            model: catalog id of a model; empty for the default one.

        Returns:
            `markdown`; `lines`, each with its part, topic, title, text and source, and whether it is the model's own;
            `tokens`; `left_out` and `without_notes`: titles of topics; `pdf`: the file in base64, or null.
        """
        try:
            if course and course not in self.page.courses:
                raise RequestError(f"There is no course {course!r}. Known are: {', '.join(self.page.courses)}.")
            known = self.page.courses.get(course) if course else next(iter(self.page.courses.values()), None)
            tool.compose(known, topics or [])
            engine = running.finished(self.page.models.open(model))
            sheet = tool.compose(known, topics, count=engine.count_tokens)
            if own_lines and known is not None:
                *_, sheet = tool.add_own(engine, known, sheet)
        except IrisError as error:
            raise running.refused(error) from error
        return {
            "title": sheet.title,
            "markdown": tool.markdown(sheet),
            "lines": [{**asdict(row), "own": row.own} for row in sheet.lines],
            "tokens": sheet.tokens,
            "left_out": list(sheet.left_out),
            "without_notes": list(sheet.without_notes),
            "pdf": base64.b64encode(sheet_pdf.pdf(sheet)).decode("ascii") if pdf else None,
        }


def _html(sheet: Sheet, request: gr.Request) -> str:
    sources = html.escape("; ".join(dict.fromkeys(row.source for row in sheet.lines if not row.own)))
    # Headings begin one level below those of the page.
    shown = re.sub(r"<(/?)h([12])>", lambda m: f"<{m[1]}h{int(m[2]) + 2}>", richtext.to_html(tool.markdown(sheet)))
    return (
        f'<article class="iris-sheet iris-rich" aria-label="{html.escape(say("cheat_sheet.preview", request))}">{shown}'
        f'<p class="iris-source">{say("cheat_sheet.from_notes", request, sources=sources)}</p></article>'
    )


def _files(sheet: Sheet, request: gr.Request) -> str:
    """Links that carry the files themselves: nothing of a student's stays on the server."""
    name = re.sub(r"[^\w-]+", "-", sheet.title).strip("-")[:60] or "cheat-sheet"
    markdown = tool.markdown(sheet).encode()
    links = (
        (say("cheat_sheet.pdf", request), "application/pdf", f"{name}.pdf", sheet_pdf.pdf(sheet)),
        (say("cheat_sheet.markdown", request), "text/markdown;charset=utf-8", f"{name}.md", markdown),
    )
    return "".join(
        f'<a class="iris-file" download="{html.escape(file, quote=True)}" '
        f'href="data:{kind};base64,{base64.b64encode(data).decode("ascii")}">{html.escape(label)}</a>'
        for label, kind, file, data in links
    )


def _summary(sheet: Sheet, request: gr.Request) -> str:
    parts = [say("cheat_sheet.done", request, lines=len(sheet.lines), tokens=sheet.tokens)]
    if sheet.left_out:
        parts.append(say("cheat_sheet.left_out", request, titles=_short(sheet.left_out)))
    if sheet.without_notes:
        parts.append(say("cheat_sheet.without_notes", request, titles=_short(sheet.without_notes)))
    return " ".join(parts)


def _short(titles: tuple[str, ...]) -> str:
    return ", ".join(titles[:6]) + (f" … (+{len(titles) - 6})" if len(titles) > 6 else "")


def _buttons(working: bool) -> tuple[gr.Button, gr.Button]:
    return gr.Button(interactive=not working), gr.Button(visible=working)
