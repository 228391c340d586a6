"""Who there is in the store: the server's keys, students who come, and students who want to be forgotten."""

from __future__ import annotations

import secrets

from iris.store import Store, now

GUEST = "guest:"
"""Begins the id of whoever called without saying who; such ids are given out once and forgotten after a day."""

GUESTS_KEPT_MS = 24 * 3600 * 1000


def key(store: Store, name: str) -> str:
    """The server's key of that name: made at random when it is first asked for, the same ever after."""
    with store.read() as connection:
        row = connection.execute("SELECT value FROM keys WHERE name = ?", (name,)).fetchone()
    if not row:
        with store.write() as connection:  # another process may have been faster: its key counts
            connection.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (name, secrets.token_urlsafe(32)))
            row = connection.execute("SELECT value FROM keys WHERE name = ?", (name,)).fetchone()
    return str(row["value"])


def known(store: Store, student: str) -> bool:
    """Whether there is such a student (still)."""
    with store.read() as connection:
        return connection.execute("SELECT 1 FROM students WHERE id = ?", (student,)).fetchone() is not None


def forget(store: Store, student: str) -> None:
    """Delete the student and everything of theirs; overwritten in the file, too, as far as it can be done.

    Raises:
        StoreError: it could not be deleted; everything is still there.
    """
    with store.write() as connection:
        connection.execute("DELETE FROM students WHERE id = ?", (student,))
        # A full-text index keeps the words of what was deleted until its parts are merged.
        indexes = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%USING fts5%'"
        for row in connection.execute(indexes).fetchall():
            connection.execute(f"INSERT INTO {row['name']} ({row['name']}) VALUES ('optimize')")
    store.scrub()


def forget_guests(store: Store) -> int:
    """Delete guests of more than a day ago; how many."""
    with store.write() as connection:
        return connection.execute(
            "DELETE FROM students WHERE id >= ? AND id < ? AND created_at < ?",
            (GUEST, GUEST[:-1] + chr(ord(GUEST[-1]) + 1), now() - GUESTS_KEPT_MS),
        ).rowcount


def counts(store: Store, student: str) -> dict[str, int]:
    """How many rows each personal table holds of the student, tables without any left out."""
    found: dict[str, int] = {}
    with store.read() as connection:
        tables = [
            row["name"]
            for row in connection.execute(
                "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'student' "
                "WHERE m.type = 'table' ORDER BY m.name"
            )
        ]
        for table in tables:
            (number,) = connection.execute(f'SELECT count(*) FROM "{table}" WHERE student = ?', (student,)).fetchone()
            if number:
                found[table] = number
    return found
