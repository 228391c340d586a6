"""The Quiz tab, and its API endpoint ``/quiz``."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from iris.courses import DIFFICULTIES, Course
from iris.errors import IrisError, RequestError, StoreError
from iris.tools import passages, quiz_items, quiz_taking
from iris.tools import quiz as tool
from iris.tools.passages import Evidence
from iris.tools.quiz import Past, Quiz
from iris.tools.quiz_items import KINDS
from iris.tools.quiz_taking import Taking
from iris.ui import quiz_view, running, topics
from iris.ui.page import Page
from iris.ui.running import status as line
from iris.ui.strings import say, t

Update = tuple[Any, ...]

COUNT = 5
_SCRIPT = (Path(__file__).parent / "quiz.js").read_text(encoding="utf-8")


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    tab, place = _Tab(page), Context.block
    with gr.Column(elem_id="iris-quiz", elem_classes="iris-tool"):
        gr.Markdown(t("quiz.intro"))
        # In English until the tab is opened: then in the student's language.
        chosen = topics.chooser(next(iter(page.courses.values()), None), "iris-quiz-topics")
        with gr.Row(elem_classes="iris-settings"):
            count = gr.Number(
                COUNT, minimum=1, maximum=tool.MAX_COUNT, precision=0, label=t("quiz.count"), elem_id="iris-quiz-count"
            )
            difficulty = gr.Dropdown(
                _levels(None), value="any", label=t("quiz.difficulty"), filterable=False, elem_id="iris-quiz-difficulty"
            )
        kinds = gr.CheckboxGroup(_kinds(None), value=list(KINDS), label=t("quiz.kinds"), elem_id="iris-quiz-kinds")
        with gr.Row(elem_classes="iris-actions"):
            make = gr.Button(t("quiz.make"), variant="primary", elem_id="iris-quiz-make", scale=0)
            stop = gr.Button(t("quiz.stop"), elem_id="iris-quiz-stop", scale=0, visible=False)
            example = gr.Button(t("quiz.example"), elem_id="iris-quiz-example", scale=0)
        status = gr.HTML("", elem_id="iris-quiz-status", elem_classes="iris-line")
        shown = gr.HTML(quiz_view.empty(), elem_id="iris-quiz-item", js_on_load=_SCRIPT)
    growing = gr.State(None)
    taking = gr.State(None)

    quick = running.QUICK
    slow = running.slow(page.concurrency)
    form = [chosen, count, difficulty, kinds]
    made = [growing, taking, shown, status, make, stop]
    if isinstance(place, gr.Tab):
        place.select(tab.choices, [page.course, page.student], [chosen, difficulty, kinds], **quick)
    page.course.change(tab.changed, [page.course, page.student], [chosen, taking, shown, status], **quick)
    wanted = [*form, page.course, page.model, page.student]
    event = make.click(tab.make, wanted, made, **slow)
    filled = example.click(tab.example, [page.course], form, **quick)
    shows = filled.success(tab.make, wanted, made, **slow)
    stop.click(None, cancels=[event, shows], **quick).then(
        tab.stopped, [growing, page.course, page.student], made, **quick
    )
    shown.submit(tab.step, [taking, page.course, page.student], [taking, shown, status], **quick)
    gr.api(
        tab.quiz,
        api_name="quiz",
        api_description="Make a quiz about topics of a course: items with right answers, explanations and sources.",
        concurrency_limit=page.concurrency,
        concurrency_id="engine",
    )


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    page: Page

    def choices(self, course: str | None, who: Any, request: gr.Request) -> Update:
        """The lists in the student's language, with notes added meanwhile; what is chosen stays."""
        known = self._topics(course, who, request)
        return gr.Dropdown(known), gr.Dropdown(_levels(request)), gr.CheckboxGroup(_kinds(request))

    def changed(self, course: str | None, who: Any, request: gr.Request) -> Update:
        """Another course: its topics, and no quiz yet."""
        known = self._topics(course, who, request)
        return gr.Dropdown(known, value=[]), None, quiz_view.empty(request), ""

    def example(self, course: str | None, request: gr.Request) -> Update:
        """A small quiz that every course with a bank can give."""
        known = self._course(course)
        order = known.study_order if known else ()
        full = [topic.id for topic in order if known and known.bank_of(topic.id)]
        return (full or [topic.id for topic in order])[:2], 3, "any", list(KINDS)

    def make(
        self,
        chosen: Any,
        count: Any,
        difficulty: Any,
        kinds: Any,
        course: str | None,
        model: str,
        who: Any,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Make a quiz and show its first item; yields (growing, taking, page, status, make, stop)."""
        try:
            known, student = self._course(course), self.page.who(who, request)
            own = passages.own_notes(self.page.store, student, known)
            wanted = tool.checked(known, topics.chosen(known, chosen), count, kinds or [], difficulty, own)
            assert known is not None, "without a course nothing is chosen"
            past = quiz_taking.past(self.page.store, student, known)
            quiz, problem = tool.prepare(known, wanted, past), ""
            if quiz.missing:
                evidence = passages.of_student(known, self.page.store, student, own)
                quiz, problem = yield from self._written(model, known, quiz, past, evidence, request)
            yield self._begun(known, quiz, past, who, problem, request)
        except Exception as error:
            problem = running.problem(error, "a quiz could not be made")
            yield None, gr.skip(), gr.skip(), line(problem, kind="problem"), *_buttons(False)

    def stopped(self, growing: Any, course: str | None, who: Any, request: gr.Request) -> Update:
        """The quiz as far as it had got."""
        known = self._course(course)
        if known is None or not isinstance(growing, Quiz):
            return None, gr.skip(), gr.skip(), line(say("quiz.stopped", request)), *_buttons(False)
        try:
            past = quiz_taking.past(self.page.store, self.page.who(who, request), known)
            return self._begun(known, growing, past, who, say("quiz.stopped", request), request)
        except IrisError:
            return None, gr.skip(), gr.skip(), line(say("quiz.stopped_empty", request)), *_buttons(False)

    def step(self, taking: Any, course: str | None, who: Any, request: gr.Request, event: gr.EventData) -> Update:
        """What was answered or pressed in the quiz; returns (taking, page, status)."""
        known = self._course(course)
        if known is None or not isinstance(taking, Taking) or taking.course != known.id:
            return None, gr.skip(), line(say("quiz.gone", request), kind="problem")
        data = event._data if isinstance(event._data, dict) else {}
        if data.get("key") != quiz_view.key(taking):  # a second click on what is done already
            return gr.skip(), quiz_view.page(taking, request), gr.skip()
        try:
            after, note = taking, ""
            if data.get("action") == "answer":
                after = quiz_taking.answer(taking, _given(taking, data.get("answer")), known)
                note = self._keep(known, after, who, request)
            elif data.get("action") == "next":
                after = quiz_taking.forward(taking)
            elif data.get("action") == "again":
                after = quiz_taking.again(taking)
            return after, quiz_view.page(after, request), note
        except Exception as error:
            problem = running.problem(error, "an answer could not be marked")
            return gr.skip(), gr.skip(), line(problem, kind="problem")

    def quiz(
        self,
        topics: list[str],
        count: int = COUNT,
        kinds: list[str] | None = None,
        difficulty: str = "any",
        course: str = "",
        model: str = "",
    ) -> dict[str, Any]:
        """Make a quiz about topics of a course.

        Items come from the course's checked bank first; what is missing is written by the model, and only what passes
        the checks is kept. Nothing is recorded.

        Args:
            topics: ids of topics, such as "gradient-descent".
            count: how many items, 1 to 30.
            kinds: any of "choice", "true_false", "short" and "numeric"; all of them if left out.
            difficulty: "any", "easy", "medium" or "hard".
            course: id of a course; empty for the server's first.
            model: catalog id of a model; empty for the default one.

        Returns:
            `items`, each with id, topic, kind, difficulty, question, options, answer, tolerance, explanation, evidence,
            source and origin ("course" or "model"); `missing`, how many good items could not be found; `tried`,
            `refused` (by reason) and `rejection_rate` of the model's items.
        """
        try:
            known = self.page.courses.get(course) if course else next(iter(self.page.courses.values()), None)
            if known is None and course:
                raise RequestError(f"There is no course {course!r}. Known are: {', '.join(self.page.courses)}.")
            wanted = tool.checked(known, topics or [], count, kinds or KINDS, difficulty)
            assert known is not None, "without a course nothing is chosen"
            quiz = tool.prepare(known, wanted)
            if quiz.missing:
                engine = running.finished(self.page.models.open(model))
                *_, quiz = quiz, *tool.write(engine, known, quiz)
            quiz = tool.complete(known, quiz)
        except IrisError as error:
            raise running.refused(error) from error
        return {
            "course": known.id,
            "items": [quiz_items.as_dict(item) for item in quiz.items],
            "missing": quiz.missing,
            "tried": quiz.tried,
            "refused": dict(quiz.refused),
            "rejection_rate": quiz.rejection_rate,
        }

    def _written(
        self, model: str, course: Course, quiz: Quiz, past: Past, evidence: Evidence, request: gr.Request
    ) -> Generator[Update, None, tuple[Quiz, str]]:
        """Let the model write what is missing; returns the quiz and what went wrong."""

        def told(text: str) -> Update:
            return quiz, gr.skip(), gr.skip(), line(text), *_buttons(True)

        yield told(_progress(quiz, request))
        try:
            engine = yield from running.opened(self.page.models.open(model), told)
            pace, tried = running.Pace(), quiz.tried
            for quiz in tool.write(engine, course, quiz, past, evidence=evidence):  # noqa: B020 - it grows
                if quiz.tried > tried or pace.due():  # an update is also when a closed page is noticed
                    tried = quiz.tried
                    yield told(_progress(quiz, request))
        except Exception as error:  # what there is can be taken all the same
            return quiz, running.problem(error, "quiz items could not be written")
        return quiz, ""

    def _begun(self, course: Course, quiz: Quiz, past: Past, who: Any, note: str, request: gr.Request) -> Update:
        """The quiz before its first item, written down as given."""
        quiz = tool.complete(course, quiz, past)
        try:
            quiz_taking.keep_quiz(self.page.store, self.page.who(who, request), course, quiz.items)
        except StoreError as error:  # a full disk: the quiz can be taken, it is only not remembered
            note = " ".join(filter(None, [note, str(error)]))
        taking = quiz_taking.begin(course, quiz.items)
        said = " ".join(filter(None, [note, quiz_view.summary(quiz, request)]))
        return None, taking, quiz_view.page(taking, request), line(said), *_buttons(False)

    def _keep(self, course: Course, taking: Taking, who: Any, request: gr.Request) -> str:
        try:
            quiz_taking.keep_answer(self.page.store, self.page.who(who, request), course, taking.now)
        except StoreError:
            return line(say("quiz.not_kept", request), kind="problem")
        return ""

    def _topics(self, course: str | None, who: Any, request: gr.Request) -> list[tuple[str, str]]:
        known = self._course(course)
        own = passages.own_notes(self.page.store, self.page.who(who, request), known)
        return topics.choices(known, request, own)

    def _course(self, course: str | None) -> Course | None:
        return self.page.courses.get(course or "")


def _levels(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(f"quiz.{name}", request), name) for name in ("any", *DIFFICULTIES)]


def _kinds(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(f"quiz.{kind}", request), kind) for kind in KINDS]


def _progress(quiz: Quiz, request: gr.Request) -> str:
    return say(
        "quiz.writing",
        request,
        have=len(quiz.items),
        count=quiz.wanted.count,
        tried=quiz.tried,
        refused=sum(quiz.refused.values()),
    )


def _buttons(working: bool) -> tuple[gr.Button, gr.Button]:
    return gr.Button(interactive=not working), gr.Button(visible=working)


def _given(taking: Taking, value: Any) -> str:
    """An answer as it is marked: options are sent by their place."""
    text = value if isinstance(value, str) else ""
    options = taking.now.item.options
    if not options:
        return text
    return options[int(text)] if text.isdecimal() and int(text) < len(options) else ""
