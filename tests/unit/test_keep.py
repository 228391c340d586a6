"""What a storage bucket keeps: fetched at the start, brought back after every change, whole or not at all."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from iris.errors import StoreError
from iris.keep import STORE, Keeper
from iris.store import Store
from tests.apps import wait_until


def students(path: Path) -> set[str]:
    """The students in a store, read without Iris."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return {row[0] for row in connection.execute("SELECT id FROM students")}
    except sqlite3.OperationalError:  # copied before the tables were made
        return set()
    finally:
        connection.close()


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A state folder, and the bucket."""
    home, bucket = tmp_path / "home", tmp_path / "bucket/iris"
    home.mkdir()
    return home, bucket


def test_what_was_written_is_there_on_another_machine(places: tuple[Path, Path], tmp_path: Path) -> None:
    home, bucket = places
    keeper = Keeper(home, bucket)
    keeper.restore()
    keeper.start()
    store = Store(home / STORE)
    store.student("ada")
    keeper.close()
    store.close()
    assert {path.name for path in bucket.iterdir()} == {STORE}, "no log and no leftover beside it"

    other = tmp_path / "other"
    other.mkdir()
    Keeper(other, bucket).restore()
    assert students(other / STORE) == {"ada"}
    Store(other / STORE).close()


def test_a_change_is_copied_while_iris_runs(places: tuple[Path, Path]) -> None:
    home, bucket = places
    keeper = Keeper(home, bucket, every=0.05)
    keeper.restore()
    keeper.start()
    store = Store(home / STORE)
    for name in ("ada", "grace"):
        store.student(name)
        wait_until(lambda name=name: (bucket / STORE).exists() and name in students(bucket / STORE), name, 60)  # type: ignore[misc]
    before = (bucket / STORE).stat().st_mtime_ns
    keeper.close()
    assert (bucket / STORE).stat().st_mtime_ns >= before
    assert not [path for path in home.iterdir() if path.name.startswith(f".{STORE}.")]
    store.close()


def test_what_this_machine_has_is_not_overwritten(places: tuple[Path, Path]) -> None:
    home, bucket = places
    for folder, name in ((home, "here"), (bucket, "there")):
        folder.mkdir(parents=True, exist_ok=True)
        store = Store(folder / STORE)
        store.student(name)
        store.close()
    Keeper(home, bucket).restore()
    assert students(home / STORE) == {"here"}


def test_the_teachers_files_are_fetched(places: tuple[Path, Path]) -> None:
    home, bucket = places
    (bucket / "courses/bread/notes").mkdir(parents=True)
    (bucket / "courses/bread/course.toml").write_text("title = 'Bread'")
    (bucket / "models.toml").write_text("# none")
    (bucket / "models").mkdir()
    (bucket / "models/large.gguf").write_text("not copied: it would fill the disk")
    Keeper(home, bucket).restore()
    assert (home / "courses/bread/course.toml").read_text() == "title = 'Bread'"
    assert (home / "models.toml").exists()
    assert not (home / "models").exists()


def test_a_damaged_copy_is_named_and_nothing_is_put_in_its_place(places: tuple[Path, Path]) -> None:
    home, bucket = places
    bucket.mkdir(parents=True)
    (bucket / STORE).write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    with pytest.raises(StoreError, match=r"The kept store .*iris\.db is damaged .*rename it to begin anew"):
        Keeper(home, bucket).restore()
    assert list(home.iterdir()) == []
    assert (bucket / STORE).stat().st_size == 5016


def test_a_bucket_that_is_no_folder(places: tuple[Path, Path]) -> None:
    home, bucket = places
    bucket.parent.mkdir()
    bucket.touch()
    with pytest.raises(StoreError, match=r"could not be fetched.*IRIS_KEEP"):
        Keeper(home, bucket).restore()


def test_a_bucket_that_fails_leaves_the_copy_of_before(
    places: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    home, bucket = places
    keeper = Keeper(home, bucket)
    keeper.restore()
    store = Store(home / STORE)
    store.student("ada")
    assert keeper.save()
    kept = (bucket / STORE).read_bytes()
    store.student("grace")
    bucket.rename(bucket.with_name("gone"))
    with caplog.at_level(logging.ERROR):
        assert not keeper.save()
    assert "could not be copied" in caplog.text
    assert (bucket.with_name("gone") / STORE).read_bytes() == kept
    bucket.with_name("gone").rename(bucket)
    assert keeper.save()
    assert students(bucket / STORE) == {"ada", "grace"}
    store.close()
