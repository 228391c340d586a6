"""Quiz items from what the course has: its multiple-choice bank as it is, and other kinds derived from it honestly.

A true/false item shows one option of a bank item and asks whether it is the right answer; a numeric item hides the
options of one whose answer is a number; a short-answer item is a question of the course with its model answer. All are
built from rows that a teacher has written and checked; what a kind would make ambiguous is left out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from iris.courses import Course, Difficulty, MultipleChoice, Question
from iris.tools import numeric, passages, words
from iris.tools.passages import Passage
from iris.tools.quiz_items import Item, Kind, quantity

# A question about the options as such makes no sense without them, and the best of four may be false beside a fifth.
_NEEDS_OPTIONS = re.compile(
    r"\b(?:of these|of the following|which of|following|which (?:statement|option|pair|task|plan|change|idea)s?)\b",
    re.I,
)
_COMPARES_OPTIONS = re.compile(
    r"\b(?:best|most|least|likely|likeliest|main|mainly|closest|first|directly|above all|sensible|plausible|should|"
    r"good)\b",
    re.I,
)
_APPROXIMATE = re.compile(r"\b(?:about|roughly|approximately|approximate|estimate)\b", re.I)

_DIFFICULTY: dict[str, Difficulty] = {
    "definition": "easy",
    "why": "medium",
    "mechanism": "medium",
    "mistake": "medium",
    "comparison": "medium",
    "when_not_to": "hard",
    "design": "hard",
    "worked_number": "hard",
}
MAX_REFERENCE = 900
"""Characters of a model answer that can be asked for in a short one."""


def items(course: Course, topics: Sequence[str], kinds: Sequence[Kind], difficulty: Difficulty | None) -> list[Item]:
    """All items of these topics, kinds and this difficulty (None: any) that the course gives, in the course's order."""
    wanted = set(topics)
    found: list[Item] = []
    for row in course.bank:
        if row.topic in wanted and difficulty in (None, row.difficulty):
            found += [item for item in _of_bank(row) if item.kind in kinds]
    for question in course.questions:
        if question.topic in wanted:
            found += [
                item for item in _of_question(question) if item.kind in kinds and difficulty in (None, item.difficulty)
            ]
    return found


def dressed(item: Item, course: Course, shuffle: random.Random) -> Item:
    """The item as it is shown: options shuffled, and with the place in the notes that speaks about it."""
    options = list(item.options)
    if item.kind == "choice":
        shuffle.shuffle(options)
    evidence, source = _evidence(course, item)
    return replace(item, options=tuple(options), evidence=evidence, source=source)


def _of_bank(row: MultipleChoice) -> Iterator[Item]:
    base = Item(
        row.id, row.topic, "choice", row.difficulty, row.question, row.answer,
        options=(row.answer, *row.distractors), explanation=row.explanation,
    )  # fmt: skip
    yield base
    if not _NEEDS_OPTIONS.search(row.question) and not _COMPARES_OPTIONS.search(row.question):
        yield from _claims(row)
    right = quantity(row.answer)
    if right is not None and not _NEEDS_OPTIONS.search(row.question):
        others = [found for text in row.distractors if (found := numeric.key(text))]
        approximate = bool(_APPROXIMATE.search(f"{row.question} {row.answer}"))
        allowed = numeric.tolerance(right, approximate=approximate, others=others)
        yield replace(base, id=f"{row.id}/numeric", kind="numeric", options=(), tolerance=allowed)


def _claims(row: MultipleChoice) -> Iterator[Item]:
    """Two items at most, one true and one false, of which a quiz takes one."""
    for name, claim in (("true", row.answer), ("false", row.distractors[0])):
        yield Item(
            f"{row.id}/{name}", row.topic, "true_false", row.difficulty,
            f"{row.question}\n\n> {claim}", name, options=("true", "false"),
            explanation=row.explanation if name == "true" else f"The right answer: {row.answer}\n\n{row.explanation}",
        )  # fmt: skip


def _of_question(row: Question) -> Iterator[Item]:
    difficulty = _DIFFICULTY.get(row.kind, "medium")
    first, *rest = passages.sentences(row.answer) or (row.answer,)
    right = quantity(first.rstrip(".:"))
    if right is not None and rest:
        allowed = numeric.tolerance(right, approximate=bool(_APPROXIMATE.search(f"{row.question} {first}")))
        yield Item(
            f"{row.id}/numeric", row.topic, "numeric", difficulty, row.question, first.rstrip(".:"),
            explanation=" ".join(rest), tolerance=allowed,
        )  # fmt: skip
    elif row.kind != "worked_number" and len(row.answer) <= MAX_REFERENCE:
        yield Item(row.id, row.topic, "short", difficulty, row.question, row.answer)


@lru_cache(maxsize=4096)
def _evidence(course: Course, item: Item) -> tuple[str, str]:
    """The sentence of the topic's note that has most of an item's words, and where it stands.

    Where none has many, only the note is named; both are empty where the topic has no note.
    """
    lexicon = words.lexicon(course)
    text = f"{item.question} {item.answer} {item.explanation}"
    about = frozenset(words.content(text))
    best: tuple[float, str, Passage | None] = (0.0, "", None)
    for passage in passages.of_course(course)([item.topic]):
        for sentence in passages.sentences(passage.text):
            stems = frozenset(words.content(sentence))
            shared = about & stems
            # As cosine similarity: a long sentence has more of the words without saying more about them.
            score = lexicon.total(shared) / (lexicon.total(stems) * lexicon.total(about) or 1.0) ** 0.5
            if len(shared) >= 3 and score > best[0]:
                best = score, sentence, passage
    score, sentence, where = best
    if where and score >= 0.25:
        return sentence, where.source
    note = course.note(item.topic)
    return "", note.title if note else ""
