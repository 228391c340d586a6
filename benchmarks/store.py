"""Students who save at the same time, and how long each of them waits.

    python -m benchmarks.store [--students 32] [--rounds 20] [--chats 1000]

Every student saves an answer; all start together, and again when all are done. Beside it, turn about in the same run,
the usual way: a connection for each thread, SQLite's own waiting (busy timeout), and a sync for each commit. Counts
what is lost. Then the pages of one student with many chats: list, search, open, delete everything.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from iris.store import Store
from iris.study import chats, students
from iris.study.chats import Message

ANSWER = "A feature store keeps the features of training and of serving the same. " * 20
"""As long as an answer usually is: 1,400 characters."""

Save = Callable[[str, str], None]
"""``(student, question)`` is saved, with an answer, when it returns."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--students", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--chats", type=int, default=1000)
    options = parser.parse_args(arguments)
    names = [f"student {number}" for number in range(options.students)]
    waits: dict[str, list[float]] = {"iris": [], "plain sqlite3": []}
    lost = dict.fromkeys(waits, 0)
    with tempfile.TemporaryDirectory() as folder:
        store, plain = Store(Path(folder) / "iris.db"), Plain(Path(folder) / "plain.db")
        for name in names:
            store.student(name)
            plain.student(name)
        for round_ in range(options.rounds):
            for way, save in (("iris", _saver(store)), ("plain sqlite3", plain.save)):
                measured, failed = _class(save, names, round_)
                waits[way] += measured
                lost[way] += failed
        kept = sum(len(chats.everything(store, name)) for name in names)
        lost["iris"] += options.rounds * len(names) - kept - lost["iris"]
        lost["plain sqlite3"] = options.rounds * len(names) - plain.count()
        store.close()
    print(f"{options.students} students at once, {options.rounds} rounds")
    for way, measured in waits.items():
        measured.sort()
        middle, most, longest = (1e3 * measured[int(part * (len(measured) - 1))] for part in (0.5, 0.95, 1))
        print(f"{way:14} median {middle:6.1f} ms  95 % {most:6.1f} ms  longest {longest:6.1f} ms  lost {lost[way]}")
    with tempfile.TemporaryDirectory() as folder:
        _pages(Store(Path(folder) / "iris.db"), options.chats)
    return 0


def _saver(store: Store) -> Save:
    def save(student: str, question: str) -> None:
        chats.save(store, student, chats.new_id(), [Message("user", question), Message("assistant", ANSWER)])

    return save


class Plain:
    """The same rows, the usual way."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._here = threading.local()
        source = Store(path)  # makes the tables
        source.close()

    def student(self, name: str) -> None:
        with self._connection() as connection:
            connection.execute("INSERT INTO students VALUES (?, 0)", (name,))

    def save(self, student: str, question: str) -> None:
        chat, at = chats.new_id(), time.time_ns() // 1_000_000
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO chats VALUES (?, ?, ?, ?, 0, ?, ?)",
                (chat, student, question, chats.folded(question), at, at),
            )
            connection.executemany(
                "INSERT INTO chat_messages VALUES (?, ?, ?, ?, ?)",
                [
                    (chat, 0, "user", question, chats.folded(question)),
                    (chat, 1, "assistant", ANSWER, chats.folded(ANSWER)),
                ],
            )

    def count(self) -> int:
        with self._connection() as connection:
            number: int = connection.execute("SELECT count(*) FROM chats").fetchone()[0]
            return number

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._here, "connection", None)
        if connection is None:
            connection = self._here.connection = sqlite3.connect(self._path, timeout=10.0)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        return connection


def _class(save: Save, names: list[str], round_: int) -> tuple[list[float], int]:
    """(seconds each student waited, how many could not save)."""
    measured: list[float] = []
    failures: list[Exception] = []
    start = threading.Barrier(len(names))

    def student(name: str) -> None:
        start.wait()
        began = time.perf_counter()
        try:
            save(name, f"{round_}. Why does a feature store keep two copies?")
        except Exception as error:
            failures.append(error)
        measured.append(time.perf_counter() - began)

    threads = [threading.Thread(target=student, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return measured, len(failures)


def _pages(store: Store, number: int) -> None:
    """Times of the pages of a student with ``number`` chats of ten messages."""
    store.student("anna")
    store.student("bo")
    for n in range(number):
        turn = [Message("user", f"{n}. What is drift?"), Message("assistant", ANSWER)]
        for name in ("anna", "bo"):
            chats.save(store, name, chats.new_id(), turn * 5)
    chat = chats.recent(store, "anna")[0].id
    print(f"one student with {number} chats of 10 messages, among others")
    for title, page in (
        ("list", lambda: chats.recent(store, "anna")),
        ("search, all found", lambda: chats.recent(store, "anna", search="features serving")),
        ("search, none found", lambda: chats.recent(store, "anna", search="photosynthesis")),
        ("open", lambda: chats.messages(store, "anna", chat)),
    ):
        spans, cores = [], []
        for _ in range(20):
            began, busy = time.perf_counter(), time.process_time()
            page()
            spans.append(time.perf_counter() - began)
            cores.append(time.process_time() - busy)
        print(
            f"{title:20} median {1e3 * median(spans):6.1f} ms  longest {1e3 * max(spans):6.1f} ms  "
            f"of the processor {1e3 * median(cores):6.1f} ms"
        )
    began = time.perf_counter()
    students.forget(store, "anna")
    print(f"{'delete everything':20} {1e3 * (time.perf_counter() - began):6.1f} ms")
    store.close()


if __name__ == "__main__":
    sys.exit(main())
