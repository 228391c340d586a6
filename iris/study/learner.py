"""All that is a student's in one JSON file: taken along without loss, and merged into a history without doubles.

    {"format": "iris-learner", "version": 1, "made": <ms>, "tables": {"cards": [{…}, …], "reviews": […], …}}

Every table with a ``student`` column is in it, with the rows of the tables that hang on it inside its own rows. What
counts as the same row is said in ``KEYS``; where both sides have it, the newer one stays. Reviews are united, and the
memory of a card that thereby has more of them than either side is worked out anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from iris.errors import CardError, LearnerFileError
from iris.store import Store
from iris.study import cards, memory
from iris.study.learner_rows import plain, tables
from iris.study.memory import Memory, Review

FORMAT = "iris-learner"
VERSION = 1
MAX_BYTES = 64 << 20
SHOWN = {"votes"}
"""Tables that are in the file, to be looked at, and not read: a vote counts for the class, and would count twice."""

Row = dict[str, Any]


@dataclass(slots=True)
class Imported:
    """How many rows of each table are new, were changed, and were there already."""

    new: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    same: dict[str, int] = field(default_factory=dict)

    def count(self, table: str, what: str) -> None:
        counts: dict[str, int] = getattr(self, what)
        counts[table] = counts.get(table, 0) + 1


def dump(store: Store, student: str, at: int) -> str:
    """The learner file of a student."""
    with store.read() as connection:
        rows = {table.name: list(table.rows(connection, student)) for table in tables(connection)}
    top = {"format": FORMAT, "version": VERSION, "made": at, "tables": {name: row for name, row in rows.items() if row}}
    return json.dumps(top, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def load(
    store: Store,
    student: str,
    text: str | bytes,
    *,
    checks: Iterable[Callable[[Store, str], object]] = (),
) -> Imported:
    """Merge a learner file into what the student has. All of it, or on any error nothing.

    Args:
        checks: called at the end, before anything is final: whatever they raise undoes the import.

    Raises:
        LearnerFileError: the file is broken, of another program, or from a newer Iris; nothing was imported.
    """
    given = _tables(text)
    done = Imported()
    with store.write() as connection:
        known = {table.name: table for table in tables(connection)}
        if unknown := [name for name in given if name not in known]:
            raise LearnerFileError(
                f"This learner file has something that this Iris does not know: {', '.join(map(repr, unknown))}. "
                "Update Iris, then import it again. Nothing was imported."
            )
        for name, table in known.items():
            if name in SHOWN:
                continue
            for number, row in enumerate(given.get(name, [])):
                try:
                    table.check(row)
                    if name == "cards":
                        _card(connection, student, row, done)
                    elif name != "reviews":
                        done.count(name, table.merge(connection, student, row))
                except (sqlite3.IntegrityError, CardError, ValueError, TypeError, KeyError, OverflowError) as error:
                    raise _broken(name, number, error) from error
        _reviews(connection, student, given, done)
        try:
            for check in checks:
                check(store, student)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LearnerFileError(
                f"This learner file is damaged: something in it cannot be read ({error}). Nothing was imported."
            ) from error
    return done


def _tables(text: str | bytes) -> dict[str, list[Row]]:
    if len(text) > MAX_BYTES:
        raise LearnerFileError(f"This file is larger than {MAX_BYTES >> 20} MB: no learner file is. Choose another.")
    try:
        top = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise LearnerFileError(
            f"This file is not a whole learner file: it cannot be read as JSON ({error}). It may have been cut off or "
            "changed by another program; save it again where it came from. Nothing was imported."
        ) from error
    if not isinstance(top, dict) or top.get("format") != FORMAT:
        raise LearnerFileError(
            "This file is JSON, but no learner file of Iris. Choose one that My data has saved. Nothing was imported."
        )
    version = top.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise LearnerFileError(
            f"This learner file has no version that can be read ({version!r}). Nothing was imported."
        )
    if version > VERSION:
        raise LearnerFileError(
            f"This learner file is from a newer Iris (version {version}, this Iris reads up to {VERSION}). "
            "Update Iris, then import it again. Nothing was imported."
        )
    given = top.get("tables")
    if not isinstance(given, dict) or not all(
        isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in given.values()
    ):
        raise LearnerFileError(
            "This learner file is damaged: its tables are not as they should be. Nothing was imported."
        )
    return given


def _card(connection: sqlite3.Connection, student: str, row: Row, done: Imported) -> None:
    """Insert a card, or take over its text where the file's is newer; its memory follows with the reviews."""
    known = _known_memory(row)
    if row["source"] not in cards.SOURCES:
        raise ValueError(f"source is {row['source']!r}")
    mine = connection.execute("SELECT * FROM cards WHERE student = ? AND id = ?", (student, row["id"])).fetchone()
    fresh = cards.make(row["course"], row["topic"], row["front"], row["back"], row["source"], row["created"])
    if mine is None:
        card = cards.Card(
            row["id"], fresh.course, fresh.topic, fresh.front, fresh.back, fresh.source, row["created"],
            row["changed"], known,
        )  # fmt: skip
        cards.insert(connection, student, [card])
        done.count("cards", "new")
        return
    created = min(mine["created"], row["created"])
    newer = row["changed"] > mine["changed"]
    if newer:
        connection.execute(
            "UPDATE cards SET topic = ?, front = ?, back = ?, changed = ? WHERE student = ? AND id = ?",
            (fresh.topic, fresh.front, fresh.back, row["changed"], student, row["id"]),
        )
    if created < mine["created"]:
        connection.execute(
            "UPDATE cards SET created = ?, due = CASE WHEN reviewed IS NULL THEN ? ELSE due END "
            "WHERE student = ? AND id = ?",
            (created, created, student, row["id"]),
        )
    done.count("cards", "changed" if newer else "same")


