"""The Study Planner tab, and its API endpoint ``/study_plan``."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import gradio as gr
from gradio.context import Context

from iris.courses import Course
from iris.errors import IrisError
from iris.store import now
from iris.study import days, plan_check, plans
from iris.study.plans import Asked, Kept
from iris.tools import planner as tool
from iris.ui import clock, downloads, running, topics
from iris.ui import planner_view as view
from iris.ui.page import Page
from iris.ui.strings import language, say, t

UNSURE, MIDDLE, SURE = 0.2, 0.5, 0.9
"""Confidence behind the words "hardly", none, and "well"."""
WEEKS = 4
"""How far away the exam is that the form suggests."""

Update = tuple[Any, ...]


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    tab, place = _Tab(page), Context.block
    with gr.Column(elem_id="iris-planner", elem_classes="iris-tool"):
        gr.Markdown(t("planner.intro"))
        with gr.Row():
            exam = gr.Textbox(
                (date.today() + timedelta(weeks=WEEKS)).isoformat(),
                label=t("planner.exam_date"),
                max_lines=1,
                elem_id="iris-plan-exam",
                elem_classes="iris-date",
            )
            # No limits here: Gradio would answer beyond them in its own words, and not in the status line.
            hours = gr.Number(2, step=0.25, label=t("planner.hours"), elem_id="iris-plan-hours")
            begin = gr.Textbox("17:00", label=t("planner.begin"), max_lines=1)
        with gr.Row():
            weekdays = gr.Dropdown(
                [], value=[], multiselect=True, label=t("planner.weekdays_off"), elem_id="iris-plan-weekdays"
            )
            off = gr.Textbox("", label=t("planner.days_off"), placeholder="2026-12-24, 2026-12-25", max_lines=1)
        chosen = gr.Dropdown([], value=[], multiselect=True, label=t("planner.topics"), info=t("planner.topics_info"))
        with gr.Row():
            unsure = gr.Dropdown([], value=[], multiselect=True, label=t("planner.unsure"))
            sure = gr.Dropdown([], value=[], multiselect=True, label=t("planner.sure"))
        with gr.Row():
            make = gr.Button(t("planner.make"), variant="primary", elem_id="iris-plan-make")
            again = gr.Button(t("planner.again"), visible=False, elem_id="iris-plan-again")
            ics = gr.Button(t("planner.ics"), visible=False, elem_id="iris-plan-ics")
            ask = gr.Button(t("planner.tips"), visible=False, elem_id="iris-plan-tips")
        status = gr.HTML("", elem_id="iris-plan-status", elem_classes="iris-line")
        chart = gr.HTML("", elem_id="iris-plan-chart")
        shown = gr.HTML("", elem_id="iris-plan")
        ticks = gr.CheckboxGroup(
            [], label=t("planner.ticks"), info=t("planner.ticks_info"), visible=False, elem_id="iris-plan-ticks"
        )
        tips = gr.Markdown("", elem_id="iris-plan-advice")
        file, zone = downloads.component(), clock.component()
        filled = gr.Textbox("", visible="hidden", container=False)

    quick = running.QUICK
    where = [page.course, page.student, zone]
    form = [exam, hours, begin, weekdays, off, chosen, unsure, sure]
    plan = [status, chart, shown, ticks, again, ics, ask, tips]
    for shows in (*([place.select] if isinstance(place, gr.Tab) else []), page.course.change):
        shows(tab.show, [filled, *where], [*form, filled, *plan], js=clock.ASK, **quick)
    make.click(tab.make, [*form, *where], plan, js=clock.ASK, **quick)
    again.click(tab.again, where, plan, js=clock.ASK, **quick)
    ticks.input(tab.tick, [ticks, *where], plan, js=clock.ASK, trigger_mode="always_last", **quick)
    ics.click(tab.ics, where, [file, status], js=clock.ASK, **quick).then(None, file, None, js=downloads.SAVE, **quick)
    ask.click(
        tab.tips,
        [page.model, *where],
        [tips, status],
        js=clock.ASK,
        concurrency_limit=page.concurrency,
        concurrency_id="engine",
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="once",
    )
    gr.api(
        tab.study_plan,
        api_name="study_plan",
        api_description="A day-by-day study plan that fits the hours. Nothing is kept.",
        queue=False,
    )


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    page: Page

    def show(self, filled: str, course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
        """The plan; and the form with the course's topics and, when a course is first shown, what was asked for.

        ``filled`` is the course that the form is filled for: what a student has typed since then stays.
        """
        names = say("planner.weekdays", request).split()
        weekdays = gr.Dropdown([(name, place) for place, name in enumerate(names)], multiselect=True)
        known = self.page.courses.get(course or "")
        choices = topics.choices(known, request)
        fresh: dict[str, Any] = {} if filled == course else {"value": []}
        lists = [gr.Dropdown(choices, multiselect=True, **fresh) for _ in range(3)]
        form: list[Any] = [gr.skip(), gr.skip(), gr.skip(), weekdays, gr.skip(), *lists, course or ""]
        if known is None:
            return *form, *_nothing(_problem(say("planner.no_course", request)))
        try:
            kept = plans.load(self.page.store, self.page.who(student, request), known.id)
        except IrisError as error:
            return *form, *_nothing(_problem(str(error)))
        if kept is None:
            return *form, *_nothing("")
        if filled != course:
            form = [*_form(known, kept.asked, choices, weekdays), course]
        return *form, *self._plan(known, kept, zone, request)

    def make(
        self,
        exam: str | None,
        hours: float | None,
        begin: str,
        weekdays: Sequence[int],
        off: str,
        wanted: Any,
        unsure: Any,
        sure: Any,
        course: str | None,
        student: Any,
        zone: str,
        request: gr.Request,
    ) -> Update:
        """Make the plan that the form asks for."""

        def made(known: Course, who: str) -> Kept:
            chosen = topics.chosen(known, wanted) or [topic.id for topic in known.topics]
            confidence = dict.fromkeys(chosen, MIDDLE)
            confidence |= dict.fromkeys(topics.chosen(known, sure), SURE)
            confidence |= dict.fromkeys(topics.chosen(known, unsure), UNSURE)
            words = [text for text in re.split(r"[,;\s]+", off or "") if text]
            asked = tool.from_words(
                exam or "", 0 if hours is None else hours, confidence, words, known, begin or "17:00"
            )
            asked = Asked(
                asked.exam,
                asked.hours,
                asked.topics,
                asked.days_off,
                tuple(sorted({*asked.weekdays_off, *(int(day) for day in weekdays or ())})),
                asked.begin,
            )
            return tool.make(self.page.store, who, known, asked, now(), days.zone(zone))

        return self._changed(made, course, student, zone, request)

    def again(self, course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
        """Plan anew from today."""
        return self._changed(
            lambda known, who: tool.replan(self.page.store, who, known, now(), days.zone(zone)),
            course,
            student,
            zone,
            request,
        )

    def tick(self, done: Sequence[str], course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
        """Tick days off, or take it back."""

        def ticked(known: Course, who: str) -> Kept:
            kept = plans.load(self.page.store, who, known.id)
            if kept is None:
                raise plans.no_plan()
            change = {
                day: day.isoformat() in done
                for day, todo in kept.plan.days().items()
                if all(session.done for session in todo) != (day.isoformat() in done)
            }
            return plans.tick(self.page.store, who, known.id, change, now())

        return self._changed(ticked, course, student, zone, request)

    def ics(self, course: str | None, student: Any, zone: str, request: gr.Request) -> tuple[Any, Any]:
        """The plan as a calendar file."""
        known = self.page.courses.get(course or "")
        try:
            kept = plans.load(self.page.store, self.page.who(student, request), known.id) if known else None
            if known is None or kept is None:
                raise plans.no_plan()
        except IrisError as error:
            return gr.skip(), _problem(str(error))
        kinds = {kind: say(f"planner.{kind}", request) for kind in ("learn", "review", "mock")}
        data = tool.ics(kept, known, kinds, say("planner.exam", request), now(), days.zone(zone))
        name = downloads.name(f"iris {known.id}", "ics")
        return downloads.file(name, "text/calendar", data.decode()), gr.skip()

    def tips(
        self, model: str, course: str | None, student: Any, zone: str, request: gr.Request
    ) -> Generator[tuple[Any, Any], None, None]:
        """The model's tips, as they are written; kept with the plan."""
        text = ""
        try:
            known, who = self.page.courses.get(course or ""), self.page.who(student, request)
            kept = plans.load(self.page.store, who, known.id) if known else None
            if known is None or kept is None:
                raise plans.no_plan()
            yield "", running.status(say("planner.writing", request))
            engine = yield from running.opened(
                self.page.models.open(model), lambda text: (gr.skip(), running.status(text))
            )
            today = days.day_of(now(), days.zone(zone))
            for text in tool.tips(engine, known, kept.plan, today, language(request)):
                yield text, gr.skip()
            plans.keep_tips(self.page.store, who, known.id, kept.revision, text)
            yield gr.skip(), ""
        except Exception as error:
            yield gr.skip(), _problem(running.problem(error, "tips could not be written"))

    def study_plan(
        self,
        exam_date: str,
        hours_per_day: float,
        topics: dict[str, float] | None = None,
        days_off: list[str] | None = None,
        course: str = "",
        start_date: str = "",
    ) -> dict[str, Any]:
        """Plan the days up to an exam.

        Args:
            exam_date: the day of the exam, YYYY-MM-DD.
            hours_per_day: hours of study on each day that is not off, more than 0 and at most 24.
            topics: confidence (0 to 1) by topic id; none: all topics of the course.
            days_off: dates (YYYY-MM-DD) or weekdays ("sunday").
            course: id of the course; empty: the first one.
            start_date: the first day, YYYY-MM-DD; empty: today, UTC.

        Returns:
            ``days`` (each with ``date``, ``minutes`` and ``sessions``), ``left_out`` and ``shortened`` topics with
            reasons, and predicted ``recall`` by topic on the day of the exam.
        """
        try:
            known = self.page.courses.get(course or next(iter(self.page.courses), ""))
            if known is None:
                raise IrisError(f"There is no course {course!r}. Known are: {', '.join(self.page.courses) or 'none'}.")
            asked = tool.from_words(exam_date, hours_per_day, topics, days_off or [], known)
            today = plan_check.day(start_date, "The first day") if start_date else days.day_of(now(), days.zone("UTC"))
            return tool.as_json(known, tool.preview(known, asked, today))
        except IrisError as error:
            raise running.refused(error) from error

    def _changed(
        self, change: Callable[[Course, str], Kept], course: str | None, student: Any, zone: str, request: gr.Request
    ) -> Update:
        """What ``change`` makes of the plan; where it cannot, why, and the plan as it is."""
        known = self.page.courses.get(course or "")
        if known is None:
            return _nothing(_problem(say("planner.no_course", request)))
        try:
            who = self.page.who(student, request)
        except IrisError as error:
            return _problem(str(error)), *_skipped(7)
        try:
            return self._plan(known, change(known, who), zone, request)
        except IrisError as error:
            return _problem(str(error)), *_skipped(7)

    def _plan(self, course: Course, kept: Kept, zone: str, request: gr.Request) -> Update:
        plan, today = kept.plan, days.day_of(now(), days.zone(zone))
        late = tool.missed(plan, today)
        lines = [f"<p>{html.escape(view.summary(plan, request))}</p>"]
        if late:
            lines.append(f'<p class="problem">{html.escape(say("planner.missed_days", request, number=len(late)))}</p>')
        lines.append(view.shortfall(course, plan, request))
        todo = plan.days()
        choices = [(view.day_line(course, day, planned, request), day.isoformat()) for day, planned in todo.items()]
        done = [day.isoformat() for day, planned in todo.items() if all(session.done for session in planned)]
        shown = gr.Button(visible=True)
        return (
            "".join(lines),
            view.chart(plan, request),
            view.table(course, plan, today, request),
            gr.CheckboxGroup(choices, value=done, visible=True),
            shown,
            shown,
            shown,
            kept.tips,
        )


def _form(course: Course, asked: Asked, choices: list[tuple[str, str]], weekdays: gr.Dropdown) -> list[Any]:
    """What the form holds for a plan that was made."""
    chosen = [topic.id for topic in course.topics if topic.id in asked.topics]
    return [
        asked.exam.isoformat(),
        asked.hours,
        asked.begin.isoformat(timespec="minutes"),
        gr.Dropdown(weekdays.choices, value=list(asked.weekdays_off), multiselect=True),
        ", ".join(day.isoformat() for day in asked.days_off),
        gr.Dropdown(choices, value=[] if len(chosen) == len(course.topics) else chosen, multiselect=True),
        gr.Dropdown(choices, value=[name for name in chosen if asked.topics[name] <= UNSURE], multiselect=True),
        gr.Dropdown(choices, value=[name for name in chosen if asked.topics[name] >= SURE], multiselect=True),
    ]


def _nothing(status: str) -> Update:
    """No plan."""
    hidden = gr.Button(visible=False)
    return status, "", "", gr.CheckboxGroup([], value=[], visible=False), hidden, hidden, hidden, ""


def _skipped(number: int) -> Update:
    return tuple(gr.skip() for _ in range(number))


def _problem(text: str) -> str:
    return running.status(text, kind="problem")
