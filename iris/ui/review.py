"""The Review tab: the cards that are due, one after the other, and how far the student has come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import gradio as gr
from gradio.context import Context

from iris.courses import Course
from iris.errors import CardError, IrisError
from iris.store import now
from iris.study import anki, cards, days, memory, plans, progress, spreadsheet
from iris.study.cards import Card
from iris.ui import clock, downloads, running
from iris.ui import review_view as view
from iris.ui.formulas import LATEX
from iris.ui.page import Page
from iris.ui.strings import say, t

GRADES = ("again", "hard", "good", "easy")
Update = tuple[Any, ...]

# What the page can do by itself: turning a card over needs no server.
_TURN = "() => { const same = {__type__: 'update'}; return [%s]; }"


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    tab, place = _Tab(page), Context.block
    with gr.Column(elem_id="iris-review", elem_classes="iris-tool"):
        counted = gr.HTML("", elem_id="iris-review-counts", elem_classes="iris-line")
        with gr.Column(elem_id="iris-card", visible=False) as face:
            front = gr.Markdown("", latex_delimiters=LATEX, elem_id="iris-card-front")
            back = gr.Markdown("", latex_delimiters=LATEX, visible=False, elem_id="iris-card-back")
        with gr.Row(elem_id="iris-turn", visible=False) as turning:
            turn = gr.Button(t("review.turn"), variant="primary", elem_id="iris-card-turn")
        with gr.Row(elem_id="iris-grades", visible=False) as grading:
            grades = [
                gr.Button(t(f"review.{name}"), elem_id=f"iris-grade-{number}") for number, name in enumerate(GRADES, 1)
            ]
        status = gr.HTML("", elem_id="iris-review-status", elem_classes="iris-line")
        with gr.Row(visible=False, elem_id="iris-card-tools") as tools:
            edit = gr.Button(t("review.edit"), size="sm", scale=0)
            delete = gr.Button(t("review.delete"), size="sm", scale=0)
        with gr.Accordion(t("review.write"), open=False, elem_id="iris-card-write") as writing:
            topic = gr.Dropdown([], value=None, label=t("review.topic"))
            new_front = gr.Textbox(label=t("review.front"), lines=2, elem_id="iris-card-new-front")
            new_back = gr.Textbox(label=t("review.back"), lines=3, elem_id="iris-card-new-back")
            with gr.Row():
                keep = gr.Button(t("review.keep"), variant="primary", size="sm", scale=0)
                change = gr.Button(t("review.change"), size="sm", scale=0, visible=False)
        with gr.Accordion(t("review.progress"), open=True):
            exam = gr.Textbox(
                "", label=t("review.exam"), max_lines=1, elem_id="iris-review-exam", elem_classes="iris-date"
            )
            mastered = gr.HTML("", elem_id="iris-mastery")
        with gr.Row():
            to_anki = gr.Button(t("review.anki"), size="sm", scale=0)
            to_csv = gr.Button(t("review.csv"), size="sm", scale=0)
        # Which card is shown, and since when: {"card", "seen", "shown"}.
        current = gr.Textbox("", visible="hidden", container=False)
        file, zone = downloads.component(), clock.component()

    quick = running.QUICK
    where = [page.course, page.student, zone]
    card = [counted, face, front, back, turning, grading, *grades, tools, current, status]
    for shows in (*([place.select] if isinstance(place, gr.Tab) else []), page.course.change):
        shows(tab.show, where, card, js=clock.ASK, **quick)
        shows(tab.progress, [exam, *where], [exam, mastered, topic], js=clock.ASK, **quick)
    seen = "{...same, visible: true}"
    turn.click(None, None, [back, turning, grading], js=_TURN % f"{seen}, {{...same, visible: false}}, {seen}", **quick)
    for number, button in enumerate(grades, 1):
        button.click(tab.grade(number), [current, *where], card, js=clock.ASK, **quick)
    exam.change(tab.progress, [exam, *where], [exam, mastered, topic], js=clock.ASK, **quick)
    edit.click(
        tab.edit, [current, *where], [writing, topic, new_front, new_back, change, status], js=clock.ASK, **quick
    )
    delete.click(tab.delete, [current, *where], card, js=clock.ASK, **quick)
    words = [new_front, new_back, topic]
    keep.click(tab.keep, [*words, *where], [*card, new_front, new_back, change], js=clock.ASK, **quick)
    change.click(tab.change, [current, *words, *where], [*card, new_front, new_back, change], js=clock.ASK, **quick)
    for button, kind in ((to_anki, "apkg"), (to_csv, "csv")):
        made = button.click(tab.export(kind), where, [file, status], js=clock.ASK, **quick)
        made.then(None, file, None, js=downloads.SAVE, **quick)


@dataclass(frozen=True, slots=True)
class _Shown:
    """The card on the page: its id, when it had been reviewed last, and since when it is shown."""

    card: str
    seen: int | None
    shown: int

    def taken(self) -> int:
        """How long it has been looked at, in milliseconds."""
        return round(time.time() * 1000) - self.shown


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    page: Page

    def show(self, course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
        """The next card that is due."""
        try:
            known = self._course(course, request)
            return self._next(known, self.page.who(student, request), zone, request)
        except IrisError as error:
            return self._problem(error)

    def grade(self, rating: int) -> Callable[..., Update]:
        """The handler that notes an answer."""

        def handler(current: str, course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
            try:
                known, who, shown = self._course(course, request), self.page.who(student, request), _read(current)
                after = cards.grade(
                    self.page.store, who, shown.card, rating, now(), seen=shown.seen, duration=shown.taken()
                )
                line = say("review.comes_back", request, time=view.span(after.memory.due - now(), request))
                return self._next(known, who, zone, request, line)
            except IrisError as error:
                return self._problem(error)

        return handler

    def delete(self, current: str, course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
        """Delete the card that is shown."""
        try:
            known, who = self._course(course, request), self.page.who(student, request)
            cards.delete(self.page.store, who, _read(current).card)
            return self._next(known, who, zone, request, say("review.deleted", request))
        except IrisError as error:
            return self._problem(error)

    def keep(
        self, front: str, back: str, topic: str | None, course: str | None, student: Any, zone: str, request: gr.Request
    ) -> Update:
        """Keep a card written by hand."""
        try:
            known, who = self._course(course, request), self.page.who(student, request)
            made = cards.make(known.id, topic or "", front or "", back or "", "hand", now())
            new = cards.add(self.page.store, who, [made])
            line = say("review.kept" if new else "review.there", request)
            return *self._next(known, who, zone, request, line), "", "", gr.Button(visible=False)
        except IrisError as error:
            return *self._problem(error), *_skipped(3)

    def edit(self, current: str, course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
        """The text of the card that is shown, to be changed."""
        try:
            card = cards.get(self.page.store, self.page.who(student, request), _read(current).card)
        except IrisError as error:
            return *_skipped(5), _problem(str(error))
        return gr.Accordion(open=True), card.topic or None, card.front, card.back, gr.Button(visible=True), ""

    def change(
        self,
        current: str,
        front: str,
        back: str,
        topic: str | None,
        course: str | None,
        student: Any,
        zone: str,
        request: gr.Request,
    ) -> Update:
        """Change the card that is shown."""
        try:
            known, who = self._course(course, request), self.page.who(student, request)
            card = _read(current).card
            cards.edit(self.page.store, who, card, front=front or "", back=back or "", topic=topic or "", at=now())
            return (
                *self._next(known, who, zone, request, say("review.changed", request)),
                "",
                "",
                gr.Button(visible=False),
            )
        except IrisError as error:
            return *self._problem(error), *_skipped(3)

    def progress(self, exam: str | None, course: str | None, student: Any, zone: str, request: gr.Request) -> Update:
        """Mastery, and recall on the day of the exam: the one given, else the plan's, else today."""
        try:
            known, who = self._course(course, request), self.page.who(student, request)
            kept = None if exam else plans.load(self.page.store, who, known.id)
            day = date.fromisoformat(exam[:10]) if exam else kept.asked.exam if kept else None
        except IrisError as error:
            return gr.skip(), _problem(str(error)), gr.skip()
        except ValueError:
            return gr.skip(), _problem(say("review.no_date", request, text=exam)), gr.skip()
        where, at = days.zone(zone), now()
        moment = at if day is None else max(at, days.start_of(day, where) + 9 * view.HOUR)
        reviewed = cards.reviewed(self.page.store, who, known.id)
        name = say("review.recall_exam", request, day=day) if day else say("review.recall_now", request)
        shown = view.progress(
            known,
            progress.by_topic(self.page.store, who, known.id, at, reviewed),
            reviewed.recall(moment),
            name,
            request,
        )
        topics = gr.Dropdown([(topic.title, topic.id) for topic in known.topics])
        return day.isoformat() if day and not exam else gr.skip(), shown, topics

    def export(self, kind: str) -> Callable[..., tuple[Any, Any]]:
        """The handler that makes a file of the course's cards."""

        def handler(course: str | None, student: Any, zone: str, request: gr.Request) -> tuple[Any, Any]:
            try:
                known, who = self._course(course, request), self.page.who(student, request)
                kept = cards.every(self.page.store, who, known.id)
                if not kept:
                    raise CardError(say("review.none", request))
            except IrisError as error:
                return "", _problem(str(error))
            name = downloads.name(f"iris {known.id}", kind)
            if kind == "csv":
                # The mark tells spreadsheets that the file is UTF-8.
                return downloads.file(name, "text/csv", "\ufeff" + spreadsheet.table(kept)), ""
            data = anki.package(kept, {known.id: known.title}, {topic.id: topic.title for topic in known.topics})
            return downloads.binary(name, "application/octet-stream", data), ""

        return handler

    def _course(self, course: str | None, request: gr.Request) -> Course:
        known = self.page.courses.get(course or "")
        if known is None:
            raise CardError(say("planner.no_course", request))
        return known

    def _next(self, course: Course, student: str, zone: str, request: gr.Request, line: str = "") -> Update:
        store, where, at = self.page.store, days.zone(zone), now()
        counted = view.counts(cards.counts(store, student, course.id, at, where), at, request)
        due = cards.due(store, student, course.id, at, where)
        if not due:
            text = "" if line else say("review.nothing_due", request)
            return counted, *_away(), running.status(" ".join(filter(None, [line, text])))
        return counted, *self._face(due[0], course, at, request), running.status(line)

    def _face(self, card: Card, course: Course, at: int, request: gr.Request) -> Update:
        """Everything that shows a card, its answer still hidden."""
        shown = json.dumps({"card": card.id, "seen": card.memory.reviewed, "shown": round(time.time() * 1000)})
        spans = (memory.after(card.memory, rating, at, fuzz=False).due - at for rating in range(1, 5))
        names = [
            gr.Button(f"{say(f'review.{name}', request)} · {view.span(span, request)}")
            for name, span in zip(GRADES, spans, strict=True)
        ]
        there, away = gr.Column(visible=True), gr.Row(visible=False)
        return (
            there,
            card.front,
            gr.Markdown(card.back, visible=False),
            gr.Row(visible=True),
            away,
            *names,
            gr.Row(visible=True),
            shown,
        )

    def _problem(self, error: IrisError) -> Update:
        return *_skipped(12), _problem(str(error))


def _away() -> Update:
    """No card."""
    hidden = gr.Row(visible=False)
    names = [gr.skip() for _ in GRADES]
    return gr.Column(visible=False), "", gr.Markdown("", visible=False), hidden, hidden, *names, hidden, ""


def _read(current: str) -> _Shown:
    try:
        row = json.loads(current)
        return _Shown(str(row["card"]), row["seen"], int(row["shown"]))
    except (ValueError, TypeError, KeyError):
        raise CardError("There is no card on the page. Reload it.") from None


def _skipped(number: int) -> Update:
    return tuple(gr.skip() for _ in range(number))


def _problem(text: str) -> str:
    return running.status(text, kind="problem")
