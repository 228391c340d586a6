"""What Iris remembers: one SQLite file in the state folder, brought up to date by numbered migrations.

The tables are made in ``migrations/NNNN_name.sql``; the SQL that reads and writes them stands with what it is about, in
``iris/notes`` and ``iris/study``. Personal tables refer to ``students(id)`` with ``ON DELETE CASCADE``, so that all of
a student's data goes with the student. Times are milliseconds since 1970, UTC.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iris.errors import StoreError

BUSY_S = 10.0
"""How long a writer waits for another process's before it gives up."""

_MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: after it, the file's ``user_version`` is ``number``."""

    number: int
    name: str
    sql: str


def migrations(folder: Path = _MIGRATIONS) -> tuple[Migration, ...]:
    """The numbered files of ``folder`` in order; numbers count from 1 without a gap."""
    found: list[Migration] = []
    for file in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_(\w+)", file.stem)
        if not match or int(match[1]) != len(found) + 1:
            raise StoreError(f"{file.name} is not the next migration; expected {len(found) + 1:04}_<name>.sql.")
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return tuple(found)


class Store:
    """The file, open. Every thread has a connection of its own; one thread at a time writes.

    Raises:
        StoreError: the file cannot be opened or made, is no store, or was written by a newer Iris.
    """

    def __init__(self, path: Path, steps: tuple[Migration, ...] | None = None) -> None:
        self.path = path
        self._steps = migrations() if steps is None else steps
        self._here = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._listing = threading.Lock()
        self._writing = threading.Lock()  # SQLite's own waiting is by sleeping, and not in order
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"The store {path} cannot be opened: {error}.") from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, to read with. Rows are ``sqlite3.Row``."""
        yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end, or undone by whatever is raised inside.

        Raises:
            StoreError: the disk is full or the file cannot be written; nothing was changed.
        """
        connection = self._connection()
        with self._writing:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise StoreError(f"{self.path} could not be written ({error}): nothing was changed.") from error

    def student(self, student: str) -> None:
        """Make sure that there is a row for this student."""
        with self.read() as connection:
            if connection.execute("SELECT 1 FROM students WHERE id = ?", (student,)).fetchone():
                return
        with self.write() as connection:
            connection.execute("INSERT OR IGNORE INTO students (id, created_at) VALUES (?, ?)", (student, now()))

    def close(self) -> None:
        with self._listing:
            for connection in self._all:
                connection.close()
            self._all.clear()
            self._here = threading.local()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._here, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            # A process that is killed loses nothing committed; only a power cut can take the last transactions.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._here.connection = connection
            with self._listing:
                self._all.append(connection)
        return connection

    def _migrate(self) -> None:
        connection = self._connection()
        version = _version(connection)
        if version > len(self._steps):
            raise StoreError(
                f"The store {self.path} was written by a newer Iris (version {version}, this one knows "
                f"{len(self._steps)}). Update Iris, or set IRIS_HOME to another folder."
            )
        for step in self._steps[version:]:
            with self.write():
                if _version(connection) >= step.number:
                    continue  # another process was faster
                for statement in _statements(step.sql):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {step.number}")


def now() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _statements(sql: str) -> Iterator[str]:
    """The statements of a script one by one: ``executescript`` would end the transaction."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
