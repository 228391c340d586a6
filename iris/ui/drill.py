"""The Mixed Drill tab, and its API endpoint ``/mixed_drill``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from iris.courses import Course
from iris.errors import DrillError, IrisError
from iris.study import drills
from iris.study.drills import Clock, Drill
from iris.tools import drill as tool
from iris.tools import quiz_items
from iris.tools.quiz_items import KINDS, Item
from iris.ui import drill_view as view
from iris.ui import running, topics
from iris.ui import student as students
from iris.ui.formulas import LATEX
from iris.ui.page import Page
from iris.ui.strings import say, t

COUNT, MINUTES = 10, 20

Update = tuple[Any, ...]

# Answers are first kept in the browser, then sent, all of them each time: what a dead connection swallowed comes with
# the next answer, or after a reload.
# Runs at every change of the answer, so also when the page turns to a question and shows what was answered before.
_KEEP = """
(kept, place, answer) => {
  const drill = document.getElementById("iris-clock")?.dataset.drill?.split("-")[0] ?? "";
  const before = kept && kept.drill === drill ? kept.answers : {};
  return answer || place in before ? {drill, answers: {...before, [place]: answer ?? ""}} : kept;
}
"""


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    tab, place = _Tab(page, Clock()), Context.block
    kept = gr.BrowserState({}, storage_key="iris-drill", secret=students.storage_secret(page.store))
    with gr.Column(elem_id="iris-drill", elem_classes="iris-tool"):
        with gr.Column() as setting:
            gr.Markdown(t("drill.intro"))
            wanted = gr.Dropdown([], value=[], multiselect=True, label=t("drill.topics"), info=t("drill.topics_info"))
            # In English until the tab is opened: then in the student's language.
            kinds = gr.CheckboxGroup(
                _kinds(None), value=list(KINDS), label=t("drill.kinds"), elem_id="iris-drill-kinds"
            )
            with gr.Row():
                count = gr.Number(COUNT, precision=0, label=t("drill.count"))
                minutes = gr.Number(MINUTES, label=t("drill.minutes"))
            begin = gr.Button(t("drill.begin"), variant="primary", elem_id="iris-drill-begin")
        with gr.Column(visible=False, elem_id="iris-drill-taking") as taking:
            with gr.Row(elem_id="iris-drill-head"):
                clock = gr.HTML("")
                hand_in = gr.Button(t("drill.hand_in"), size="sm", scale=0, elem_id="iris-drill-hand-in")
            number = gr.Radio([], label=t("drill.questions"), elem_id="iris-drill-number")
            asked = gr.Markdown("", latex_delimiters=LATEX, elem_id="iris-drill-asked")
            choice = gr.Radio([], label=t("drill.choose"), visible=False, elem_id="iris-drill-choice")
            words = gr.Textbox("", label=t("drill.answer"), lines=3, visible=False, elem_id="iris-drill-words")
            with gr.Row():
                back = gr.Button(t("drill.back"), size="sm", elem_id="iris-drill-back")
                on = gr.Button(t("drill.on"), size="sm", elem_id="iris-drill-on")
            saved = gr.HTML("", elem_id="iris-drill-saved", elem_classes="iris-line")
            with gr.Column(visible=False, elem_id="iris-drill-sure") as asking:
                warning = gr.HTML("", elem_classes="iris-line")
                with gr.Row():
                    sure = gr.Button(t("drill.sure"), size="sm")
                    stay = gr.Button(t("drill.stay"), size="sm")
        status = gr.HTML("", elem_id="iris-drill-status", elem_classes="iris-line")
        with gr.Column(visible=False, elem_id="iris-drill-report") as reported:
            by_topic = gr.HTML("")
            with gr.Accordion(t("drill.review"), open=False):
                lines = gr.Markdown("", latex_delimiters=LATEX, elem_id="iris-drill-lines")
        # Pressed by the page when the time is over, and when it wakes up after a sleep.
        time_up = gr.Button("time", elem_id="iris-drill-time-up", elem_classes="iris-unseen")
        wake = gr.Button("wake", elem_id="iris-drill-wake", elem_classes="iris-unseen")
        current = gr.Textbox("", visible="hidden", container=False)

    quick = running.QUICK
    where = [page.course, page.student]
    question = [asked, choice, words]
    all_of_it = [setting, taking, reported, clock, number, *question, current, status, by_topic, lines]
    for shows in (*([place.select] if isinstance(place, gr.Tab) else []), page.course.change):
        shows(tab.show, [kept, *where], [wanted, kinds, *all_of_it], **quick)
    begin.click(tab.begin, [wanted, kinds, count, minutes, *where], all_of_it, trigger_mode="once", **quick)
    number.input(tab.turn, [number, current, *where], question, **quick)
    back.click(tab.step(-1), [number, current, *where], [number, *question], **quick)
    on.click(tab.step(1), [number, current, *where], [number, *question], **quick)
    # Gradio calls what is pasted or dictated no input; a change it is.
    for answer, typed in ((choice, choice.input), (words, words.change)):
        typed(None, [kept, number, answer], kept, js=_KEEP, **quick).then(
            tab.save, [kept, current, *where], [saved, number], trigger_mode="always_last", **quick
        )
    for ends, unasked in ((hand_in, False), (sure, True), (time_up, True)):
        done = [*all_of_it, asking, warning]
        ends.click(tab.hand_in(unasked), [kept, current, *where], done, trigger_mode="once", **quick)
    stay.click(lambda: gr.Column(visible=False), None, asking, **quick)
    wake.click(tab.wake, [kept, *where], all_of_it, **quick)
    gr.api(
        tab.mixed_drill,
        api_name="mixed_drill",
        api_description="A mini exam over topics of a course; with `answers`, its report. Nothing is kept.",
        queue=False,
    )


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    page: Page
    clock: Clock

    def show(self, kept: Any, course: str | None, student: Any, request: gr.Request) -> Update:
        """What there is: the drill under way, else the last report, and the form for a new one."""
        known = self.page.courses.get(course or "")
        form = (
            gr.Dropdown(topics.choices(known, request), multiselect=True),
            gr.CheckboxGroup(_kinds(request)),
        )
        try:
            known, who, at = self._course(course, request), self.page.who(student, request), self.clock.now()
            open_one = drills.under_way(self.page.store, who, known.id)
            if open_one:  # what a dead connection swallowed
                tool.save(self.page.store, who, open_one.id, _answers(kept, open_one.id), at)
            drill = tool.under_way(self.page.store, who, known, at)
            if drill:
                return *form, *self._taking(drill, at, request)
            last = drills.latest(self.page.store, who, known.id)
            line = say("drill.time_over", request) if open_one else ""
            return *form, *(self._report(known, last, request, line) if last else self._nothing(""))
        except IrisError as error:
            return *form, *self._nothing(_problem(str(error)))

    def wake(self, kept: Any, course: str | None, student: Any, request: gr.Request) -> Update:
        """The clock set right after a sleep; or the report, where the time was over meanwhile."""
        try:
            known, who, at = self._course(course, request), self.page.who(student, request), self.clock.now()
            drill = drills.under_way(self.page.store, who, known.id)
            if drill and drill.ends > at:
                return *_skipped(3), view.clock(drill, at, request), *_skipped(8)
        except IrisError as error:
            return *_skipped(9), _problem(str(error)), *_skipped(2)
        return self.show(kept, course, student, request)[2:]

    def begin(
        self,
        wanted: Any,
        kinds: Sequence[str],
        count: float | None,
        minutes: float | None,
        course: str | None,
        student: Any,
        request: gr.Request,
    ) -> Update:
        """Set a drill and start the clock."""
        try:
            known, who, at = self._course(course, request), self.page.who(student, request), self.clock.now()
            chosen = topics.chosen(known, wanted) or [topic.id for topic in known.topics]
            made = tool.begin(self.page.store, who, known, chosen, int(count or 0), minutes or 0, kinds, at)
            return self._taking(made, self.clock.now(), request)
        except IrisError as error:
            return *_skipped(9), _problem(str(error)), *_skipped(2)

    def save(self, kept: Any, current: str, course: str | None, student: Any, request: gr.Request) -> tuple[Any, Any]:
        """Keep the answers so far."""
        try:
            who = self.page.who(student, request)
            drill = tool.save(self.page.store, who, current, _answers(kept, current), self.clock.now())
        except IrisError as error:
            return _problem(str(error)), gr.skip()
        if drill.handed_in is not None:
            return running.status(say("drill.closed", request)), gr.skip()
        return running.status(say("drill.saved", request, number=_answered(drill), count=len(drill.items))), _numbers(
            drill
        )

    def turn(self, place: str | None, current: str, course: str | None, student: Any, request: gr.Request) -> Update:
        """Another question."""
        try:
            drill = drills.find(self.page.store, self.page.who(student, request), current)
        except IrisError as error:
            return f"{error}", gr.skip(), gr.skip()
        return self._question(drill, int(place or 0), request)

    def step(self, by: int) -> Callable[..., Update]:
        """The handler that goes to the question before or after."""

        def handler(place: str | None, current: str, course: str | None, student: Any, request: gr.Request) -> Update:
            try:
                drill = drills.find(self.page.store, self.page.who(student, request), current)
            except IrisError as error:
                return gr.skip(), f"{error}", gr.skip(), gr.skip()
            to = min(max(int(place or 0) + by, 0), len(drill.items) - 1)
            return _numbers(drill, to), *self._question(drill, to, request)

        return handler

    def hand_in(self, unasked: bool) -> Callable[..., Update]:
        """The handler that hands the drill in and shows its report; ``unasked`` also with questions not answered."""

        def handler(kept: Any, current: str, course: str | None, student: Any, request: gr.Request) -> Update:
            away = gr.Column(visible=False)
            try:
                known, who, at = self._course(course, request), self.page.who(student, request), self.clock.now()
                drill = tool.save(self.page.store, who, current, _answers(kept, current), at)
                free = len(drill.items) - _answered(drill)
                if free and not unasked and at < drill.ends and drill.handed_in is None:
                    line = running.status(say("drill.free", request, number=free))
                    return *_skipped(12), gr.Column(visible=True), line
                tool.hand_in(self.page.store, who, known, current, at)
                drill = drills.find(self.page.store, who, current)
                line = say("drill.time_over", request) if at >= drill.ends else ""
                return *self._report(known, drill, request, line), away, ""
            except IrisError as error:
                return *_skipped(9), _problem(str(error)), *_skipped(2), away, ""

        return handler

    def mixed_drill(
        self,
        topics: list[str] | None = None,
        count: int = COUNT,
        kinds: list[str] | None = None,
        minutes: float = MINUTES,
        course: str = "",
        seed: int = 0,
        answers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Set a mini exam, or mark one.

        Args:
            topics: ids of topics; none: all of the course.
            count: how many questions, 1 to 30.
            kinds: some of "choice", "true_false", "short", "numeric"; none: all.
            minutes: how long it takes, 1 to 180; the caller keeps the time.
            course: id of the course; empty: the first one.
            seed: the same seed with the same topics, count and kinds sets the same questions.
            answers: by the question's place from "0": then the exam is marked.

        Returns:
            ``items`` with ``topic``, ``kind``, ``question`` and ``options``; with ``answers`` also the ``score`` from
            0 to 1, ``topics`` with what was reached in each, and for each item ``right``, ``verdict``, ``answer`` and
            ``explanation``.
        """
        try:
            known = self.page.courses.get(course or next(iter(self.page.courses), ""))
            if known is None:
                raise DrillError(f"There is no course {course!r}. Known are: {', '.join(self.page.courses) or 'none'}.")
            length = tool.checked_minutes(minutes)
            chosen = topics or [topic.id for topic in known.topics]
            items = tool.items(known, chosen, count, kinds or KINDS, seed)
            if answers is None:
                shown = [tool.shown(item) for item in items]
                return {"course": known.id, "seed": seed, "minutes": length / 60_000, "items": shown}
            return _marked(known, items, answers, seed)
        except IrisError as error:
            raise running.refused(error) from error

    def _course(self, course: str | None, request: gr.Request) -> Course:
        known = self.page.courses.get(course or "")
        if known is None:
            raise DrillError(say("planner.no_course", request))
        return known

    def _taking(self, drill: Drill, at: int, request: gr.Request) -> Update:
        """Everything of a drill that is being taken, at the first question that is not answered."""
        free = (place for place in range(len(drill.items)) if not drill.given.get(str(place)))
        first = next(free, 0)
        there, away = gr.Column(visible=True), gr.Column(visible=False)
        clock = view.clock(drill, at, request)
        return (
            away,
            there,
            away,
            clock,
            _numbers(drill, first),
            *self._question(drill, first, request),
            drill.id,
            "",
            "",
            "",
        )

    def _question(self, drill: Drill, place: int, request: gr.Request) -> Update:
        item = quiz_items.from_dict(drill.items[place])
        given = drill.given.get(str(place), "")
        text = view.question(item, place, len(drill.items), request)
        if item.options:
            options = [(_option(item, option, request), option) for option in item.options]
            value = given if given in item.options else None
            # The hidden box keeps its text: a change there would be kept as the answer to this question.
            return text, gr.Radio(options, value=value, visible=True), gr.Textbox(visible=False)
        return text, gr.Radio([], value=None, visible=False), gr.Textbox(given, visible=True)

    def _report(self, course: Course, drill: Drill, request: gr.Request, line: str = "") -> Update:
        report = tool.report(drill)
        there, away = gr.Column(visible=True), gr.Column(visible=False)
        status = running.status(line) + view.summary(report, request)
        shown = view.topics(course, report, request), view.review(report, request)
        return there, away, there, "", *_skipped(4), "", status, *shown

    def _nothing(self, status: str) -> Update:
        there, away = gr.Column(visible=True), gr.Column(visible=False)
        return there, away, away, "", *_skipped(4), "", status, "", ""


