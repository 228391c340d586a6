"""Rows for every table of a store, whatever tables its version has."""

from __future__ import annotations

import itertools
import re
import sqlite3
from typing import Any

Row = dict[str, Any]

_number = itertools.count(1)


def tables(connection: sqlite3.Connection) -> list[str]:
    """Tables that hold rows of their own, parents before children; none of a full-text index's."""
    kinds = {row[1]: row[2] for row in connection.execute("PRAGMA table_list")}
    made = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
    skipped = ("migrations", "sqlite_sequence")
    return [name for (name,) in made.fetchall() if kinds[name] == "table" and name not in skipped]


def personal(connection: sqlite3.Connection) -> set[str]:
    """Tables whose rows belong to a student, directly or through other rows."""
    found = {"students"}
    for table in tables(connection):  # parents come first
        if any(row[2] in found for row in connection.execute(f'PRAGMA foreign_key_list("{table}")').fetchall()):
            found.add(table)
    return found


def fill(connection: sqlite3.Connection, student: str) -> dict[str, Row]:
    """One row in each table; in the student's the texts begin with the id, in what nobody owns with ``shared``."""
    rows: dict[str, Row] = {}
    owned = personal(connection)
    for table in tables(connection):
        row: Row = {}
        word = student if table in owned else "shared"
        parents = {
            column: rows[parent][to or _key(connection, parent)[place]]
            for _, place, parent, column, to, *_ in connection.execute(f'PRAGMA foreign_key_list("{table}")').fetchall()
        }
        sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        for _, column, kind, _, _, key in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            if column in parents:
                row[column] = parents[column]
            elif (table, column) == ("students", "id"):
                row[column] = word
            elif not (key and kind == "INTEGER" and len(_key(connection, table)) == 1):
                row[column] = _value(sql, column, kind, word)
        names = ", ".join(f'"{name}"' for name in row)
        places = ", ".join("?" * len(row))
        done = connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({places})', tuple(row.values()))
        for column in _key(connection, table):
            row.setdefault(column, done.lastrowid)
        rows[table] = row
    return rows


def _key(connection: sqlite3.Connection, table: str) -> list[str]:
    info = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
    return [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]


def _value(sql: str, column: str, kind: str, word: str) -> Any:
    allowed = re.search(rf"\b{column}\s+(?:IN\s*\(|BETWEEN\s+)\s*('[^']*'|\d+)", sql)
    if allowed:
        return allowed[1].strip("'") if allowed[1].startswith("'") else int(allowed[1])
    if kind == "TEXT":
        return f"{word} {column} {next(_number)}"
    return {"INTEGER": next(_number), "REAL": 0.5}.get(kind, word.encode())
