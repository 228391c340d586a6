"""Study Chat from notes: passages for the question, the answer as it is written, citations where they are true."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from iris import prompts
from iris.engine import Engine
from iris.notes import Passage, cite
from iris.notes.cite import Citation, Citer
from iris.notes.library import Scope
from iris.notes.search import Found, search
from iris.notes.sentences import sentences
from iris.notes.words import content_words, fold, stem, tokens
from iris.prompts import Quoted, Turn
from iris.store import Store
from iris.tools import study_chat
from iris.tools.study_chat import Answer, Pace

MOST_PASSAGES = 4
MOST_TOKENS = 700
"""Of all passages together: half a second of reading for the embedded model on two cores."""


MOST_QUOTES = 2


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the notes have on a question: passages in the order of the notes, and whether they cover it.

    A question without content words ("Why?", in a new conversation) has neither.
    """

    passages: tuple[Passage, ...] = ()
    covered: bool = False
    asked: bool = False

    @property
    def missing(self) -> bool:
        """Whether something was asked for that the notes do not cover."""
        return self.asked and not self.covered


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of the notes, to the letter, and where it stands."""

    text: str
    citation: Citation


@dataclass(frozen=True, slots=True)
class GroundedAnswer:
    """The answer so far. ``text`` is what the model wrote, without reference numbers of its own; ``citations`` have
    their places in it. A finished answer that could not be cited anywhere has ``quotes``: what the notes themselves
    say. ``answer`` has place in line, notices and usage."""

    text: str
    citations: tuple[Citation, ...]
    quotes: tuple[Quote, ...]
    grounds: Grounds
    answer: Answer

    @property
    def sources(self) -> tuple[tuple[int, Citation, Passage], ...]:
        """The cited passages by their number, each with the citation that it is first cited for."""
        first: dict[int, Citation] = {}
        for citation in (*self.citations, *(quote.citation for quote in self.quotes)):
            first.setdefault(citation.number, citation)
        return tuple((number, found, self.grounds.passages[found.passage]) for number, found in sorted(first.items()))

    def marked(self, mark: Callable[[Citation], str]) -> str:
        """The text with ``mark`` of each citation behind its sentence."""
        parts, at = [], 0
        for citation in self.citations:
            parts += [self.text[at : citation.at], mark(citation)]
            at = citation.at
        return "".join([*parts, self.text[at:]])


def look_up(store: Store, scope: Scope, question: str, history: Sequence[Turn] = ()) -> Grounds:
    """Find passages for a question, which may go on with what was asked before it."""
    query, found = question, search(store, question, scope, limit=2 * MOST_PASSAGES)
    if _goes_on(question):
        for turn in reversed(history):
            query = f"{turn.question}\n{query}"
            if content_words(turn.question):
                found = search(store, query, scope, limit=2 * MOST_PASSAGES)
                break
    return Grounds(_chosen(found), found.covered, found.words > 0)


def stream(
    engine: Engine,
    question: str,
    history: Sequence[Turn] = (),
    *,
    grounds: Grounds,
    pace: Pace | None = None,
) -> Generator[GroundedAnswer, None, None]:
    """Ask, and yield the answer as it grows, its citations with it: each text begins with the one before.

    Where the notes do not cover the question, the model answers without them, and nothing is cited.

    Raises:
        RequestError, EngineError: see ``study_chat.stream``.
    """
    passages = that_fit(engine, grounds.passages) if grounds.covered else ()
    grounds = replace(grounds, passages=passages)
    sources = [cite.Source(passage.text, f"{passage.title}. {passage.heading}") for passage in passages]
    citer = Citer(sources)
    quoted = [Quoted(passage.label, passage.text) for passage in passages]
    turns = _recent(engine, history, question, quoted) if quoted else tuple(history)
    for answer in study_chat.stream(engine, question, turns, quoted=quoted, pace=pace):
        finished = answer.usage is not None
        text = _without_numbers(answer.text, finished=finished)
        citations = citer.cite(text, finished=finished)
        quotes = _quotes(question, passages) if finished and not citations else ()
        if finished and len(turns) < len(history):
            answer = replace(answer, notices=(*answer.notices, _forgotten(len(history) - len(turns))))
        yield GroundedAnswer(text, citations, quotes, grounds, answer)


def _quotes(question: str, passages: Sequence[Passage]) -> tuple[Quote, ...]:
    """The sentences of the passages that have most of the question's words, best first."""
    asked = {stem(fold(word)) for word in content_words(question)}
    found: list[tuple[int, int, int, Quote]] = []
    for index, passage in enumerate(passages):
        for part in sentences(passage.text):
            text = passage.text[part.start : part.end]
            held = {stem(fold(word)) for word in content_words(text)} & asked
            if part.prose and held:
                marks = tuple((t.start + part.start, t.end + part.start) for t in tokens(text) if t.key in held)
                found.append((-len(held), index, part.start, Quote(text, Citation(0, index, 0, marks))))
    found.sort(key=lambda entry: entry[:3])
    numbers: dict[int, int] = {}
    return tuple(
        Quote(quote.text, replace(quote.citation, number=numbers.setdefault(index, len(numbers) + 1)))
        for _, index, _, quote in found[:MOST_QUOTES]
    )


