"""What an item written by a model must pass before a student may see it.

The checks in code come first; ``blind`` asks the model itself once more, without the key and with the options in other
places. Each gives the reason for which an item is refused, or nothing.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from iris import prompts
from iris.engine import Engine, GenerationRequest, complete
from iris.errors import SchemaError
from iris.tools import grading, numeric, passages, words
from iris.tools.passages import Passage
from iris.tools.quiz_items import Item, quantity
from iris.tools.words import Lexicon

Reason = Literal["form", "options", "evidence", "key", "gives_away", "reworded", "blind"]

OPTIONS = 4
REWORDED = 0.6
"""Two questions that share this much of their content ask the same."""
GROUNDED = 0.5
"""The share of a right answer's words that its evidence must have."""
BLIND_ROUNDS = 2
"""How often the model is asked again, each time with the right option in another place."""

_LEAKS = re.compile(r"\b(?:all|none|both|neither) of (?:the|these) (?:above|options|answers)\b|\bthe passage\b", re.I)
_WORDS_AT_LEAST = 4


def refused(item: Item, passage: Passage, others: Iterable[str], lexicon: Lexicon) -> Reason | None:
    """The first reason in code against an item, or None.

    ``others`` are the questions of the other items and of earlier quizzes.
    """
    checks: tuple[tuple[Reason, bool], ...] = (
        ("form", _form(item)),
        ("options", _options(item)),
        ("evidence", passages.found(item.evidence, passage.text)),
        ("key", _key(item, lexicon)),
        ("gives_away", not _gives_away(item, lexicon)),
        ("reworded", not any(reworded(item.question, other, lexicon) for other in others)),
    )
    return next((reason for reason, good in checks if not good), None)


def reworded(one: str, other: str, lexicon: Lexicon) -> bool:
    """Whether two questions ask the same in other words."""
    if " ".join(words.tokens(one)) == " ".join(words.tokens(other)):
        return True
    return lexicon.alike(one, other) >= REWORDED


def blind(engine: Engine, item: Item, passage: Passage, shuffle: random.Random, lexicon: Lexicon) -> bool:
    """Whether the model, asked without the key, gives the item's answer, in each of ``BLIND_ROUNDS``.

    Raises what ``Engine.stream`` raises; an answer that breaks the schema counts as another answer.
    """
    if item.kind == "choice":
        options = list(item.options)
        places = list(range(len(options)))
        shuffle.shuffle(places)
        # The right option stands in another place each time: a model that always says "B" does not pass.
        return all(
            _choice(engine, item, passage, _with_right_at(options, item.answer, place, shuffle))
            for place in places[:BLIND_ROUNDS]
        )
    said = _answer(engine, prompts.quiz_blind(item.kind, passage.text, item.question), _BLIND_SCHEMAS[item.kind])
    if item.kind == "true_false":
        return said == item.answer
    if item.kind == "numeric":
        right = quantity(item.answer)
        return right is not None and numeric.compare(said, right, item.tolerance).right
    return grading.grade(said, item.answer, item.question, lexicon).score >= GROUNDED


def _choice(engine: Engine, item: Item, passage: Passage, options: Sequence[str]) -> bool:
    letters = "ABCD"[: len(options)]
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": list(letters)}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    said = _answer(engine, prompts.quiz_blind("choice", passage.text, item.question, options), schema)
    return len(said) == 1 and said in letters and options[letters.index(said)] == item.answer


def _answer(engine: Engine, messages: prompts.Messages, schema: dict[str, Any]) -> str:
    try:
        text, _ = complete(engine, GenerationRequest(messages, prompts.QUIZ_BLIND_SAMPLING, schema))
        value = json.loads(text)
    except (SchemaError, ValueError):
        return ""
    said = value.get("answer") if isinstance(value, dict) else None
    if isinstance(said, bool):
        return str(said).lower()
    return "" if said is None else str(said)


def _object(answer: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}


_BLIND_SCHEMAS: dict[str, dict[str, Any]] = {
    "true_false": _object({"type": "boolean"}),
    "numeric": _object({"type": "string", "minLength": 1, "maxLength": 40}),
    "short": _object({"type": "string", "minLength": 1, "maxLength": 400}),
}


def _with_right_at(options: Sequence[str], right: str, place: int, shuffle: random.Random) -> list[str]:
    others = [option for option in options if option != right]
    shuffle.shuffle(others)
    return [*others[:place], right, *others[place:]]


def _form(item: Item) -> bool:
    question = item.question.strip()
    if any(_broken(text) for text in (question, item.answer, item.explanation, *item.options)):
        return False
    long_enough = len(words.tokens(question)) >= _WORDS_AT_LEAST
    if not long_enough or not item.answer.strip() or _LEAKS.search(" ".join((question, *item.options))):
        return False
    if item.kind == "numeric":
        return quantity(item.answer) is not None
    return item.kind == "true_false" or question.endswith("?")


def _broken(text: str) -> bool:
    """A control character is what is left of a LaTeX command whose backslash was not doubled in JSON."""
    return text.count("$") % 2 == 1 or any(ord(mark) < 32 and mark != "\n" for mark in text)


def _options(item: Item) -> bool:
    """Distinct options of which exactly one is the answer; case, punctuation and notation make no difference."""
    if item.kind in ("short", "numeric"):
        return not item.options
    if item.kind == "true_false":
        return item.options == ("true", "false") and item.answer in item.options
    same = [" ".join(words.tokens(option)) for option in item.options]
    if len(item.options) != OPTIONS or not all(same) or len(set(same)) < OPTIONS:
        return False
    values = [read.value for option in item.options if (read := numeric.key(option))]
    if len(set(values)) < len(values):
        return False
    stems = [frozenset(words.content(option)) for option in item.options]
    return item.options.count(item.answer) == 1 and len(set(stems)) == OPTIONS


def _key(item: Item, lexicon: Lexicon) -> bool:
    """Whether the evidence bears the answer, and bears it better than any wrong option."""
    if item.kind == "true_false":
        # Blind asking decides; here only: the statement is about the evidence.
        return lexicon.within(item.question, item.evidence) >= GROUNDED
    if item.kind == "numeric":
        right = quantity(item.answer)
        there = numeric.numbers(item.evidence)
        return right is not None and any(abs(value - right.value) <= 1e-9 * abs(right.value) for value in there)
    borne = lexicon.within(item.answer, item.evidence)
    if borne < GROUNDED:
        return False
    wrong = [option for option in item.options if option != item.answer]
    return all(not passages.found(option, item.evidence) and lexicon.within(option, item.evidence) < max(borne, 0.999)
               for option in wrong)  # fmt: skip


def _gives_away(item: Item, lexicon: Lexicon) -> bool:
    """Whether the question says its own answer."""
    if item.kind == "true_false":
        return False
    if item.kind == "numeric":
        right = quantity(item.answer)
        return right is not None and right.value in numeric.numbers(item.question)
    new = set(words.content(item.answer)) - set(words.content(item.question))
    return not new or lexicon.within(item.answer, item.question) > 0.8
