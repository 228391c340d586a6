"""The personal tables of the store as rows of a learner file; they are asked for, so that a new one is in it too."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

KEYS: dict[str, tuple[str, ...]] = {
    "answers": ("course", "at", "item", "source"),
    "quizzes": ("course", "at"),
    "student_notes": ("course", "hash"),
}
"""What makes two rows the same; elsewhere the primary key does, and where the store gives it, all of their values."""

NEWER = ("changed", "updated_at", "voted_at")
"""Columns that say which of two versions of a row is the newer."""

HANGING = {"plan_sessions": "plans"}
"""Tables that hang on another though they name the student themselves."""

LATEST_MS = 221_845_132_800_000
"""The year 9000: no time of a row is later."""
_TIMES = {
    "at",
    "made",
    "due",
    "reviewed",
    "created",
    "changed",
    "begun",
    "ends",
    "handed_in",
    "created_at",
    "updated_at",
    "voted_at",
}
_TYPES = {"TEXT": (str,), "INTEGER": (int,), "REAL": (int, float)}


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the file has it. ``key`` is its place in the primary key, from 1."""

    name: str
    type: str
    required: bool
    key: int


@dataclass(frozen=True, slots=True)
class Table:
    """A personal table, and the tables that hang on its rows with the columns that hold them: (theirs, ours)."""

    name: str
    columns: tuple[Column, ...]
    own_id: str = ""  # an integer that the store gives; elsewhere it is another
    hanging: tuple[tuple[Table, tuple[tuple[str, str], ...]], ...] = ()

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that are in the file."""
        return tuple(column.name for column in self.columns if column.name not in ("student", self.own_id))

    @property
    def same(self) -> tuple[str, ...]:
        """The columns in which two rows that are the same agree."""
        keys = tuple(column.name for column in self.columns if column.key and column.name != "student")
        return KEYS.get(self.name) or (self.written if self.own_id else keys)

    def rows(self, connection: sqlite3.Connection, student: str) -> Iterator[Row]:
        """All rows of a student in a fixed order, with what hangs on them."""
        order = ", ".join(f'"{name}"' for name in (*self.same, *self.written))
        found = connection.execute(f'SELECT * FROM "{self.name}" WHERE student = ? ORDER BY {order}', (student,))
        for row in found.fetchall():
            yield {name: row[name] for name in self.written} | self._hanging_rows(connection, row)

    def check(self, row: Row, given: frozenset[str] = frozenset()) -> None:
        """Raises ValueError if a row cannot be one of this table's; the columns ``given`` come from elsewhere."""
        inside = {table.name for table, _ in self.hanging}
        if unknown := set(row) - set(self.written) - inside:
            raise ValueError(f"{sorted(unknown)[0]!r} is not known here")
        for column in self.columns:
            if column.name in self.written and column.name not in given:
                _check(column, row.get(column.name))
        for table, links in self.hanging:
            for child in row.get(table.name, []):
                if not isinstance(child, dict):
                    raise ValueError(f"{plain(table.name)} are not as they should be")
                table.check(child, frozenset(theirs for theirs, _ in links))

    def merge(self, connection: sqlite3.Connection, student: str, row: Row) -> str:
        """Write a checked row: ``new``, ``changed`` where the student's was older, or ``same``."""
        key = self.same
        row = self._unshared(connection, student, row)
        where = " AND ".join(f'"{name}" IS ?' for name in key)
        mine = connection.execute(
            f'SELECT * FROM "{self.name}" WHERE student = ? AND {where}', (student, *(row.get(name) for name in key))
        ).fetchone()
        if mine is not None:
            newer = next((name for name in NEWER if name in self.written), "")
            if not newer or (row[newer] or 0) <= (mine[newer] or 0):
                return "same"
            self._delete(connection, student, mine)
        self._insert(connection, student, row)
        return "new" if mine is None else "changed"

    def _insert(self, connection: sqlite3.Connection, student: str, row: Row) -> None:
        names = [name for name in self.written if name in row]
        listed = ", ".join(f'"{name}"' for name in ("student", *names))
        places = ", ".join("?" * (len(names) + 1))
        cursor = connection.execute(
            f'INSERT INTO "{self.name}" ({listed}) VALUES ({places})', (student, *(row[name] for name in names))
        )
        kept = {**row, "student": student, self.own_id: cursor.lastrowid}
        for table, links in self.hanging:
            for child in row.get(table.name, []):
                filled = {**child, **{theirs: kept[ours] for theirs, ours in links}}
                columns = ", ".join(f'"{name}"' for name in filled)
                marks = ", ".join("?" * len(filled))
                connection.execute(f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})', tuple(filled.values()))

    def _delete(self, connection: sqlite3.Connection, student: str, mine: sqlite3.Row) -> None:
        keys = [column.name for column in self.columns if column.key]
        where = " AND ".join(f'"{name}" IS ?' for name in keys)
        connection.execute(
            f'DELETE FROM "{self.name}" WHERE student = ? AND {where}', (student, *(mine[name] for name in keys))
        )

    def _unshared(self, connection: sqlite3.Connection, student: str, row: Row) -> Row:
        """The row with an id of its own where another student has it: one file can be imported by two students."""
        keys = [column.name for column in self.columns if column.key]
        if keys != ["id"] or self.own_id:
            return row
        owner = connection.execute(f'SELECT student FROM "{self.name}" WHERE id = ?', (row["id"],)).fetchone()
        if owner is None or owner["student"] == student:
            return row
        return {**row, "id": hashlib.sha256(f"{student}\0{row['id']}".encode()).hexdigest()[:24]}

    def _hanging_rows(self, connection: sqlite3.Connection, row: sqlite3.Row) -> Row:
        found: Row = {}
        for table, links in self.hanging:
            ours = {theirs for theirs, _ in links}
            names = [name for name in table.written if name not in ours]
            where = " AND ".join(f'"{theirs}" = ?' for theirs, _ in links)
            order = ", ".join(f'"{name}"' for name in names)
            children = connection.execute(
                f'SELECT {order} FROM "{table.name}" WHERE {where} ORDER BY {order}', [row[own] for _, own in links]
            )
            found[table.name] = [dict(child) for child in children]
        return found


