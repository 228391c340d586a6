"""The schema: from every earlier version to this one, and never back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from iris.errors import StoreError
from iris.store import Migration, Store, migrations
from iris.study import students
from tests.unit import children, filled

STEPS = migrations()


def contents(store: Store) -> dict[str, list[filled.Row]]:
    with store.read() as connection:
        return {
            table: [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
            for table in filled.tables(connection)
        }


def schema(store: Store) -> set[tuple[str, str]]:
    with store.read() as connection:
        return {(row["name"], row["sql"] or "") for row in connection.execute("SELECT name, sql FROM sqlite_master")}


@pytest.mark.parametrize("version", range(1, len(STEPS) + 1), ids=[step.name for step in STEPS])
def test_a_store_of_every_earlier_version_keeps_its_rows(tmp_path: Path, version: int) -> None:
    path = tmp_path / "iris.db"
    old = Store(path, STEPS[:version])
    with old.write() as connection:
        filled.fill(connection, "anna")
        filled.fill(connection, "bo")
    before = contents(old)
    old.close()
    assert all(len(rows) == 2 for rows in before.values())

    new, fresh = Store(path), Store(tmp_path / "fresh.db")
    after = contents(new)
    for table, rows in before.items():
        kept = [{column: row[column] for column in rows[0] if column in row} for row in after[table]]
        assert kept == [{column: row[column] for column in kept[0]} for row in rows], table
    assert schema(new) == schema(fresh)
    with new.write() as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        filled.fill(connection, "cleo")  # and everything of today can be added
    new.close()
    fresh.close()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "iris.db"
    last = STEPS[-1].number
    Store(path, (*STEPS, Migration(last + 1, "future", "CREATE TABLE futures (id TEXT) STRICT;"))).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"newer Iris \(it has reached version {last + 1}, this Iris knows {last}\)"):
        Store(path)
    assert path.read_bytes() == before


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "iris.db"
    old = Store(path)
    old.student("anna")
    before = schema(old)
    old.close()
    broken = Migration(STEPS[-1].number + 1, "broken", "CREATE TABLE half (id TEXT) STRICT;\nDELETE FROM nowhere;")
    with pytest.raises(StoreError, match="nowhere"):
        Store(path, (*STEPS, broken))
    again = Store(path)
    assert schema(again) == before
    assert students.known(again, "anna")
    again.close()


def test_a_number_that_was_skipped_is_made_up_for(tmp_path: Path) -> None:
    """Branches bring their migrations in any order."""
    path = tmp_path / "iris.db"
    first, last = STEPS[0], STEPS[-1].number
    Store(path, (first, Migration(last + 2, "late", "CREATE TABLE late (id TEXT) STRICT;"))).close()
    between = Migration(last + 1, "early", "CREATE TABLE early (id TEXT) STRICT;")
    store = Store(path, (first, between, Migration(last + 2, "late", "CREATE TABLE late (id TEXT) STRICT;")))
    assert {"early", "late"} <= {name for name, _ in schema(store)}
    store.close()


def test_many_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from iris.store import Store\n"
        "store = Store(Path(sys.argv[1])); store.student(sys.argv[2]); store.close()"
    )
    started = [children.start(code, tmp_path / "iris.db", number) for number in range(4)]
    for child in started:
        _, errors = child.communicate(timeout=240)
        assert child.returncode == 0, errors
    store = Store(tmp_path / "iris.db")
    assert all(students.known(store, str(number)) for number in range(4))
    store.close()


def test_files_are_numbered(tmp_path: Path) -> None:
    for name in ("0001_a.sql", "0002_b.sql"):
        (tmp_path / name).write_text("SELECT 1;")
    assert [(step.number, step.name) for step in migrations(tmp_path)] == [(1, "a"), (2, "b")]
    (tmp_path / "0002_c.sql").write_text("SELECT 1;")
    with pytest.raises(StoreError, match="number 0002: b and c"):
        migrations(tmp_path)
    (tmp_path / "0002_c.sql").rename(tmp_path / "third.sql")
    with pytest.raises(StoreError, match=r"third\.sql is no migration"):
        migrations(tmp_path)


def test_all_that_is_personal_goes_with_its_student_and_fast(tmp_path: Path) -> None:
    """A reference that does not cascade would keep a student; one without an index would make deleting slow."""
    store = Store(tmp_path / "iris.db")
    with store.read() as connection:
        for table in filled.tables(connection):
            references = connection.execute(f'PRAGMA foreign_key_list("{table}")').fetchall()
            for reference in references:
                assert reference["on_delete"] == "CASCADE", (table, reference["from"])
            columns = {row["name"] for row in connection.execute(f'PRAGMA table_info("{table}")')}
            if "student" in columns:
                assert any(row["from"] == "student" for row in references), table
            for first in {row["id"]: row["from"] for row in reversed(references)}.values():
                plan = connection.execute(f'EXPLAIN QUERY PLAN DELETE FROM "{table}" WHERE "{first}" = 1').fetchall()
                assert "SEARCH" in plan[0]["detail"], f"no index on {table}.{first}"
    store.close()


def test_a_student_who_wants_to_be_forgotten_is_nowhere_any_more(tmp_path: Path) -> None:
    path = tmp_path / "iris.db"
    store = Store(path)
    with store.write() as connection:
        filled.fill(connection, "ferdinandelise")
        kept = filled.fill(connection, "bo")
        personal = filled.personal(connection)
    assert _mentions(path, b"ferdinandelise")
    assert set(students.counts(store, "ferdinandelise")) <= personal
    students.forget(store, "ferdinandelise")
    assert students.counts(store, "ferdinandelise") == {}
    for table, rows in contents(store).items():
        assert kept[table] in rows, table
        assert len(rows) == (1 if table in personal else 2), table
    assert not _mentions(path, b"ferdinandelise"), "it is still in the raw bytes"
    store.close()


def test_what_a_reader_holds_back_is_wiped_out_later(tmp_path: Path) -> None:
    path = tmp_path / "iris.db"
    store = Store(path)
    store.student("ferdinandelise")
    with store.read() as connection:
        assert connection.execute("SELECT count(*) FROM students").fetchone()[0] == 1
        students.forget(store, "ferdinandelise")
        assert _mentions(path, b"ferdinandelise")
    store.student("bo")
    assert not _mentions(path, b"ferdinandelise")
    store.close()


def _mentions(path: Path, word: bytes) -> list[str]:
    """Files of the store in which the bytes occur. Read by another process: closing a file would end SQLite's locks."""
    code = "import sys, pathlib; print(sys.argv[2].encode() in pathlib.Path(sys.argv[1]).read_bytes())"
    files = [file for file in path.parent.glob(f"{path.name}*") if file.is_file() and not file.name.endswith("-shm")]
    return [file.name for file in files if children.run(code, file, word.decode()).strip() == "True"]


def test_old_guests_are_forgotten_and_new_ones_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "iris.db")
    for name in ("guest:old", "guest:new", "browser:old"):
        store.student(name)
    with store.write() as connection:
        connection.execute("UPDATE students SET created_at = 0 WHERE id LIKE '%old'")
    assert students.forget_guests(store) == 1
    assert [students.known(store, name) for name in ("guest:old", "guest:new", "browser:old")] == [False, True, True]
    store.close()


def test_keys_are_made_once(tmp_path: Path) -> None:
    one, other = Store(tmp_path / "iris.db"), Store(tmp_path / "iris.db")
    key = students.key(one, "students")
    assert len(key) >= 32
    assert students.key(other, "students") == key != students.key(other, "browser")
    for store in (one, other):
        store.close()
    with sqlite3.connect(tmp_path / "iris.db") as connection:
        assert connection.execute("SELECT count(*) FROM keys").fetchone() == (2,)
    connection.close()
