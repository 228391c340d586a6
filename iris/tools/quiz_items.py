"""A quiz item of any kind, and marking an answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from iris.courses import Difficulty
from iris.errors import RequestError
from iris.tools import grading, numeric
from iris.tools.numeric import Quantity
from iris.tools.words import Lexicon

Kind = Literal["choice", "true_false", "short", "numeric"]
Origin = Literal["course", "model"]
Verdict = Literal["right", "partly", "wrong"]

KINDS: tuple[Kind, ...] = get_args(Kind)

RIGHT_FROM = 0.6
"""A short answer with this score by ``grading.RUBRIC`` is right …"""
PARTLY_FROM = 0.25
"""… and partly right from this one on."""
MAX_ANSWER = 20_000
"""Characters of an answer that is marked."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question.

    Attributes:
        id: the same for the same item in every quiz; what stands before ``/`` names the course's own row.
        topic: id of the topic.
        kind: what is asked for.
        difficulty: ``easy``, ``medium`` or ``hard``.
        question: Markdown with LaTeX.
        answer: the right answer, to show: an option, ``true`` or ``false``, a number with its unit, a model answer.
        options: of a choice, in the order in which they are shown.
        explanation: why the answer is right.
        evidence: the words of the notes that it leans on, literally; empty where none were found.
        source: where that stands, for the reader.
        origin: from the course's bank, or written by the model and checked.
        tolerance: how far a numeric answer may be from the right one, in its unit.
    """

    id: str
    topic: str
    kind: Kind
    difficulty: Difficulty
    question: str
    answer: str
    options: tuple[str, ...] = ()
    explanation: str = ""
    evidence: str = ""
    source: str = ""
    origin: Origin = "course"
    tolerance: float = 0.0

    @property
    def unit(self) -> str:
        """The unit in which a numeric answer is asked for."""
        right = numeric.key(self.answer) if self.kind == "numeric" else None
        return right.unit if right else ""


@dataclass(frozen=True, slots=True)
class Mark:
    """What an answer is worth, 0 to 1, and why. ``reason`` is one of ``numeric.Comparison``'s or a grade's remark."""

    right: float
    verdict: Verdict
    reason: str = ""
    findings: tuple[grading.Finding, ...] = ()


def mark(item: Item, given: str, lexicon: Lexicon) -> Mark:
    """Mark an answer: the text of an option, ``true`` or ``false``, a number, or words.

    Raises:
        RequestError: nothing was answered, or far too much.
    """
    given = given.strip()
    if not given:
        raise RequestError("There is no answer yet. Choose or write one, then check it.")
    if len(given) > MAX_ANSWER:
        raise RequestError(f"This answer has {len(given):,} characters; at most {MAX_ANSWER:,} are marked. Shorten it.")
    if item.kind == "numeric":
        right = numeric.key(item.answer)
        assert right is not None, "a numeric item has a number for its answer"
        compared = numeric.compare(given, right, item.tolerance)
        return Mark(float(compared.right), "right" if compared.right else "wrong", compared.reason)
    if item.kind == "short":
        grade = grading.grade(given, item.answer, item.question, lexicon)
        verdict: Verdict = "right" if grade.score >= RIGHT_FROM else "partly" if grade.score >= PARTLY_FROM else "wrong"
        return Mark(1.0 if verdict == "right" else grade.score, verdict, grade.remark, grade.findings)
    good = given == item.answer
    return Mark(float(good), "right" if good else "wrong")


def as_dict(item: Item) -> dict[str, Any]:
    """For JSON."""
    return asdict(item)


def from_dict(row: Mapping[str, Any]) -> Item:
    """What ``as_dict`` gave, back from JSON; fields that this version does not know are dropped."""
    known = {field.name for field in fields(Item)}
    return Item(**{**{name: value for name, value in row.items() if name in known}, "options": tuple(row["options"])})


def quantity(text: str) -> Quantity | None:
    """The number that can be asked for where ``text`` is the answer: one number with a short unit, nothing else."""
    found = numeric.key(text)
    if found is None or len(found.unit.split()) > 3 or {"for", "of", "as", "many"} & set(found.unit.split()):
        return None
    return found
