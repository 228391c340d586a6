"""Full-text search over passages (SQLite FTS5, bm25), and whether what it finds covers a question."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from iris.notes import Owner, Passage
from iris.notes.library import Scope, as_passage, shelf
from iris.notes.words import content_words, fold, stem
from iris.store import Store

CANDIDATES = 20
"""Passages that the index proposes, by its own bm25, to be ranked here."""

MOST_WORDS = 24
"""Words of a query that are looked up, the rarest kept: a pasted page is not a question."""

K1, B = 1.2, 0.75
"""bm25's saturation and its length normalization, with the usual values."""

IN_TITLE, IN_HEADING = 3.0, 2.0
"""How many times in the text a word of the title or the heading counts."""

SMALLEST = 256
"""The rarity of words is that of a collection of so many passages at least: in a student's only note every word is
common, and yet says what the note is about."""

COVERED = 5.0
"""The least ``Found.strength`` with which notes are taken to answer a question. ``python -m benchmarks.notes`` measures
what it lets through: questions of the course, and questions about anything else."""

Place = tuple[Owner, tuple[str, ...], int]
"""Whose passages, on which shelves of the index, and how many they are."""

_WORD = re.compile(r"[^\W_]+")
_INDEX_WEIGHTS = "0.0, 3.0, 2.0, 1.0"  # shelf, title, heading, body


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found. ``score`` is its bm25, higher is better; ``marks`` are where its text has the words."""

    passage: Passage
    score: float
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found, the best first.

    ``strength`` says how surely the notes are about what was asked: the best hit's score, times the square root of its
    share of what a passage would score that holds all words of the query. ``words`` is how many were looked up.
    """

    hits: tuple[Hit, ...]
    strength: float = 0.0
    words: int = 0

    @property
    def covered(self) -> bool:
        return self.strength >= COVERED


def search(store: Store, query: str, scope: Scope, *, limit: int = 10) -> Found:
    """The passages that fit the query's content words best, over all notes of the scope."""
    words = content_words(query)[:200]
    if not words:
        return Found(())
    with store.read() as connection:
        places = _places(connection, scope)
        rarity = _rarity(connection, words, places)
        kept = set(sorted(words, key=lambda word: -rarity[word])[:MOST_WORDS])
        words = tuple(word for word in words if word in kept)
        candidates = [found for owner, on, _ in places for found in _candidates(connection, owner, on, words)]
    if not candidates:
        return Found((), 0.0, len(words))
    asked = {stem(fold(word)): rarity[word] for word in words}
    lengths = [_bag(passage.title, passage.heading, passage.text)[1] for passage in candidates]
    average = sum(lengths) / len(lengths)
    hits = [
        Hit(passage, _score(passage, asked, length / average))
        for passage, length in zip(candidates, lengths, strict=True)
    ]
    hits.sort(key=lambda hit: (-hit.score, hit.passage.owner, hit.passage.id))
    best, most = hits[0].score, sum(asked.values())
    hits = [replace(hit, marks=_marks(hit.passage.text, asked)) for hit in hits[:limit]]
    return Found(tuple(hits), best * math.sqrt(best / most), len(words))


def _marks(text: str, asked: Collection[str]) -> tuple[tuple[int, int], ...]:
    return tuple(match.span() for match in _WORD.finditer(text) if stem(fold(match[0])) in asked)


def _score(passage: Passage, asked: Mapping[str, float], length: float) -> float:
    counts, _ = _bag(passage.title, passage.heading, passage.text)
    score = 0.0
    for key, rarity in asked.items():
        count = counts.get(key) or _kindred(key, counts)
        score += rarity * count * (K1 + 1) / (count + K1 * (1 - B + B * length))
    return score


def _kindred(key: str, counts: Mapping[str, float]) -> float:
    """1 where a word is only there with an ending that ``stem`` leaves on, such as quantize and quantization."""
    root = key[: max(5, len(key) - 3)]
    return float(len(key) >= 5 and any(other.startswith(root) for other in counts))


@lru_cache(maxsize=8_192)
def _bag(title: str, heading: str, text: str) -> tuple[dict[str, float], int]:
    """How often each stem stands in a passage, title and heading weighted, and how many words it has."""
    counts: dict[str, float] = {}
    length = 0
    for part, weight in ((title, IN_TITLE), (heading, IN_HEADING), (text, 1.0)):
        for word in _WORD.findall(part):
            key = stem(fold(word))
            counts[key] = counts.get(key, 0.0) + weight
            length += 1
    return counts, length


def _places(connection: sqlite3.Connection, scope: Scope) -> list[Place]:
    places: list[Place] = []
    if scope.shared:
        size = connection.execute(
            "SELECT count(*) FROM course_passages WHERE note IN (SELECT id FROM course_notes WHERE course = ?)",
            (scope.course,),
        ).fetchone()[0]
        places.append(("course", (shelf(scope.course),), size))
    if scope.student is not None:
        which = "" if scope.everything else "AND n.chosen"
        notes = connection.execute(
            "SELECT n.id, count(*) FROM student_notes n JOIN student_passages p ON p.note = n.id"
            f" WHERE n.student = ? AND n.course = ? {which} GROUP BY n.id",
            (scope.student, scope.course),
        ).fetchall()
        if notes:
            places.append(("student", tuple(f"n{note}" for note, _ in notes), sum(size for _, size in notes)))
    return places


def _rarity(connection: sqlite3.Connection, words: tuple[str, ...], places: list[Place]) -> dict[str, float]:
    """The inverse document frequency of each word, as in bm25; a word that is nowhere weighs most."""
    total = max(SMALLEST, sum(size for _, _, size in places))
    found = {}
    for word in words:
        here = sum(_count(connection, owner, _on(on, [word])) for owner, on, _ in places)
        found[word] = math.log(1 + (total - here + 0.5) / (here + 0.5))
    return found


def _count(connection: sqlite3.Connection, owner: Owner, match: str) -> int:
    table = f"{owner}_index"
    count: int = connection.execute(f"SELECT count(*) FROM {table} WHERE {table} MATCH ?", (match,)).fetchone()[0]
    return count


def _candidates(
    connection: sqlite3.Connection, owner: Owner, on: tuple[str, ...], words: tuple[str, ...]
) -> list[Passage]:
    """Passages with some of the words, those that fit best by the index's own account."""
    table = f"{owner}_index"
    rows = connection.execute(
        f"SELECT p.* FROM {table} JOIN {owner}_passages p ON p.id = {table}.rowid"
        f" WHERE {table} MATCH ? ORDER BY bm25({table}, {_INDEX_WEIGHTS}) LIMIT ?",
        (_on(on, words), CANDIDATES),
    )
    return [as_passage(owner, row) for row in rows]


def _on(on: Sequence[str], words: Sequence[str]) -> str:
    """The FTS5 expression: any of the words, in title, heading or body, on these shelves."""
    return f"shelf : {_any(on)} AND {{title heading body}} : {_any(words)}"


def _any(words: Sequence[str]) -> str:
    return "(" + " OR ".join(f'"{word}"' for word in words) + ")"
