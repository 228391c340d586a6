"""The Compare tab: two models answer side by side, the student votes, and only then learns their names.

Below it stand the votes of all students and stored evaluation results. Programs read the counts at ``/compare_votes``.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from iris.engine import Engine
from iris.errors import IrisError
from iris.results import MEASURES, Results, measure_of
from iris.study.votes import CHOICES, Score
from iris.tools import compare
from iris.tools.compare import Sides
from iris.ui import charts, downloads, running
from iris.ui.page import Page
from iris.ui.strings import say, t

log = logging.getLogger(__name__)

UPDATE_S = 0.25
"""Least time between two updates of a page while the answers are written."""

QUALITIES = ("mcq.letter", "course.bits_per_byte", "course.bertscore_f1", "domain.key_facts", "general.key_facts")
_LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    tab = _Tab(page)
    with gr.Column(elem_id="iris-compare"):
        gr.Markdown(t("compare.intro"))
        with gr.Row():
            question = gr.Textbox(
                label=t("compare.question"), lines=2, max_lines=6, elem_id="iris-compare-question", scale=3
            )
            other = gr.Dropdown(
                page.models.choices,
                value=_other(page, page.models.default),
                label=t("compare.against"),
                elem_id="iris-compare-other",
                filterable=False,
                scale=1,
            )
        with gr.Row():
            ask = gr.Button(t("compare.ask"), variant="primary", elem_id="iris-compare-ask")
            stop = gr.Button(t("compare.stop"), elem_id="iris-compare-stop", visible=False)
        status = gr.HTML("", elem_id="iris-compare-status", js_on_load=None)
        with gr.Row(equal_height=False):
            sides = []
            for letter in ("A", "B"):
                with gr.Column(min_width=260):
                    name = gr.HTML(_heading(letter), elem_id=f"iris-compare-name-{letter.lower()}", js_on_load=None)
                    text = gr.Markdown(elem_id=f"iris-compare-{letter.lower()}", latex_delimiters=_LATEX, min_height=80)
                    sides.append((name, text))
        with gr.Row():
            buttons = [
                gr.Button(t(f"compare.{choice}"), interactive=False, elem_id=f"iris-vote-{choice}")
                for choice in CHOICES
            ]
        with gr.Accordion(t("compare.votes"), open=False):
            scores = gr.HTML("", elem_id="iris-compare-scores", js_on_load=None)
            with gr.Row():
                saved = [
                    (gr.Button(t(f"compare.{key}"), size="sm", elem_id=f"iris-compare-{key}"), name)
                    for key, name in (("save_counts", "votes.csv"), ("save_own", "my-votes.csv"))
                ]
            file = downloads.component()
        with gr.Accordion(t("compare.measured"), open=False):
            chosen = gr.Dropdown([], label=t("compare.results"), elem_id="iris-compare-results", filterable=False)
            plots = gr.HTML("", elem_id="iris-compare-plots", js_on_load=None)
    duel = gr.State("")
    (left_name, left), (right_name, right) = sides
    shown = [left_name, left, right_name, right, status, ask, stop, duel, *buttons]
    quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    asked = gr.on(
        [ask.click, question.submit],
        tab.ask,
        [question, page.model, other, page.student],
        shown,
        trigger_mode="once",
        concurrency_limit=page.concurrency,
        concurrency_id="engine",
        **quick,
    )
    stop.click(tab.stopped, None, [status, ask, stop], cancels=[asked], queue=False, **quick)
    for button, choice in zip(buttons, CHOICES, strict=True):
        button.click(
            tab.voting(choice), [duel, page.student], [left_name, right_name, status, scores, *buttons], **quick
        )
    for button, name in saved:
        button.click(tab.saving(name), page.student, file, **quick).then(None, file, None, js=downloads.SAVE, **quick)
    page.app.load(tab.opened, None, [scores, chosen, plots], **quick)
    chosen.input(tab.plotted, chosen, plots, **quick)
    page.model.change(lambda model, other: _other(page, model, other), [page.model, other], other, **quick)
    gr.api(
        tab.compare_votes,
        api_name="compare_votes",
        api_description="How all students voted: for each pair of models, how often which was preferred.",
        queue=False,
    )


def _other(page: Page, model: str, current: str | None = None) -> str | None:
    """The model to compare with: the current one unless it is the selected one."""
    if current and current != model:
        return current
    return next((name for _, name in page.models.choices if name != model), None)


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    page: Page

    def ask(
        self, question: str, model: str, other: str | None, student: object, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Both answers as they grow; then the votes are opened."""
        shut = [gr.Button(interactive=False)] * len(CHOICES)
        kept = [gr.skip()] * len(CHOICES)
        busy = (gr.Button(interactive=False), gr.Button(visible=True))
        ended = (gr.Button(interactive=True), gr.Button(visible=False))
        line = running.status(say("compare.working", request))
        yield (_heading("A"), "", _heading("B"), "", line, *busy, "", *shut)
        try:
            last = Sides()
            who = self.page.who(student, request)
            for step in self._sides(question or "", model, other or "", who):
                if isinstance(step, str):
                    yield (*[gr.skip()] * 4, running.status(step), *[gr.skip()] * 3, *kept)
                    continue
                place = step.left.place or step.right.place
                said = running.status(say("compare.place", request, place=place)) if place else gr.skip()
                yield (
                    gr.skip(),
                    step.left.text if step.left.text != last.left.text else gr.skip(),
                    gr.skip(),
                    step.right.text if step.right.text != last.right.text else gr.skip(),
                    said,
                    *[gr.skip()] * 3,
                    *kept,
                )
                last = step
            ready = [gr.Button(interactive=True)] * len(CHOICES)
            line = running.status(say("compare.choose", request))
            yield (*[gr.skip()] * 4, line, *ended, last.duel, *ready)
        except Exception as error:
            line = running.status(_problem(error, request), kind="problem")
            yield (*[gr.skip()] * 4, line, *ended, "", *shut)

    def _sides(self, question: str, model: str, other: str, who: str) -> Generator[Sides | str, None, None]:
        """What the student is told while the models are opened, then both answers."""
        pair = compare.placed((self.page.models.known(model), self.page.models.known(other)))
        engines: list[Engine] = []
        for name in pair:
            # Which of the two is being opened would tell their places.
            opening = self.page.models.open(name)
            while True:
                try:
                    next(opening)
                except StopIteration as done:
                    engines.append(done.value)
                    break
                yield "…"
        yield from compare.stream(
            self.page.store, who, question, pair, (engines[0], engines[1]), pace=lambda _: UPDATE_S
        )

    def stopped(self, request: gr.Request) -> tuple[Any, ...]:
        return running.status(say("compare.stopped", request)), gr.Button(interactive=True), gr.Button(visible=False)

    def voting(self, choice: str) -> Any:
        def vote(duel: str, student: object, request: gr.Request) -> tuple[Any, ...]:
            shut = [gr.Button(interactive=False)] * len(CHOICES)
            try:
                found = compare.vote(self.page.store, self.page.who(student, request), duel, choice)
            except IrisError as error:
                return gr.skip(), gr.skip(), running.status(str(error), kind="problem"), gr.skip(), *shut
            names = [self._title(found.left_model), self._title(found.right_model)]
            return (
                _heading("A", names[0]),
                _heading("B", names[1]),
                running.status(say("compare.thanks", request)),
                self._scores(request),
                *shut,
            )

        return vote

    def saving(self, name: str) -> Any:
        def save(student: object, request: gr.Request) -> str:
            try:
                text = compare.export(self.page.store, self.page.who(student, request))[name]
            except IrisError as error:
                raise gr.Error(str(error), print_exception=False) from error
            return downloads.file(name, "text/csv", text)

        return save

    def opened(self, request: gr.Request) -> tuple[Any, ...]:
        """What the lower part shows when the page is opened."""
        found, problems = compare.evaluations()
        first = next(iter(found), None)
        choices = [(f"{results.title}, {results.date}", name) for name, results in found.items()]
        plots = self._plots(found[first], request) if first else running.status(say("compare.no_results", request))
        wrong = "".join(running.status(problem, kind="problem") for problem in problems)
        return self._scores(request), gr.Dropdown(choices, value=first, visible=bool(found)), wrong + plots

    def plotted(self, name: str, request: gr.Request) -> str:
        found, _ = compare.evaluations()
        if name not in found:
            return running.status(say("compare.no_results", request))
        return self._plots(found[name], request)

    def _plots(self, results: Results, request: gr.Request) -> str:
        def title(name: str) -> str:
            task, _, bare = name.rpartition(".")
            called = say(f"measures.{bare}", request) if bare in MEASURES else bare
            return f"{task}: {called}" if task else called

        names = [name for name in results.measures if measure_of(name).better]
        quality = next((name for name in QUALITIES if name in results.measures), "")
        pace = next((name for name in ("decode", "batch") if name in results.measures), "")
        about = f"{results.machine}, {results.date}. {say('compare.intervals', request)}"
        notes = "".join(f"<p>{html.escape(line)}</p>" for line in (about, *results.notes))
        return notes + charts.scatter(results, quality, pace, title) + charts.intervals(results, names, title)

    def _scores(self, request: gr.Request) -> str:
        scores = compare.scores(self.page.store)
        if not scores:
            return running.status(say("compare.no_votes", request))
        head = "".join(
            f"<th>{html.escape(say(f'compare.{key}', request))}</th>"
            for key in ("models", "first_wins", "second_wins", "both", "neither")
        )
        lines = "".join(self._score(score) for score in scores)
        return f'<table class="iris-scores"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'

    def _score(self, score: Score) -> str:
        names = f"{self._title(score.first)} / {self._title(score.second)}"
        cells = (score.first_wins, score.second_wins, score.both, score.neither)
        return f"<tr><td>{html.escape(names)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    def _title(self, model: str) -> str:
        return {name: title for title, name in self.page.models.choices}.get(model, model)

    def compare_votes(self) -> list[dict[str, Any]]:
        """The counts of every pair of models, the pair with the most votes first."""
        return [asdict(score) for score in compare.scores(self.page.store)]


def _heading(letter: str, model: str = "") -> str:
    name = f": {html.escape(model)}" if model else ""
    return f"<h3>{letter}{name}</h3>"


def _problem(error: Exception, request: gr.Request) -> str:
    if isinstance(error, IrisError):
        return str(error)
    log.exception("a comparison failed")
    return say("compare.crashed", request)
