"""The Feedback tab, and its API endpoint ``/feedback``."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from iris.courses import Course
from iris.errors import IrisError, RequestError
from iris.tools import feedback as tool
from iris.tools import grading
from iris.tools.feedback import Feedback
from iris.tools.grading import Finding
from iris.ui import richtext, running
from iris.ui.page import Page
from iris.ui.running import status as line
from iris.ui.strings import say, t

Update = tuple[Any, ...]


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    tab = _Tab(page)
    with gr.Column(elem_id="iris-feedback", elem_classes="iris-tool"):
        gr.Markdown(t("feedback.intro"))
        question = gr.Textbox(
            label=t("feedback.question"),
            placeholder=t("feedback.question_hint"),
            lines=2,
            max_lines=6,
            elem_id="iris-feedback-question",
        )
        answer = gr.Textbox(
            label=t("feedback.answer"),
            placeholder=t("feedback.answer_hint"),
            lines=6,
            max_lines=20,
            elem_id="iris-feedback-answer",
        )
        with gr.Accordion(t("feedback.reference"), open=False, elem_id="iris-feedback-more"):
            reference = gr.Textbox(
                label=t("feedback.reference"),
                placeholder=t("feedback.reference_hint"),
                lines=4,
                max_lines=12,
                elem_id="iris-feedback-reference",
            )
        with gr.Row(elem_classes="iris-actions"):
            check = gr.Button(t("feedback.check"), variant="primary", elem_id="iris-feedback-check", scale=0)
            stop = gr.Button(t("quiz.stop"), elem_id="iris-feedback-stop", scale=0, visible=False)
            example = gr.Button(t("quiz.example"), elem_id="iris-feedback-example", scale=0)
        status = gr.HTML("", elem_id="iris-feedback-status", elem_classes="iris-line")
        shown = gr.HTML("", elem_id="iris-feedback-shown", js_on_load=None)

    quick = running.QUICK
    slow = running.slow(page.concurrency)
    form = [question, answer, reference]
    wanted = [*form, page.course, page.model]
    made = [shown, status, check, stop]
    event = check.click(tab.check, wanted, made, **slow)
    filled = example.click(tab.example, [page.course], [*form, status], **quick)
    shows = filled.success(tab.check, wanted, made, **slow)
    stop.click(None, cancels=[event, shows], **quick).then(tab.stopped, None, [status, check, stop], **quick)
    gr.api(
        tab.feedback,
        api_name="feedback",
        api_description="Feedback on an exam answer: points covered and missing, errors, score, a better answer.",
        concurrency_limit=page.concurrency,
        concurrency_id="engine",
    )


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    page: Page

    def check(
        self, question: str, answer: str, reference: str, course: str | None, model: str, request: gr.Request
    ) -> Iterator[Update]:
        """Compare at once, then let the model write; yields (page, status, check, stop)."""
        skip = gr.skip()
        try:
            known = self.page.courses.get(course or "")
            found = tool.compare(known, question or "", answer or "", reference or "")
            if not tool.improvable(found):
                yield _html(found, request), line(say("feedback.done", request)), *_buttons(False)
                return
            yield _html(found, request), line(say("feedback.working", request)), *_buttons(True)

            def told(text: str) -> Update:
                return skip, line(text), skip, skip

            engine = yield from running.opened(self.page.models.open(model), told)
            pace = running.Pace()
            for found in tool.improve(engine, known, found):  # noqa: B020 - it grows
                if found.place:
                    if pace.due():
                        yield told(say("quiz.line", request, place=found.place))
                elif not found.done and pace.due():
                    count = len(found.better.split())
                    # With a reference at hand nothing unchecked is shown.
                    text = _html(found, request) if found.grade is None else skip
                    yield text, line(say("feedback.writing", request, words=count)), skip, skip
            yield _html(found, request), line(say("feedback.done", request)), *_buttons(False)
        except Exception as error:
            problem = running.problem(error, "an answer could not be compared")
            yield skip, line(problem, kind="problem"), *_buttons(False)

    def example(self, course: str | None) -> Update:
        """A question and a half-right answer of the course."""
        try:
            question, answer = tool.example(self.page.courses.get(course or ""))
        except IrisError as error:
            raise running.refused(error) from error
        return question, answer, "", ""

    def stopped(self, request: gr.Request) -> Update:
        return line(say("quiz.stopped", request)), *_buttons(False)

    def feedback(
        self, question: str, answer: str, reference: str = "", course: str = "", model: str = "", better: bool = True
    ) -> dict[str, Any]:
        """Feedback on an answer to an exam question.

        Covered and missing points and the score are worked out in code against the reference.

        Args:
            question: the exam question.
            answer: the student's answer.
            reference: a model answer; empty to look for the course's own answer to this question.
            course: id of a course; empty for the server's first.
            model: catalog id of a model; empty for the default one.
            better: whether the model should try to write a better answer; takes seconds.

        Returns:
            `score` from 0 to 1, null where there is no reference; `covered`, `partly`, `missing`: points of the
            reference; `errors`: points that the answer contradicts, with what does; `remark` on the answer as a whole;
            `reference`, its `origin` ("given", "course", "notes" or "") and `source`; `better_answer` and
            `better_answer_from` ("model": checked, "reference", or "unchecked"); `rubric`.
        """
        try:
            for name, value in (("question", question), ("answer", answer), ("reference", reference or "")):
                if not isinstance(value, str):
                    raise RequestError(f"`{name}` must be text.")
            known = self._known(course)
            found = tool.compare(known, question, answer, reference or "")
            if better and tool.improvable(found):
                engine = running.finished(self.page.models.open(model))
                *_, found = tool.improve(engine, known, found)
        except IrisError as error:
            raise running.refused(error) from error
        grade = found.grade or grading.Grade(0.0, ())
        return {
            "score": tool.score(found),
            "covered": [finding.point for finding in grade.of("covered")],
            "partly": [finding.point for finding in grade.of("partly")],
            "missing": [finding.point for finding in grade.of("missing")],
            "errors": [{"point": finding.point, "error": finding.error} for finding in grade.of("contradicted")],
            "remark": grade.remark,
            "reference": found.reference,
            "origin": found.origin,
            "source": found.source,
            "better_answer": found.better,
            "better_answer_from": found.better_from,
            "rubric": grading.RUBRIC,
        }

    def _known(self, course: str) -> Course | None:
        if course and course not in self.page.courses:
            raise RequestError(f"There is no course {course!r}. Known are: {', '.join(self.page.courses)}.")
        return self.page.courses.get(course) if course else next(iter(self.page.courses.values()), None)


def _html(found: Feedback, request: gr.Request) -> str:
    """The feedback; everything in it goes through ``richtext`` or ``html.escape``."""
    score = tool.score(found)
    parts = []
    if score is None:
        parts.append(f'<p class="iris-note">{html.escape(say("feedback.no_score", request))}</p>')
    else:
        words = html.escape(say("feedback.score", request, score=round(100 * score)))
        parts.append(
            f'<h3 class="iris-score">{words}</h3><meter min="0" max="100" low="40" high="70" optimum="100" '
            f'value="{100 * score:.0f}" aria-label="{words}"></meter>'
        )
    origin = f"from_{found.origin}" if found.origin else "nothing_found"
    parts.append(f'<p class="iris-note">{html.escape(say(f"feedback.{origin}", request, source=found.source))}</p>')
    if found.grade:
        if found.grade.remark:
            parts.append(f'<p class="iris-remark">{html.escape(say(f"feedback.{found.grade.remark}", request))}</p>')
        for state, sign in (("contradicted", "✗"), ("missing", "○"), ("partly", "◐"), ("covered", "✓")):
            findings = [finding for finding in found.grade.findings if finding.state == state]
            if findings:
                title = html.escape(f"{sign} {say(f'feedback.{state}', request)}")
                listed = "".join(_finding(finding, request) for finding in findings)
                parts.append(f'<section class="iris-points {state}"><h4>{title}</h4><ul>{listed}</ul></section>')
    parts.append(_better(found, request))
    if found.grade and score is not None:
        parts.append(
            f"<details><summary>{html.escape(say('feedback.rubric', request))}</summary>"
            f"<p>{html.escape(grading.RUBRIC)}</p></details>"
        )
    return f'<div class="iris-rich">{"".join(parts)}</div>'


def _finding(finding: Finding, request: gr.Request) -> str:
    shown = f"<li>{richtext.inline(finding.point)}"
    if finding.error:
        shown += f"<br><em>{html.escape(finding.error)}</em>"
    if finding.quote and finding.state != "covered":
        shown += f"<br><small>{html.escape(say('feedback.you_wrote', request))} “{html.escape(finding.quote)}”</small>"
    return f"{shown}</li>"


def _better(found: Feedback, request: gr.Request) -> str:
    if not found.better or not found.better_from:
        return ""
    kind = found.better_from
    if kind == "reference" and found.refused:
        kind_text = say("feedback.better_refused", request)
    else:
        kind_text = say(f"feedback.better_{kind}", request)
    return (
        f'<section class="iris-better"><h4>{html.escape(say("feedback.better", request))}</h4>'
        f'<p class="iris-note">{html.escape(kind_text)}</p>{richtext.to_html(found.better)}</section>'
    )


def _buttons(working: bool) -> tuple[gr.Button, gr.Button]:
    return gr.Button(interactive=not working), gr.Button(visible=working)
