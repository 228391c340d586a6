"""``python -m iris backup FILE``: a copy of the store that is of one moment, also while Iris is running."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from iris import store, store_errors
from iris.errors import StoreError

_MAGIC = b"SQLite format 3\x00"


def run(target: str) -> int:
    """Back up the store of the state folder to ``target``; returns the process's exit status.

    Raises:
        StoreError: see ``copy``.
    """
    file = Path(target).expanduser()
    size = copy(store.location(), file)
    print(
        f"Saved {size / 1e6:.1f} MB to {file}. To go back to it: stop Iris, copy it to {store.location()}, and delete"
    )
    print(f"{store.location()}-wal and {store.location()}-shm, if they are there.")
    return 0


def copy(source: Path, target: Path) -> int:
    """Copy the store ``source`` to the file ``target``; returns its size in bytes.

    The copy is made beside ``target``, examined, and renamed: an earlier backup there is replaced at once, or stays.

    Raises:
        StoreError: there is no store, it is damaged, or ``target`` cannot be written or is no backup.
    """
    if not source.is_file():
        raise StoreError(f"There is nothing to back up yet: {source} does not exist. IRIS_HOME names its folder.")
    if target.is_dir():
        raise StoreError(f"{target} is a folder: name the file that the backup is to be, such as {target}/iris.db.")
    if target.exists():
        if target.samefile(source):
            raise StoreError(f"{target} is the store itself: name another file for its backup.")
        with target.open("rb") as file:
            if file.read(len(_MAGIC)) not in (_MAGIC, b""):
                raise StoreError(f"{target} is there already and is no backup: it was left alone. Name another file.")
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            _copied(source, fresh)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            size = fresh.stat().st_size
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.Error) and store_errors.is_damage(error):
            raise _damaged(source, str(error)) from error
        raise StoreError(
            f"The store {source} could not be saved to {target} ({error}). Is the disk full, or the folder missing or "
            "read-only? An earlier backup there is as it was."
        ) from error
    return size


def _copied(source: Path, target: Path) -> None:
    target.touch(mode=0o600)  # what students wrote is for the one who makes the backup
    read = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=store.BUSY_S)
    write = sqlite3.connect(target)
    try:
        read.backup(write)  # in one go: then it is one snapshot, and those who write meanwhile do not start it again
        write.execute("PRAGMA journal_mode = DELETE")  # one file, which also a read-only medium can hold
        found = [row[0] for row in write.execute("PRAGMA integrity_check(3)")]
    finally:
        write.close()
        read.close()
    if found != ["ok"]:
        raise _damaged(source, "; ".join(found))


def _damaged(source: Path, what: str) -> StoreError:
    return StoreError(
        f"The store {source} is damaged, and its copy was not kept: {what}. Keep your earlier backups; stop Iris and "
        "put the last good one in the store's place."
    )