def _recent(engine: Engine, history: Sequence[Turn], question: str, quoted: Sequence[Quoted]) -> tuple[Turn, ...]:
    """The latest turns that fit beside the passages. The engine would drop the oldest message, and that has them."""
    size = engine.count_tokens
    room = engine.context_tokens - MOST_TOKENS // 2 - sum(size(prompts.fenced(one)) for one in quoted) - size(question)
    kept: list[Turn] = []
    for turn in reversed(history):
        room -= size(turn.question) + size(turn.answer) + 16
        if room < 0:
            break
        kept.insert(0, turn)
    return tuple(kept)


def _forgotten(count: int) -> str:
    return f"The first {count} questions of this conversation were left out: the passages need the room."


def _chosen(found: Found) -> tuple[Passage, ...]:
    """The best passages, in the order in which notes have them: whoever finds the same ones reads the same prompt,
    whatever words the question had, and the engine has it in memory."""
    best = [hit.passage for hit in found.hits if hit.score >= found.hits[0].score / 3][:MOST_PASSAGES]
    return tuple(sorted(best, key=lambda passage: (passage.owner, passage.note, passage.number)))


def that_fit(engine: Engine, passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
    """Those of the passages that the model is given: the first is always, then as many as there is room for."""
    left = min(MOST_TOKENS, engine.context_tokens // 3)
    kept: list[Passage] = []
    for passage in passages:
        size = engine.count_tokens(passage.text)
        if size <= left or not kept:
            kept.append(passage)
            left -= size
    return tuple(kept)


def _goes_on(question: str) -> bool:
    """Whether a question leans on the one before: it has no subject of its own, or only points at one."""
    words = content_words(question)
    return not words or (len(words) <= 2 and bool(_POINTS.search(question)))


_POINTS = re.compile(
    r"\b(?:it|its|this|that|they|them|their|these|those|he|she|den|det|dess|de|es|sie|das|dies|dieser|ihn|bu|bunu|onu|o)\b",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"[ \t]*\[\d{1,2}(?:, ?\d{1,2})*\](?![(\w])")
_UNFINISHED = re.compile(r"\s*(?:\[[\d, ]{0,8})?$")
_OPEN = re.compile(r"[`$][^`$\n]*$")
_LITERAL = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?(?:\$\$|\Z)|\$[^$\n]+\$)", re.DOTALL)


def _without_numbers(text: str, *, finished: bool) -> str:
    """An answer without the reference numbers that a model makes up; in code and formulas brackets stay. Of one that
    is still being written, the end is held back while it may become one, or code."""
    text = text.replace(SEAM, "")
    parts = _LITERAL.split(text)
    if not finished:
        last = parts[-1]
        opened = _OPEN.search(last)
        if opened and "[" in opened[0]:
            last = last[: opened.start() + opened[0].index("[")]
        parts[-1] = _UNFINISHED.sub("", last)
    return "".join(part if at % 2 else _NUMBERS.sub("", part) for at, part in enumerate(parts)).rstrip()


SEAM = "\u2063"
"""An invisible character around all that Iris adds to an answer, so that it can be taken out again; see ``plain``."""


def added(text: str) -> str:
    """``text`` as an addition to an answer."""
    return f"{SEAM}{text.replace(SEAM, '')}{SEAM}" if text else ""


def plain(text: str) -> str:
    """An answer as the model wrote it: what Iris added is for readers, not for the model to read again."""
    return re.sub(f"{SEAM}[^{SEAM}]*{SEAM}", "", text).strip()
