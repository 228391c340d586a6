"""A copy of the state where it outlives this machine: the storage bucket of a Space, or any other folder.

A bucket is mounted like a folder, but it stores whole files, when they are closed. SQLite writes pages into open files
and shares memory between its connections, so the store itself stays on the machine's disk. At the start it is fetched
from the bucket; from then on a copy of one moment is brought back within ``EVERY_S`` of anything written, and once more
at the end. The teacher's own files in the bucket, ``models.toml`` and ``courses/``, are fetched too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
import uuid
from pathlib import Path

from iris import backup
from iris.errors import StoreError

log = logging.getLogger(__name__)

EVERY_S = 30.0

STORE = "iris.db"
FROM_TEACHERS = ("models.toml", "courses/**/*")
"""What else is fetched, and never written."""


class Keeper:
    """Copies between ``home``, the state folder, and ``folder``, which lasts. One Iris at a time may use a folder."""

    def __init__(self, home: Path, folder: Path, *, every: float = EVERY_S) -> None:
        self._store = home / STORE
        self._home = home
        self._folder = folder
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="iris-keep", daemon=True)

    def restore(self) -> None:
        """Fetch what ``folder`` has and ``home`` has not.

        Raises:
            StoreError: the kept store is damaged, or something cannot be read or written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            kept = self._folder / STORE
            if kept.is_file() and not self._store.exists():
                _fetch(kept, self._store)
            for path in sorted(path for pattern in FROM_TEACHERS for path in self._folder.glob(pattern)):
                there = self._home / path.relative_to(self._folder)
                if path.is_file() and not there.exists():
                    there.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, there)
        except OSError as error:
            raise StoreError(
                f"What {self._folder} keeps could not be fetched ({error.strerror or error}). Check the bucket "
                "that is mounted there, or set IRIS_KEEP to another folder."
            ) from error

    def start(self) -> None:
        """Copy from now on, whenever something was written."""
        self._thread.start()

    def close(self) -> None:
        """Copy once more and stop."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.save()

    def save(self) -> bool:
        """Copy the store now; whether that worked. Trouble is logged, and the copy of before stays."""
        copy = self._home / f".{STORE}.{uuid.uuid4().hex}"
        try:
            if self._store.is_file():
                backup.copy(self._store, copy)
                _put(copy, self._folder / STORE)
            return True
        except (OSError, StoreError) as error:
            log.error("the store could not be copied to %s (%s)", self._folder, error)
            return False
        finally:
            copy.unlink(missing_ok=True)

    def _run(self) -> None:
        watch: sqlite3.Connection | None = None
        copied = -1
        while not self._stop.wait(self._every):
            try:
                if watch is None and self._store.is_file():
                    watch = sqlite3.connect(f"{self._store.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
                if watch is not None:
                    (version,) = watch.execute("PRAGMA data_version").fetchone()  # changes with others' commits
                    if version != copied and self.save():
                        copied = version
            except sqlite3.Error as error:
                log.error("the store cannot be watched (%s); it is copied at the end", error)
        if watch is not None:
            watch.close()


def _fetch(kept: Path, store: Path) -> None:
    """Copy a kept store into its place, after a look whether it is whole."""
    beside = store.with_name(f".{store.name}.{uuid.uuid4().hex}")
    try:
        beside.touch(mode=0o600)
        shutil.copyfile(kept, beside)
        try:
            with contextlib.closing(sqlite3.connect(beside)) as connection:
                (found,) = connection.execute("PRAGMA quick_check").fetchone()
        except sqlite3.Error as error:
            found = str(error)
        if found != "ok":
            raise StoreError(
                f"The kept store {kept} is damaged ({found}). Put a good copy in its place, or rename it to begin anew."
            )
        os.replace(beside, store)
    finally:
        beside.unlink(missing_ok=True)


def _put(source: Path, target: Path) -> None:
    """Copy a file whole, beside its place first."""
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