def _marked(course: Course, items: Sequence[Item], answers: Mapping[str, str], seed: int) -> dict[str, Any]:
    report = tool.summed(tool.marked(course, items, {str(place): str(text) for place, text in answers.items()}))
    return {
        "course": course.id,
        "seed": seed,
        "score": report.score,
        "topics": [{"topic": t.topic, "right": t.right, "count": t.count} for t in report.topics],
        "items": [
            {
                **tool.shown(line.item),
                "given": line.given,
                "right": line.mark.right,
                "verdict": line.mark.verdict,
                "answer": line.item.answer,
                "explanation": line.item.explanation,
            }
            for line in report.lines
        ],
    }


def _answers(kept: Any, drill: str) -> dict[str, str]:
    """The answers that the browser keeps for a drill."""
    if not isinstance(kept, dict) or kept.get("drill") != drill or not isinstance(kept.get("answers"), dict):
        return {}
    return {str(place): text for place, text in kept["answers"].items() if isinstance(text, str)}


def _numbers(drill: Drill, place: int | None = None) -> gr.Radio:
    """The questions to choose from; those answered carry a mark."""
    choices = [
        (f"{number + 1} ✓" if drill.given.get(str(number)) else f"{number + 1}", str(number))
        for number in range(len(drill.items))
    ]
    return gr.Radio(choices) if place is None else gr.Radio(choices, value=str(place))


def _kinds(request: gr.Request | None) -> list[tuple[str, str]]:
    return [(say(f"drill.{kind}", request), kind) for kind in KINDS]


def _answered(drill: Drill) -> int:
    return sum(bool(text.strip()) for text in drill.given.values())


def _option(item: Item, option: str, request: gr.Request) -> str:
    return say(f"drill.{option}", request) if item.kind == "true_false" else option


def _skipped(number: int) -> Update:
    return tuple(gr.skip() for _ in range(number))


def _problem(text: str) -> str:
    return running.status(text, kind="problem")