def _known_memory(row: Row) -> Memory:
    names = ("due", "state", "step", "stability", "difficulty", "reviewed")
    known = Memory(*(row[name] for name in names))
    new = known.reviewed is None
    good = known.state in (memory.LEARNING, memory.REVIEW, memory.RELEARNING)
    if new != (known.stability is None) or new != (known.difficulty is None) or not good:
        raise ValueError("its memory is not as FSRS leaves it")
    if known.stability is not None and known.difficulty is not None:
        good = known.stability > 0 and memory.HARDEST[0] <= known.difficulty <= memory.HARDEST[1]
        if not good:
            raise ValueError("its memory is not as FSRS leaves it")
    if (known.step is None) != (known.state == memory.REVIEW) or not 0 <= (known.step or 0) <= 10:
        raise ValueError("its memory is not as FSRS leaves it")
    return known


def _reviews(connection: sqlite3.Connection, student: str, given: Mapping[str, list[Row]], done: Imported) -> None:
    theirs: dict[str, dict[int, Review]] = {}
    for number, row in enumerate(given.get("reviews", [])):
        try:
            review = Review(row["at"], row["rating"], row.get("duration"))
            if review.rating not in (1, 2, 3, 4):
                raise ValueError(f"rating is {review.rating}")
            theirs.setdefault(row["card"], {})[review.at] = review
        except (ValueError, KeyError) as error:
            raise _broken("reviews", number, error) from error
    states = {row["id"]: row for row in given.get("cards", [])}
    for card, new in theirs.items():
        found = connection.execute("SELECT created FROM cards WHERE student = ? AND id = ?", (student, card)).fetchone()
        if found is None:
            raise LearnerFileError(
                f"This learner file is damaged: it has reviews of a card that it does not have ({card}). "
                "Nothing was imported."
            )
        mine = {
            row["at"]: Review(*row)
            for row in connection.execute(
                "SELECT at, rating, duration FROM reviews WHERE student = ? AND card = ?", (student, card)
            )
        }
        both = {**new, **mine}
        for at in set(new) & set(
            mine
        ):  # in the same millisecond, the worse answer counts: the order of merging must not
            both[at] = min(new[at], mine[at], key=lambda review: (review.rating, review.duration or 0))
        for at, review in both.items():
            if mine.get(at) != review:
                connection.execute(
                    "INSERT OR REPLACE INTO reviews (student, card, at, rating, duration) VALUES (?, ?, ?, ?, ?)",
                    (student, card, at, review.rating, review.duration),
                )
            done.count("reviews", "new" if at not in mine else "same")
        if both == mine:
            continue
        if both == new and card in states:
            known = _known_memory(states[card])
        else:
            known = memory.replay(found["created"], both.values())
        cards.remember(connection, student, card, known)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _broken(table: str, number: int, error: Exception) -> LearnerFileError:
    what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    return LearnerFileError(
        f"This learner file is damaged: entry {number + 1} of {plain(table)} cannot be read ({what}). "
        "Nothing was imported."
    )
