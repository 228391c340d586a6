"""A student's answer against a reference, in code: which points it covers, what it contradicts, and a score.

The reference is cut into points, a clause or two each. A point is covered when enough of its words, weighed by how rare
they are in the course, stand together in the answer; words that the question already has count for nothing. A model is
not asked, so the same answer gets the same score every time, and every part of the score can be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from iris.tools import numeric, passages, words
from iris.tools.words import Lexicon

COVERED = 0.4
"""A point is covered when this share of its weight is found in the answer …"""
PARTLY = 0.2
"""… and partly, for half of its worth, from this share on."""
ENOUGH = 0.6
"""Of the points' worth for a full score: a reference tells more than a good answer must."""
FIRST = 2.0
"""The reference's first sentence is the answer itself, and its points count this many times."""
PENALTY = 0.1
"""What each contradiction takes off the score, beside the point it was about."""
SPEAKS_OF = 0.6
"""A clause with this share of a point's weight speaks of it, and can contradict it by a number or an opposite …"""
NEARLY_ALL = 0.8
"""… and by a negation only with this share: in other words, one side may well need a "not"."""
WINDOW = 4
"""Clauses of the answer that are looked at together for one point."""
TELLING = 3
"""Content words that a point has at least, where the reference is long enough."""
MATCHES = 2
"""Words of a point that the answer must have for it to count as covered: two rare ones can meet by chance."""
COMMON = 0.4
"""An answer of whose content less than this is in the reference, and which has less than this of the reference's, …"""
HARDLY = 0.25
"""… or of whose content less than this is in the reference at all, …"""
ELSEWHERE_AT_MOST = 0.2
"""… is about something else, whatever point it touches, and scores no more than this."""
KEYWORDS_AT_MOST = 0.5
"""The score of an answer that is a list of keywords and no sentences."""

RUBRIC = (
    "The reference is cut into points; those of its first sentence, the answer itself, count twice, and points made of "
    "common words count less. A point is covered when at least 40 % of its words, weighed by how rare they are in the "
    "course, stand together in the answer, and counts half from 20 % on. Words of the question do not count. 60 % of "
    "the points' worth is a full score, since a reference tells more than a good answer must. A contradiction, such as "
    "another number or the opposite, costs 0.1 and its point. An empty answer and one that only repeats the question "
    "score 0; one that is mostly about something else scores 0.2 at most, a list of keywords 0.5."
)

