"""The store: transactions, students who write at the same time, and whatever can befall a file."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iris.errors import StoreError
from iris.store import Store
from iris.study import chats, students
from iris.study.chats import Message
from tests.unit import children


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "iris.db")
    yield store
    store.close()


def names(store: Store) -> list[str]:
    with store.read() as connection:
        return [row["id"] for row in connection.execute("SELECT id FROM students ORDER BY id")]


def insert(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("INSERT INTO students VALUES (?, 0)", (name,))


def test_a_transaction_is_kept_whole_or_not_at_all(store: Store) -> None:
    with store.write() as connection:
        insert(connection, "a")
        insert(connection, "b")

    def failing(*names: str) -> None:
        with store.write() as connection:
            for name in names:
                insert(connection, name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing("c")
    with pytest.raises(sqlite3.IntegrityError):
        failing("d", "a")
    assert names(store) == ["a", "b"]


def test_a_write_inside_a_write_shares_its_fate(store: Store) -> None:
    with store.write() as connection:
        insert(connection, "a")
        store.student("b")
        assert names(store) == ["a", "b"]  # a reader inside sees what is not committed yet

    def failing() -> None:
        with store.write():
            store.student("c")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert names(store) == ["a", "b"]


def test_a_reader_sees_one_moment(store: Store) -> None:
    store.student("a")
    with store.read() as connection:
        before = connection.execute("SELECT count(*) FROM students").fetchone()[0]
        writer = threading.Thread(target=store.student, args=("b",))
        writer.start()
        writer.join(30)
        assert connection.execute("SELECT count(*) FROM students").fetchone()[0] == before == 1
    assert names(store) == ["a", "b"]


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError), store.read() as connection:
        insert(connection, "a")
    assert names(store) == []
    store.student("b")  # the connection is in order again


def test_a_generator_may_go_on_in_another_thread(store: Store) -> None:
    """Gradio takes each step of a handler in whichever of its threads is free."""
    store.student("a")

    def rows() -> Iterator[str]:
        with store.read() as connection:
            for row in connection.execute("SELECT id FROM students"):
                yield row["id"]
        store.student("b")
        yield "b"

    steps, seen = rows(), []
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append(next(steps)))
        thread.start()
        thread.join(30)
    assert seen == ["a", "b"]


def test_a_class_that_writes_at_once_loses_nothing(store: Store) -> None:
    failures: list[Exception] = []

    def student(name: str) -> None:
        try:
            store.student(name)
            for number in range(20):
                asked = [Message("user", f"{name} asks {number}")]
                chat = chats.save(store, name, chats.new_id(), asked)
                chats.save(store, name, chat, [*asked, Message("assistant", f"{number}: " + "word " * 200)], asked)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=student, args=(f"student {n}",)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number in range(32):
        kept = chats.everything(store, f"student {number}")
        assert sorted(messages[0].text for _, messages in kept) == sorted(
            f"student {number} asks {n}" for n in range(20)
        )
        assert all(len(messages) == 2 for _, messages in kept)


def test_writers_come_in_the_order_of_asking(store: Store) -> None:
    """A thread that writes again and again does not pass by those who wait."""
    order: list[int] = []

    def writer(number: int) -> None:
        with store.write():
            order.append(number)

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(20)]
    with store.write():
        for thread in threads:
            thread.start()
            time.sleep(0.02)  # until it waits
    for _ in range(20):
        with store.write():
            order.append(-1)
    for thread in threads:
        thread.join()
    assert order[:20] == list(range(20))


def test_two_processes_write_in_turn(tmp_path: Path) -> None:
    writers = [children.start(children.WRITER, tmp_path / "iris.db", start) for start in (0, 1_000_000)]
    saved: set[int] = set()
    for writer in writers:
        assert writer.stdout
        saved |= {int(writer.stdout.readline()) for _ in range(30)}
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert saved <= numbers(tmp_path / "iris.db")


def numbers(path: Path) -> set[int]:
    """Which of WRITER's chats are complete in the store; the file is examined, too."""
    store = Store(path)
    try:
        with store.read() as connection:
            assert [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        found = set()
        for chat, messages in chats.everything(store, "student"):
            number = int(chat.title.removeprefix("Question ").removesuffix("?"))
            assert messages[0] == Message("user", chat.title)
            if len(messages) == 2:
                assert messages[1] == Message("assistant", f"Answer {number}. " * 200)
                found.add(number)
        return found
    finally:
        store.close()


@pytest.mark.slow
def test_killed_at_any_moment_it_opens_clean_with_every_answer(tmp_path: Path) -> None:
    path = tmp_path / "iris.db"
    moments = random.Random(7)
    saved: set[int] = set()
    for round_ in range(20):
        # Two at once, so that one is killed while the other one writes; the first rounds, while tables are made.
        writers = [children.start(children.WRITER, path, 1_000_000 * (2 * round_ + n)) for n in range(2)]
        time.sleep(moments.uniform(0.1, 0.9))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            output, errors = writer.communicate()
            assert not errors
            # The last line may have been cut off by the kill.
            saved |= {int(line) for line in output.splitlines(keepends=True) if line.endswith("\n")}
        assert saved <= numbers(path), "an answer that was saved is gone"
    assert len(saved) > 100


FULL = """
import resource, sys
from pathlib import Path
from iris.errors import StoreError
from iris.store import Store
from iris.study import chats
from iris.study.chats import Message

path = Path(sys.argv[1])
store = Store(path)
store.student("student")

def save(number):
    asked = [Message("user", f"Question {number}?")]
    answered = [*asked, Message("assistant", f"Answer {number}. " * 200)]
    chats.save(store, "student", chats.new_id(), answered)

log = Path(f"{path}-wal")
resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 200_000, resource.RLIM_INFINITY))
number = 0
try:
    while True:
        save(number)
        number += 1
except StoreError as error:
    print(error)
assert len(chats.everything(store, "student")) == number > 2  # it can still be read
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
save(number)  # and written, once there is room
print(number)
store.close()
"""


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    message, number = children.run(FULL, tmp_path / "iris.db").splitlines()
    assert "disk of the computer that runs Iris is full" in message
    assert "All that was saved before is still there" in message
    assert numbers(tmp_path / "iris.db") == set(range(int(number) + 1))


def test_no_room_to_begin_with(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from iris.store import Store; from iris.errors import StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "try: Store(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)"
    )
    assert "is the disk full? Free some space and start again." in children.run(code, tmp_path / "iris.db")
    Store(tmp_path / "iris.db").close()  # and later there is room


def test_another_program_that_keeps_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris.store.BUSY_S", 0.1)
    store = Store(tmp_path / "iris.db")
    other = sqlite3.connect(tmp_path / "iris.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another program keeps Iris's store"):
        store.student("a")
    assert names(store) == []
    other.execute("ROLLBACK")
    store.student("a")
    other.close()
    store.close()


def test_what_is_not_a_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "iris.db"
    path.write_text("My thesis. " * 1000)
    with pytest.raises(StoreError, match="damaged or no SQLite file") as caught:
        Store(path)
    assert "copy your last backup to its place" in str(caught.value)
    assert path.read_text() == "My thesis. " * 1000

    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(StoreError, match="another program's SQLite file"):
        Store(foreign)

    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path / "folder.db")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(path / "below" / "a file" / "iris.db")


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "iris.db"
    store = Store(path)
    store.student("student")
    for number in range(50):
        chats.save(store, "student", chats.new_id(), [Message("user", f"{number} " + "word " * 1000)])
    store.close()
    pages = bytearray(path.read_bytes())
    pages[8192:] = os.urandom(len(pages) - 8192)
    path.write_bytes(pages)
    with pytest.raises(StoreError, match="damaged") as caught:
        chats.everything(Store(path), "student")
    assert "backup" in str(caught.value)


def test_what_belongs_to_nobody_any_more_is_not_saved(store: Store) -> None:
    store.student("a")
    students.forget(store, "a")
    with pytest.raises(StoreError, match="was deleted meanwhile"):
        chats.save(store, "a", chats.new_id(), [Message("user", "Anyone there?")])


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "iris.db")
    store.close()
    with pytest.raises(StoreError, match="being stopped"), store.read():
        pass
    with pytest.raises(StoreError, match="being stopped"), store.write():
        pass
