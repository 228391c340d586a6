"""What Iris remembers: one SQLite file in the state folder, brought up to date by numbered migrations.

The tables are made in ``migrations/NNNN_name.sql``; the SQL that reads and writes them stands with what it is about, in
``iris/notes`` and ``iris/study``. Personal tables refer to ``students(id)`` with ``ON DELETE CASCADE``, so that all of
a student's data goes with the student. Times are milliseconds since 1970, UTC.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from iris import settings, store_errors
from iris.errors import StoreError

BUSY_S = 10.0
"""How long a writer waits for another process's before it gives up."""

SCRUB_MS = 200
"""How long deleting waits for readers before it leaves the log for later; nobody writes meanwhile."""

WAL_BYTES = 16 << 20
"""The write-ahead log is cut back to this length when a burst of writing is over."""

_MIGRATIONS = Path(__file__).parent / "migrations"

_APPLIED = """CREATE TABLE IF NOT EXISTS migrations (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL
) STRICT"""


def location() -> Path:
    """Where the store is: ``iris.db`` in the state folder."""
    return settings.home() / "iris.db"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str


def migrations(folder: Path = _MIGRATIONS) -> tuple[Migration, ...]:
    """The numbered files of ``folder`` in order.

    Raises:
        StoreError: a file is not called ``NNNN_name.sql``, or two have the same number.
    """
    found: list[Migration] = []
    for file in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_(\w+)", file.stem)
        if not match:
            raise StoreError(f"{file.name} is no migration: it must be called NNNN_name.sql.")
        if found and found[-1].number == int(match[1]):
            raise StoreError(f"Two migrations have the number {match[1]}: {found[-1].name} and {match[2]}.")
        found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return tuple(found)


