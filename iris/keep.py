"""A copy of the state where it outlives this machine: the storage bucket of a Space, or any other folder.

A bucket is mounted like a folder, but it stores whole files, when they are closed. SQLite writes pages into open files
and shares memory with its other connections, so the store itself stays on the machine's disk. At the start it is
fetched from the bucket; from then on a consistent copy is brought back within ``EVERY_S`` of anything written, and once
more at the end. The teacher's own files in the bucket, ``models.toml`` and ``courses/``, are fetched too.
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

from iris.errors import StoreError

log = logging.getLogger(__name__)

EVERY_S = 30.0

STORE = "iris.db"
FILES = ("browser.key",)
"""What is kept beside the store."""

FROM_TEACHERS = ("models.toml",)
"""What is fetched beside ``courses/``, and never written."""


class Keeper:
    """Copies between ``home``, the state folder, and ``folder``, which lasts."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home = home
        self._folder = folder
        self._watch: sqlite3.Connection | None = None
        self._version = -1
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
            if kept.is_file() and not (self._home / STORE).exists():
                _fetch(kept, self._home / STORE)
            single = [self._folder / name for name in FILES + FROM_TEACHERS]
            for path in [*single, *sorted(self._folder.glob("courses/**/*"))]:
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

    def save(self) -> None:
        """Copy what changed since the last time; trouble is logged, and the next time is tried again."""
        try:
            self._save()
        except (OSError, sqlite3.Error) as error:
            self._version = -1
            log.error("the state could not be copied to %s (%s); it is tried again", self._folder, error)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.save()
        self._forget()  # SQLite's connections are bound to their threads

    def _save(self) -> None:
        store = self._home / STORE
        for name in FILES:
            if (self._home / name).is_file() and not (self._folder / name).exists():
                _put(self._home / name, self._folder / name)
        if not store.is_file():
            return
        if self._watch is None:
            self._watch = sqlite3.connect(store, isolation_level=None)
        (version,) = self._watch.execute("PRAGMA data_version").fetchone()  # changes with others' commits
        if version == self._version:
            return
        copy = self._home / f".{STORE}.{uuid.uuid4().hex}"
        try:
            with contextlib.closing(sqlite3.connect(copy)) as target:
                self._watch.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            _put(copy, self._folder / STORE)
        finally:
            copy.unlink(missing_ok=True)
        self._version = version
        if threading.current_thread() is not self._thread:
            self._forget()

    def _forget(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch, self._version = None, -1


def _fetch(kept: Path, store: Path) -> None:
    """Copy a kept store into its place, after a look whether it is whole."""
    beside = store.with_name(f".{store.name}.{uuid.uuid4().hex}")
    try:
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
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
