"""``python -m iris backup FILE``."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from iris.store import Store
from iris.study import chats
from iris.study.chats import Message
from tests.unit import children
from tests.unit.test_store import numbers


def backup(target: Path, *, limit: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command; ``limit`` is the largest file it may write, in bytes."""
    code = "import sys; from iris.__main__ import main; sys.exit(main(sys.argv[1:]))"
    if limit:
        code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); {code}"
    command = [sys.executable, "-c", code, "backup", str(target)]
    return subprocess.run(command, cwd=children.ROOT, capture_output=True, text=True, timeout=240)


@pytest.fixture
def kept(home: Path) -> Store:
    """The store of the state folder, with a chat in it; left open, as by a running Iris."""
    store = Store(home / "iris.db")
    store.student("student")
    answered = [Message("user", "Question 7?"), Message("assistant", "Answer 7. " * 200)]
    chats.save(store, "student", chats.new_id(), answered)
    return store


def test_a_backup_while_others_write_is_of_one_moment_and_can_be_put_back(home: Path, tmp_path: Path) -> None:
    writer = children.start(children.WRITER, home / "iris.db", 0)
    assert writer.stdout
    saved = {int(writer.stdout.readline()) for _ in range(50)}
    target = tmp_path / "backup.db"
    done = backup(target)
    still = int(writer.stdout.readline())
    writer.kill()
    writer.communicate()
    assert done.returncode == 0, done.stderr
    assert "To go back to it: stop Iris, copy it to" in done.stdout
    assert [file.name for file in tmp_path.iterdir() if "backup" in file.name] == ["backup.db"]
    assert still not in saved  # it went on all the while

    for file in home.iterdir():
        file.unlink()
    shutil.copy(target, home / "iris.db")
    assert saved <= numbers(home / "iris.db")


def test_an_earlier_backup_is_replaced(kept: Store, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    assert backup(target).returncode == 0
    chats.save(
        kept, "student", chats.new_id(), [Message("user", "Question 8?"), Message("assistant", "Answer 8. " * 200)]
    )
    assert backup(target).returncode == 0
    assert numbers(target) == {7, 8}
    assert target.stat().st_mode & 0o077 == 0  # for nobody else to read


def test_without_room_the_earlier_backup_stays(kept: Store, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    assert backup(target).returncode == 0
    before = target.read_bytes()
    done = backup(target, limit=8192)
    assert done.returncode == 2
    assert "Is the disk full" in done.stderr
    assert target.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if "backup" in file.name] == ["backup.db"]


def test_a_damaged_store_makes_no_backup(kept: Store, home: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    assert backup(target).returncode == 0
    before = target.read_bytes()
    kept.close()
    pages = bytearray((home / "iris.db").read_bytes())
    pages[8192:] = os.urandom(len(pages) - 8192)
    (home / "iris.db").write_bytes(pages)
    done = backup(target)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "is damaged, and its copy was not kept" in done.stderr
    assert target.read_bytes() == before


def test_nothing_to_back_up(home: Path, tmp_path: Path) -> None:
    done = backup(tmp_path / "backup.db")
    assert done.returncode == 2
    assert f"There is nothing to back up yet: {home / 'iris.db'} does not exist" in done.stderr
    assert not home.exists()


def test_what_is_no_backup_is_never_overwritten(kept: Store, home: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("My thesis.")
    done = backup(thesis)
    assert done.returncode == 2
    assert "is no backup: it was left alone" in done.stderr
    assert thesis.read_text() == "My thesis."

    link = tmp_path / "link.db"
    link.symlink_to(home / "iris.db")
    for itself in (home / "iris.db", link):
        done = backup(itself)
        assert done.returncode == 2
        assert "is the store itself" in done.stderr
    done = backup(tmp_path)
    assert done.returncode == 2
    assert "is a folder" in done.stderr
    done = backup(tmp_path / "missing" / "backup.db")
    assert done.returncode == 2
    assert "folder missing" in done.stderr
    assert numbers(home / "iris.db") == {7}


def test_the_copy_is_one_plain_file(kept: Store, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    assert backup(target).returncode == 0
    with sqlite3.connect(f"{target.as_uri()}?mode=ro&immutable=1", uri=True) as connection:  # as on a read-only disk
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT title FROM chats").fetchall() == [("Question 7?",)]
    connection.close()
