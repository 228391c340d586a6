"""Votes: two models answered one question side by side, and the student chose without knowing which is which."""

from __future__ import annotations

import csv
import io
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from iris.errors import RequestError
from iris.store import Store, now

Choice = Literal["left", "right", "both", "neither"]

CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True, slots=True)
class Duel:
    """Two answers to one question. ``choice`` is None until the student voted; times are milliseconds, UTC."""

    id: str
    created_at: int
    question: str
    left_model: str
    right_model: str
    left_answer: str
    right_answer: str
    choice: Choice | None


@dataclass(frozen=True, slots=True)
class Score:
    """All votes on two models, over all students and both places; ``first`` comes before ``second`` in the alphabet."""

    first: str
    second: str
    first_wins: int
    second_wins: int
    both: int
    neither: int

    @property
    def votes(self) -> int:
        return self.first_wins + self.second_wins + self.both + self.neither


class Votes:
    """The duels and votes in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, student: str, question: str, models: tuple[str, str], answers: tuple[str, str]) -> str:
        """Keep a duel, left before right; its id, which tells nothing about the models."""
        duel = secrets.token_urlsafe(12)
        with self._store.write() as connection:
            connection.execute(
                "INSERT INTO votes"
                " (id, student, created_at, question, left_model, right_model, left_answer, right_answer)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (duel, student, now(), question, *models, *answers),
            )
        return duel

    def vote(self, student: str, duel: str, choice: str) -> Duel:
        """Count the student's vote and say who was who. The first vote stays, whatever comes after it.

        Raises:
            RequestError: the choice is none, or the student has no such duel.
        """
        if choice not in CHOICES:
            raise RequestError(f"A vote is one of {', '.join(CHOICES)}, not {choice!r}.")
        with self._store.write() as connection:
            connection.execute(
                "UPDATE votes SET choice = ?, voted_at = ? WHERE id = ? AND student = ? AND choice IS NULL",
                (choice, now(), duel, student),
            )
            row = connection.execute("SELECT * FROM votes WHERE id = ? AND student = ?", (duel, student)).fetchone()
        if row is None:
            raise RequestError("This comparison is not known any more. Ask the question again.")
        return _duel(row)

    def scores(self) -> list[Score]:
        """The counts of every pair of models, the pair with the most votes first."""
        with self._store.read() as connection:
            rows = connection.execute(
                "SELECT min(left_model, right_model) AS first, max(left_model, right_model) AS second,"
                " sum(choice = iif(left_model < right_model, 'left', 'right')) AS first_wins,"
                " sum(choice = iif(left_model < right_model, 'right', 'left')) AS second_wins,"
                " sum(choice = 'both') AS both, sum(choice = 'neither') AS neither"
                " FROM votes WHERE choice IS NOT NULL GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2"
            ).fetchall()
        return [Score(*row) for row in rows]

    def of(self, student: str) -> Iterator[Duel]:
        """What this student voted on, the oldest first."""
        with self._store.read() as connection:
            rows = connection.execute(
                "SELECT * FROM votes WHERE student = ? AND choice IS NOT NULL ORDER BY created_at, id", (student,)
            ).fetchall()
        return map(_duel, rows)


def _duel(row: sqlite3.Row) -> Duel:
    return Duel(
        row["id"],
        row["created_at"],
        row["question"],
        row["left_model"],
        row["right_model"],
        row["left_answer"],
        row["right_answer"],
        row["choice"],
    )


def scores_csv(scores: Sequence[Score]) -> str:
    """The counts as a table for spreadsheets. Nobody's questions are in it."""
    return _csv(
        ("first", "second", "first_wins", "second_wins", "both", "neither"),
        [(s.first, s.second, s.first_wins, s.second_wins, s.both, s.neither) for s in scores],
    )


def duels_csv(duels: Iterator[Duel]) -> str:
    """A student's own votes as a table for spreadsheets."""
    return _csv(
        ("time", "question", "left_model", "right_model", "choice", "left_answer", "right_answer"),
        [
            (
                datetime.fromtimestamp(duel.created_at / 1000, UTC).isoformat(timespec="seconds"),
                duel.question,
                duel.left_model,
                duel.right_model,
                duel.choice or "",
                duel.left_answer,
                duel.right_answer,
            )
            for duel in duels
        ],
    )


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue()


def _harmless(value: object) -> object:
    # A cell that begins like a formula is computed when a spreadsheet opens the file (OWASP: CSV injection).
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