def tables(connection: sqlite3.Connection) -> list[Table]:
    """The personal tables, those first on which others lean."""
    names = [
        row["name"]
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
        )
    ]
    columns = {name: _columns(connection, name) for name in names}
    personal = [name for name in names if any(column.name == "student" for column in columns[name])]
    tops = [name for name in personal if name not in HANGING]
    made = []
    for name in tops:
        hanging = []
        for other in names:
            for links in _links(connection, other, name):
                if other not in personal or HANGING.get(other) == name:
                    hanging.append((Table(other, columns[other], _own_id(columns[other])), links))
        made.append(Table(name, columns[name], _own_id(columns[name]), tuple(hanging)))
    leaning = {
        name: {entry["table"] for entry in connection.execute(f'PRAGMA foreign_key_list("{name}")')} for name in tops
    }
    return sorted(made, key=lambda table: (bool(leaning[table.name] & set(tops)), table.name))


def plain(table: str) -> str:
    """A table's name in words."""
    return table.replace("_", " ")


def _columns(connection: sqlite3.Connection, table: str) -> tuple[Column, ...]:
    return tuple(
        Column(row["name"], row["type"].upper(), bool(row["notnull"]) and row["dflt_value"] is None, row["pk"])
        for row in connection.execute(f'PRAGMA table_info("{table}")')
    )


def _own_id(columns: tuple[Column, ...]) -> str:
    keys = [column for column in columns if column.key]
    return keys[0].name if len(keys) == 1 and keys[0].type == "INTEGER" else ""


def _links(connection: sqlite3.Connection, table: str, parent: str) -> list[tuple[tuple[str, str], ...]]:
    """The foreign keys of a table to another: (its column, the other's column) for each."""
    found: dict[int, list[tuple[str, str]]] = {}
    for row in connection.execute(f'PRAGMA foreign_key_list("{table}")'):
        if row["table"] == parent:
            found.setdefault(row["id"], []).append((row["from"], row["to"]))
    return [tuple(links) for links in found.values()]


def _check(column: Column, value: object) -> None:
    if value is None:
        if column.required or column.key:
            raise ValueError(f"{column.name} is missing")
        return
    if isinstance(value, bool) or not isinstance(value, _TYPES.get(column.type, (str, int, float))):
        raise ValueError(f"{column.name} is {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{column.name} is {value!r}")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{column.name} is {value!r}")
    if column.name in _TIMES and not 0 <= value <= LATEST_MS:  # type: ignore[operator]
        raise ValueError(f"{column.name} is {value!r}, which is no time")
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{column.name} has a null character in it")
