"""SQLite's errors in sentences for whoever reads them: the one who runs Iris when it starts, a student later."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from iris.errors import StoreError

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}  # a quota or a size limit shows as an I/O error


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is damaged, or no SQLite file at all."""
    return _code(error) in _DAMAGED


def opening(path: Path, error: sqlite3.Error) -> StoreError:
    """What to raise when the store cannot be opened."""
    code = _code(error)
    if is_damage(error):
        return StoreError(f"The store {path} is damaged or no SQLite file ({error}). {_RESTORE.format(path=path)}")
    if code == sqlite3.SQLITE_BUSY:
        return StoreError(f"The store {path} is being changed by another program. Try again when that is done.")
    if code in _FULL:
        return StoreError(
            f"The store {path} cannot be written ({error}): is the disk full? Free some space and start again."
        )
    return StoreError(
        f"The store {path} cannot be opened ({error}). Make sure that it is a file you may read and write, in a folder "
        "you may write to, or set IRIS_HOME to another folder."
    )


_RESTORE = (
    "Nothing was changed. Stop Iris, move {path} away together with the files beside it that end in -wal and -shm, and "
    "copy your last backup to its place; without a backup Iris starts with an empty store."
)


def failed(error: sqlite3.DatabaseError, *, writing: bool) -> StoreError | None:
    """What to raise for an error inside a transaction; None for a mistake in the SQL, which stays what it is."""
    code = _code(error)
    if is_damage(error):
        return StoreError(
            "What Iris has saved cannot be read: its file is damaged. Tell whoever runs this Iris: it has to be "
            "stopped, and iris.db in its state folder put back from a backup."
        )
    if writing and code in _FULL:
        return StoreError(
            "This could not be saved: the disk of the computer that runs Iris is full. All that was saved before is "
            "still there. Free some space on it, then try again."
        )
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return StoreError(
            "This could not be saved: what it belongs to was deleted meanwhile, perhaps in another window. "
            "Reload the page."
        )
    if code == sqlite3.SQLITE_BUSY:
        return StoreError("This could not be saved: another program keeps Iris's store. Try again in a moment.")
    if writing and code in _REFUSED:
        return StoreError(
            "This could not be saved: Iris may not write to its store any more. Tell whoever runs this Iris."
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreError("What Iris has saved cannot be read: the disk reports an error. Try again in a moment.")
    return None