State = Literal["covered", "partly", "missing", "contradicted"]
Remark = Literal["", "empty", "repeats", "keywords", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A point of the reference and what the answer has of it.

    ``share`` of its weight was found, in ``quote`` from the answer; ``error`` says what contradicts the point.
    """

    point: str
    state: State
    share: float
    quote: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Grade:
    """``score`` from 0 to 1 by ``RUBRIC``, the findings behind it, and a remark on the answer as a whole."""

    score: float
    findings: tuple[Finding, ...]
    remark: Remark = ""

    def of(self, *states: State) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.state in states)


@dataclass(frozen=True, slots=True)
class _Point:
    text: str
    worth: float
    weights: dict[str, float]
    numbers: frozenset[str]

    @property
    def shown(self) -> str:
        return self.text.rstrip(" ,;:")

    def total(self) -> float:
        return sum(self.weights.values())


def grade(answer: str, reference: str, question: str, lexicon: Lexicon) -> Grade:
    """Grade ``answer`` to ``question`` against ``reference`` by ``RUBRIC``."""
    points = _points(reference, question, lexicon)
    missing = tuple(Finding(point.shown, "missing", 0.0) for point in points)
    if not words.tokens(answer):
        return Grade(0.0, missing, "empty")
    if repeats(answer, question):
        return Grade(0.0, missing, "repeats")
    clauses = _pieces(answer)
    findings = tuple(_finding(point, clauses) for point in points)
    worth = {"covered": 1.0, "partly": 0.5, "missing": 0.0, "contradicted": 0.0}
    total = sum(point.worth for point in points) or 1.0
    covered = sum(point.worth * worth[finding.state] for point, finding in zip(points, findings, strict=True)) / total
    contradicted = sum(finding.state == "contradicted" for finding in findings)
    score = max(0.0, min(1.0, covered / ENOUGH) - PENALTY * contradicted)
    remark: Remark = ""
    if len(words.tokens(answer)) >= 8 and words.function_share(answer) < min(
        0.12, 0.5 * words.function_share(reference)
    ):
        score, remark = min(score, KEYWORDS_AT_MOST), "keywords"
    elif all(finding.state == "missing" for finding in findings) or _elsewhere(answer, reference, question, lexicon):
        score, remark = min(score, ELSEWHERE_AT_MOST), "elsewhere"
    return Grade(round(score, 3), findings, remark)


def _elsewhere(answer: str, reference: str, question: str, lexicon: Lexicon) -> bool:
    """Whether an answer is nearly all about something else, or mostly, and has little of the reference."""
    asked = set(words.content(question))
    said, wanted = set(words.content(answer)) - asked, set(words.content(reference)) - asked
    common = lexicon.total(said & wanted)
    own = common / (lexicon.total(said) or 1.0)
    return own < HARDLY or (own < COMMON and common < COMMON * lexicon.total(wanted))


def repeats(answer: str, question: str) -> bool:
    """Whether an answer says nothing that the question does not say."""
    said, asked = set(words.content(answer)), set(words.content(question))
    return bool(said) and len(said - asked) <= len(said) * 0.1


def key_points(reference: str, question: str, lexicon: Lexicon) -> tuple[str, ...]:
    """The points that ``grade`` looks for."""
    return tuple(point.shown for point in _points(reference, question, lexicon))


def _points(reference: str, question: str, lexicon: Lexicon) -> tuple[_Point, ...]:
    asked = set(words.content(question))
    merged: list[str] = []
    first = 0  # how many points the first sentence has
    for place, sentence in enumerate(passages.sentences(reference) or (reference,)):
        for part in _clauses(sentence):
            # "Yes." or "This is why." is no point of its own.
            if merged and min(_new(part, asked), _new(merged[-1], asked)) < TELLING:
                merged[-1] = f"{merged[-1]} {part}"
            else:
                merged.append(part)
        first = len(merged) if place == 0 else first
    weights = []
    for text in merged:
        stems = set(words.content(text))
        weights.append({word: lexicon.weight(word) for word in stems - asked - words.NEGATIONS or stems})
    # A point made of words that stand in every second answer of the course tells little, and is worth less.
    usual = sum(sum(each.values()) for each in weights) / max(1, len(weights))
    return tuple(
        _Point(
            text,
            (FIRST if place < first else 1.0) * min(1.0, sum(each.values()) / (usual or 1.0)),
            each,
            frozenset(word for word in each if word[0].isdigit()),
        )
        for place, (text, each) in enumerate(zip(merged, weights, strict=True))
    )


def _clauses(sentence: str) -> Iterator[str]:
    """A sentence in its parts between commas, colons and semicolons; formulas and what is in brackets stay whole."""
    formula, depth, start = False, 0, 0
    for place, mark in enumerate(sentence):
        if mark == "$":
            formula = not formula
        elif mark in "([":
            depth += 1
        elif mark in ")]":
            depth = max(0, depth - 1)
        elif mark in ",;:" and not formula and not depth and sentence[place + 1 : place + 2].isspace():
            yield sentence[start : place + 1].strip()
            start = place + 1
    if rest := sentence[start:].strip():
        yield rest


def _windows(clauses: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    for start in range(max(1, len(clauses) - size + 1)):
        yield tuple(clauses[start : start + size])


def _finding(point: _Point, clauses: Sequence[str]) -> Finding:
    total = point.total()
    best: tuple[str, ...] = ()
    share = -1.0
    for window in _windows(clauses, max(WINDOW, len(_pieces(point.text)))):
        there = _share(point, " ".join(window), total)
        if there > share:
            best, share = window, there
    # The one sentence that says most of it is what is quoted, and what can contradict it.
    quote = max(best, key=lambda sentence: _share(point, sentence, total))
    matches = _matches(point, " ".join(best))
    if share < PARTLY or len(matches) < min(MATCHES - 1, len(point.weights)):
        return Finding(point.shown, "missing", share)
    if error := _contradiction(point, quote, " ".join(clauses)):
        return Finding(point.shown, "contradicted", share, quote, error)
    covered = share >= COVERED and len(matches) >= min(MATCHES, len(point.weights))
    return Finding(point.shown, "covered" if covered else "partly", share, quote)


def _matches(point: _Point, text: str) -> list[str]:
    there = set(words.content(text))
    return [word for word in point.weights if word in there or words.close(word, there)]


def _share(point: _Point, text: str, total: float) -> float:
    return sum(point.weights[word] for word in _matches(point, text)) / total if total else 0.0


_OPPOSITES = [
    (words.stem(one), words.stem(other))
    for one, other in (
        *(("increases", "decreases"), ("rises", "falls"), ("grows", "shrinks"), ("higher", "lower"), ("high", "low")),
        *(("larger", "smaller"), ("large", "small"), ("more", "less"), ("more", "fewer"), ("before", "after")),
        *(("faster", "slower"), ("always", "never"), ("positive", "negative"), ("convex", "concave")),
        *(("overfitting", "underfitting"), ("linear", "nonlinear"), ("left", "right"), ("first", "last")),
        *(("strong", "weak"), ("stronger", "weaker"), ("cheap", "expensive"), ("same", "different")),
        *(("maximum", "minimum"), ("maximise", "minimise"), ("above", "below"), ("early", "late"), ("true", "false")),
    )
]


def _contradiction(point: _Point, said: str, answer: str) -> str:
    """What in a clause of the answer contradicts the point that it speaks about; empty if nothing does."""
    if said in point.text:
        return ""
    there = set(words.content(said))
    text = max(_pieces(point.text), key=lambda piece: len(there & set(words.content(piece))))
    asked_for = {word: weight for word, weight in point.weights.items() if word in words.content(text)}
    named = {word: weight for word, weight in asked_for.items() if word not in point.numbers}
    about = sum(weight for word, weight in named.items() if word in there) / (sum(named.values()) or 1.0)
    if about < SPEAKS_OF:
        return ""
    in_point, in_said = set(map(words.stem, words.tokens(text))), set(map(words.stem, words.tokens(said)))
    for one, other in (*_OPPOSITES, *((b, a) for a, b in _OPPOSITES)):
        if one in in_point and other not in in_point and other in in_said and one not in in_said:
            return f"“{_as_written(said, other)}” where the reference has “{_as_written(text, one)}”"
    if about >= NEARLY_ALL and len(there) <= 1.5 * len(set(words.content(text))) and _negated(text) != _negated(said):
        return "the answer says the opposite: one of the two is negated"
    digits = {word for word in there if word[0].isdigit()}
    wanted = {word for word in asked_for if word in point.numbers}
    if wanted and digits and not wanted & set(words.content(answer)) and not _equal_numbers(text, answer):
        return f"{', '.join(sorted(digits)[:3])} where the reference has {', '.join(sorted(wanted)[:3])}"
    return ""


def _new(text: str, asked: set[str]) -> int:
    """How many content words a text has that the question does not have."""
    return len(set(words.content(text)) - asked - words.NEGATIONS)


def _pieces(text: str) -> list[str]:
    return [clause for sentence in passages.sentences(text) or (text,) for clause in _clauses(sentence)]


def _equal_numbers(one: str, other: str) -> bool:
    theirs = numeric.numbers(other)
    return any(abs(a - b) <= 0.005 * max(abs(a), abs(b)) for a in numeric.numbers(one) for b in theirs)


def _negated(text: str) -> bool:
    return sum(word in words.NEGATIONS for word in words.tokens(text)) % 2 == 1


def _as_written(text: str, stem: str) -> str:
    return next((word for word in re.findall(r"[^\W\d_]+", text) if words.stem(word.casefold()) == stem), stem)
