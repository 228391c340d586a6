"""Quiz items from the model: asked for through a JSON schema, one at a time, and kept only if they pass the checks."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from iris import prompts
from iris.courses import Difficulty
from iris.engine import Engine, GenerationRequest
from iris.errors import SchemaError
from iris.tools import numeric, passages, quiz_checks, words
from iris.tools.passages import Passage
from iris.tools.quiz_checks import Reason
from iris.tools.quiz_items import Item, Kind
from iris.tools.words import Lexicon

MAX_SENTENCES = 24
"""Sentences of a passage that can be evidence; the schema lists them."""
MAX_PASSAGE = 2400
"""Characters of a passage that the model reads."""
AVOIDED = 4
"""Questions about the same topic that the model is told of."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One item that the model wrote: kept, or refused for a reason."""

    item: Item | None
    reason: Reason | None


@dataclass(slots=True)
class Writer:
    """Writes items about passages. ``others`` are questions that no new one may ask again; it grows."""

    engine: Engine
    lexicon: Lexicon
    others: list[str]
    shuffle: random.Random = field(default_factory=random.Random)

    def attempt(self, kind: Kind, passage: Passage, difficulty: Difficulty) -> Generator[None, None, Attempt]:
        """Ask for one item and check it; yields while the model writes, so that closing stops it.

        Raises what ``Engine.stream`` raises.
        """
        text = _beginning(passage.text)
        evidence = [sentence for sentence in passages.sentences(text) if _can_be_evidence(kind, sentence)]
        if not evidence:
            return Attempt(None, "evidence")
        avoid = tuple(self.others[-AVOIDED:])
        request = GenerationRequest(
            prompts.quiz_item(kind, text, difficulty, avoid),
            prompts.QUIZ_SAMPLING,
            _schema(kind, evidence[:MAX_SENTENCES]),
        )
        try:
            written = ""
            with self.engine.stream(request) as chunks:
                for chunk in chunks:
                    written += chunk.text
                    yield
            item = _item(kind, json.loads(written), passage, difficulty)
        except (SchemaError, ValueError, KeyError, TypeError):
            return Attempt(None, "form")
        reason = quiz_checks.refused(item, passage, self.others, self.lexicon)
        if reason is None and not quiz_checks.blind(self.engine, item, passage, self.shuffle, self.lexicon):
            reason = "blind"
        if reason is not None:
            return Attempt(None, reason)
        self.others.append(item.question)
        return Attempt(item, None)


def plan(kinds: Sequence[Kind], sources: Sequence[Passage], shuffle: random.Random) -> Iterator[tuple[Kind, Passage]]:
    """What to ask for, without end: the kinds in turn, the passages in random order, each again after all others."""
    usable = [
        (kind, passage)
        for kind in kinds
        for passage in sources
        if any(_can_be_evidence(kind, sentence) for sentence in passages.sentences(_beginning(passage.text)))
    ]
    while usable:
        shuffle.shuffle(usable)
        yield from usable


def _can_be_evidence(kind: Kind, sentence: str) -> bool:
    enough = len(words.content(sentence)) >= 4 and len(sentence) <= 400
    return enough and (kind != "numeric" or bool(numeric.numbers(sentence)))


def _beginning(text: str) -> str:
    """The passage up to the length that the model reads, cut between paragraphs where it can be."""
    if len(text) <= MAX_PASSAGE:
        return text
    return text[:MAX_PASSAGE].rpartition("\n\n")[0] or text[:MAX_PASSAGE]


def _schema(kind: Kind, evidence: Sequence[str]) -> dict[str, Any]:
    """The evidence comes first, so that the question is about it."""

    def text(longest: int) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": longest}

    fields: dict[str, Any] = {"evidence": {"enum": list(dict.fromkeys(evidence))}}
    if kind == "choice":
        fields |= {"question": text(240), "right": text(120)}
        fields |= {"wrong": {"type": "array", "items": text(120), "minItems": 3, "maxItems": 3}}
    elif kind == "true_false":
        fields |= {"statement": text(240), "true": {"type": "boolean"}}
    elif kind == "numeric":
        fields |= {"question": text(300), "number": {"type": "number"}, "unit": {"type": "string", "maxLength": 20}}
    else:
        fields |= {"question": text(240)}
    fields |= {"explanation": text(300)}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _item(kind: Kind, row: dict[str, Any], passage: Passage, difficulty: Difficulty) -> Item:
    question = str(row["statement"] if kind == "true_false" else row["question"]).strip()
    evidence = str(row["evidence"])
    options: tuple[str, ...] = ()
    tolerance = 0.0
    if kind == "choice":
        answer = str(row["right"]).strip()
        options = (answer, *(str(option).strip() for option in row["wrong"]))
    elif kind == "true_false":
        answer, options = ("true" if row["true"] is True else "false"), ("true", "false")
    elif kind == "numeric":
        answer = f"{row['number']} {str(row['unit']).strip()}".strip()
        right = numeric.key(answer)
        tolerance = numeric.tolerance(right) if right else 0.0
    else:
        answer = evidence
    name = hashlib.blake2b(f"{kind}\0{question}\0{answer}".encode(), digest_size=8).hexdigest()
    return Item(
        f"model-{name}", passage.topic, kind, difficulty, question, answer, options,
        str(row["explanation"]).strip(), evidence, passage.source, "model", tolerance,
    )  # fmt: skip
