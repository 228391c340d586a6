"""Study Chat: a question, the conversation before it, and an answer as it is written."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from iris import prompts
from iris.engine import Chunk, Engine, GenerationRequest, Sampling, Usage
from iris.errors import EngineError, RequestError
from iris.prompts import Quoted, Turn

MAX_CHARACTERS = 50_000
"""A longer message is refused before it is tokenized; no model here could read it anyway."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer so far. ``place`` in line while waiting (1 is next); ``usage`` once it is complete."""

    text: str = ""
    place: int | None = None
    notices: tuple[str, ...] = ()
    usage: Usage | None = None


Pace = Callable[[Answer], float]


def stream(
    engine: Engine,
    question: str,
    history: Sequence[Turn] = (),
    *,
    quoted: Sequence[Quoted] = (),
    sampling: Sampling | None = None,
    pace: Pace | None = None,
) -> Generator[Answer, None, None]:
    """Ask, and yield the answer as it grows; the last one carries the usage.

    ``quoted`` are passages to answer from. ``pace`` says for how many seconds nothing need be yielded after an answer
    like the given one (default: 0); the first words, a notice and the end are never held back. Closing the generator
    stops the engine's work on it.

    Raises:
        RequestError: the question is empty or too long.
        EngineError: see ``Engine.stream``.
    """
    question = checked(question)
    turns = tuple(Turn(clean(turn.question), clean(turn.answer)) for turn in history if clean(turn.question))
    if quoted:
        messages, usual = prompts.from_notes(question, quoted, turns), prompts.NOTES_SAMPLING
    else:
        messages, usual = prompts.study_chat(question, turns), prompts.STUDY_CHAT_SAMPLING
    request = GenerationRequest(messages, sampling or usual)
    answer = shown = Answer()
    due = 0.0
    with engine.stream(request) as chunks:
        try:
            for chunk in chunks:
                answer = _grown(answer, chunk)
                news = bool(answer.text) > bool(shown.text) or len(answer.notices) > len(shown.notices)
                if chunk.usage or news or time.monotonic() >= due:
                    shown = answer
                    yield answer
                    due = time.monotonic() + (pace(answer) if pace else 0.0)
        except EngineError:
            if answer is not shown:  # what was held back is not lost
                yield answer
            raise


def _grown(answer: Answer, chunk: Chunk) -> Answer:
    notices = answer.notices
    if chunk.usage and chunk.usage.dropped_messages:
        notices = (*notices, _forgotten(chunk.usage.dropped_messages))
    if chunk.notice:
        notices = (*notices, chunk.notice)
    return Answer(
        text=answer.text + chunk.text,
        place=None if chunk.text or chunk.usage else chunk.place or answer.place,
        notices=notices,
        usage=chunk.usage,
    )


def ask(
    engine: Engine,
    question: str,
    history: Sequence[Turn] = (),
    *,
    sampling: Sampling = prompts.STUDY_CHAT_SAMPLING,
) -> Answer:
    """The finished answer. Raises what ``stream`` raises."""
    *_, answer = stream(engine, question, history, sampling=sampling)
    return answer


def checked(question: str) -> str:
    """The question as the model will read it.

    Raises:
        RequestError: it is empty or too long.
    """
    if len(question) > MAX_CHARACTERS:
        raise RequestError(
            f"This message is too long: it has {len(question):,} characters, and Iris reads at most "
            f"{MAX_CHARACTERS:,} at once. Shorten it, or send it in parts."
        )
    question = clean(question)
    if not question:
        raise RequestError("There is no question. Write one and send it again.")
    return question


def clean(text: str) -> str:
    """Text without control characters (newline and tab stay), lone surrogates, and empty lines around it."""
    kept = (
        c
        for c in text.replace("\r\n", "\n").replace("\r", "\n")
        if c in "\n\t" or unicodedata.category(c) not in _DROPPED
    )
    text = _EMPTY_LINES.sub("", "".join(kept)).rstrip()
    return text if "\n" in text else text.strip()


_DROPPED = {"Cc", "Cs"}
_EMPTY_LINES = re.compile(r"\A(?:\s*\n)+")  # only whole ones: the first line keeps its indentation, it may be code


def _forgotten(count: int) -> str:
    return (
        f"This conversation has grown longer than the model can read: its first {count} messages were left out. "
        "Start a new chat when you change the subject."
    )
