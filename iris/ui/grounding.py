"""Answers from notes in Study Chat: which notes, asking, and the answer as the page and the API show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import gradio as gr

from iris.engine import Engine
from iris.errors import RequestError
from iris.notes import library
from iris.notes.cite import Citation
from iris.notes.library import Scope
from iris.prompts import Turn
from iris.tools import grounded, study_chat
from iris.tools.grounded import GroundedAnswer, added
from iris.tools.study_chat import Pace
from iris.ui.page import Page
from iris.ui.passages import link, marked, text
from iris.ui.strings import say, t

USES = ("none", "course", "mine", "both")


def selector() -> gr.Dropdown:
    """What answers lean on; one of ``USES``."""
    return gr.Dropdown(
        [(t(f"notes.from_{use}"), use) for use in USES],
        value=USES[0],
        label=t("notes.answer_from"),
        show_label=False,
        container=False,
        elem_id="iris-notes-use",
        filterable=False,
        scale=0,
    )


@dataclass(frozen=True, slots=True)
class Grounding:
    """Answers from the notes of ``page``."""

    page: Page

    def scope(self, use: str | None, course: str | None, who: str, request: gr.Request | None) -> Scope | None:
        """The notes to answer the student ``who`` from, empty for nobody; None for none.

        Raises:
            RequestError: there is nothing to answer from.
        """
        if use not in USES[1:]:
            return None
        if use == "mine" and not any(note.chosen for note in library.own(self.page.store, who, course or "")):
            raise RequestError(say("notes.none_chosen", request))
        if use != "mine" and course not in self.page.courses:
            raise RequestError(say("notes.no_course", request))
        return Scope(course or "", who if use != "course" and who else None, shared=use != "mine")

    def stream(
        self, engine: Engine, question: str, turns: Sequence[Turn], scope: Scope, pace: Pace
    ) -> Iterator[GroundedAnswer]:
        """See ``grounded.stream``."""
        grounds = grounded.look_up(self.page.store, scope, study_chat.checked(question), turns)
        yield from grounded.stream(engine, question, turns, grounds=grounds, pace=pace)


def as_markdown(answer: GroundedAnswer, request: gr.Request | None) -> str:
    """The answer as the page shows it, with links that open the passages. All that Iris added is marked as such, so
    that ``grounded.plain`` finds what the model wrote."""
    passages = answer.grounds.passages

    def number(citation: Citation) -> str:
        return f"[[{citation.number}]]({link(passages[citation.passage], citation.marks)})"

    parts = [answer.marked(lambda citation: added(f" {number(citation)}"))]
    if answer.grounds.missing and answer.text:
        parts.insert(0, added(f"**{text(say('notes.missing', request))}**\n\n"))
    if answer.quotes:
        quotes = "\n>\n".join(f"> {marked(quote.text, ())} {number(quote.citation)}" for quote in answer.quotes)
        parts.append(added(f"\n\n{text(say('notes.unproven', request))}\n\n{quotes}"))
    if answer.answer.usage and answer.sources:
        sources = " · ".join(
            f"[&#91;{number}&#93; {text(passage.label)}]({link(passage, citation.marks)})"
            for number, citation, passage in answer.sources
        )
        parts.append(added(f"\n\n{text(say('notes.sources', request))} {sources}"))
    return "".join(parts)


def as_text(answer: GroundedAnswer) -> str:
    """The answer for a program: with reference numbers, and at the end what they stand for."""
    parts = [answer.marked(lambda citation: f" [{citation.number}]")]
    if answer.grounds.missing and answer.text:
        parts.insert(0, say("notes.missing", None) + "\n\n")
    if answer.quotes:
        quotes = [f"> {quote.text} [{quote.citation.number}]" for quote in answer.quotes]
        parts.append("\n\n" + "\n".join([say("notes.unproven", None), *quotes]))
    if answer.answer.usage and answer.sources:
        parts += ["\n", *(f"\n[{number}] {passage.label}" for number, _, passage in answer.sources)]
    return "".join(parts)