class Store:
    """The file, open. Any number of threads read, each from a snapshot; one at a time writes, first come first served.

    A ``read`` inside a ``write`` of the same thread sees what was written so far; a ``write`` inside a ``write`` is
    part of it, and is committed or undone with it.

    Raises:
        StoreError: the file cannot be opened or made, is no store, is damaged, or was written by a newer Iris.
    """

    def __init__(self, path: Path, steps: tuple[Migration, ...] | None = None) -> None:
        self.path = path
        self._steps = migrations() if steps is None else steps
        self._free: deque[sqlite3.Connection] = deque()  # connections to read with; append and pop are atomic
        self._line = _Line()
        self._writing: int | None = None  # the thread that is inside `write`
        self._closed = self._scrub_due = False
        self._syncing = threading.Lock()
        self._commits = self._synced = 0
        self._log: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder of the store, {path.parent}, cannot be made ({error.strerror}). "
                "Set IRIS_HOME to a folder you may write to."
            ) from error
        try:
            self._writer = self._connect()
            self._migrate()
        except sqlite3.Error as error:
            with suppress(AttributeError):
                self._writer.close()
            raise store_errors.opening(path, error) from error
        except StoreError:
            self._writer.close()
            raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with; all that is read inside is of one moment. Rows are ``sqlite3.Row``.

        Raises:
            StoreError: the file is damaged or cannot be read.
        """
        if self._writing == threading.get_ident():
            yield self._writer
            return
        try:
            connection = self._reader()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)
        except sqlite3.DatabaseError as error:
            if problem := store_errors.failed(error, writing=False):
                raise problem from error
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end, or undone by whatever is raised inside.

        Raises:
            StoreError: the disk is full, the file cannot be written, or another process keeps it; nothing was changed.
        """
        if self._writing == threading.get_ident():
            yield self._writer
            return
        with self._line:
            if self._closed:
                raise StoreError("Iris is being stopped: nothing can be saved any more.")
            self._writing = threading.get_ident()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
                self._commits += 1
                commit = self._commits
            except sqlite3.DatabaseError as error:
                if problem := store_errors.failed(error, writing=True):
                    raise problem from error
                raise
            finally:
                self._writing = None
                if self._writer.in_transaction:
                    # After a full disk SQLite may have undone everything by itself.
                    with suppress(sqlite3.Error):
                        self._writer.execute("ROLLBACK")
            if self._scrub_due:
                self._scrubbed(0)
        self._sync(commit)

    def student(self, student: str) -> None:
        """Make sure that there is a row for this student."""
        with self.read() as connection:
            if connection.execute("SELECT 1 FROM students WHERE id = ?", (student,)).fetchone():
                return
        with self.write() as connection:
            connection.execute("INSERT OR IGNORE INTO students (id, created_at) VALUES (?, ?)", (student, now()))

    def scrub(self) -> bool:
        """Take what was deleted out of the write-ahead log, too.

        False if somebody is still reading what it was before: then it is done with one of the next transactions.
        """
        with self._line:
            return self._scrubbed(SCRUB_MS)

    def _scrubbed(self, wait_ms: int) -> bool:
        if self._closed:
            return False
        try:
            self._writer.execute(f"PRAGMA busy_timeout = {wait_ms}")
            self._scrub_due = bool(self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            self._writer.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_S)}")
        except sqlite3.Error:
            self._scrub_due = True
        return not self._scrub_due

    def close(self) -> None:
        """Close the file, once whoever writes has finished. Reading goes on until its ``with`` ends."""
        with self._line:
            self._closed = True
            while self._free:
                self._free.pop().close()
            self._writer.close()
        with self._syncing:
            if self._log is not None:
                os.close(self._log)
                self._log = None

    def _sync(self, commit: int) -> None:
        """Wait until a commit is on the disk. Those who wait at the same time share one fsync, outside the line."""
        with self._syncing:
            if self._synced >= commit or self._closed:
                return
            covered = self._commits
            try:
                if self._log is None:
                    self._log = os.open(f"{self.path}-wal", os.O_RDONLY)
                os.fsync(self._log)
            except OSError as error:
                raise StoreError(
                    f"The disk of the computer that runs Iris reports an error ({error.strerror}): what was saved just "
                    "now may be lost when its power fails."
                ) from error
            self._synced = covered

    def _reader(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError("Iris is being stopped: nothing can be read any more.")
        try:
            return self._free.pop()
        except IndexError:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._free.append(connection)

    def _connect(self) -> sqlite3.Connection:
        # A generator's steps may run in different threads, so a connection is not bound to one.
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # `_sync` brings each commit to the disk; SQLite itself would do it while the next writer waits.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what a student deletes is overwritten, not only unlinked
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        return connection

    def _migrate(self) -> None:
        known = {step.number for step in self._steps}
        applied = _applied(self._writer)
        if not applied and self._writer.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise StoreError(
                f"{self.path} is another program's SQLite file, not a store of Iris. Move it away, or set IRIS_HOME to "
                "another folder. The file was not changed."
            )
        if applied - known:
            raise StoreError(
                f"The store {self.path} was written by a newer Iris (it has reached version {max(applied)}, this Iris "
                f"knows {max(known, default=0)}). Update Iris, or set IRIS_HOME to another folder. The file was not "
                "changed."
            )
        for step in self._steps:
            if step.number in applied:
                continue
            with self.write() as connection:
                connection.execute(_APPLIED)
                if step.number in _applied(connection):
                    continue  # another process was faster
                for statement in _statements(step.sql):
                    connection.execute(statement)
                connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (step.number, step.name, now()))


def now() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class _Line:
    """A lock that is handed on in the order of asking: with ``threading.Lock`` a busy writer can pass others by."""

    def __init__(self) -> None:
        self._taken = False
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()  # it stays taken, by the next in line
            else:
                self._taken = False


def _applied(connection: sqlite3.Connection) -> set[int]:
    """Numbers of the migrations that the file has gone through."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return set()
    return {number for (number,) in connection.execute("SELECT number FROM migrations")}


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
