"""Who is who over the API: whatever is sent in place of an identity, nobody sees or changes another's data."""

from __future__ import annotations

import html
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client

from iris import backup
from tests.apps import App, served
from tests.e2e.visitor import Identity, Visitor
from tests.scripted_engine import Script, serve

Rows = dict[str, list[tuple[Any, ...]]]

SECRET = "photosynthesis"
"""Stands in what Anna asks, and nowhere else."""


@pytest.fixture(scope="module")
def scripted_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("iris-home")
    with serve(Script()) as url, served(home, engine_url=url, model="scripted") as app:
        yield app


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=120) as client:
        yield client


@pytest.fixture
def anna(scripted_app: App, http: httpx.Client) -> Visitor:
    """A student with a chat."""
    anna = Visitor(scripted_app, http)
    anna.meet()
    anna.ask(f"What is {SECRET}?")
    return anna


@pytest.fixture
def bo(scripted_app: App, http: httpx.Client) -> Visitor:
    bo = Visitor(scripted_app, http)
    bo.meet()
    return bo


def chats_of(visitor: Visitor) -> list[list[str]]:
    """[title, id] of each, as the page's list shows them."""
    choices: list[list[str]] = visitor.call("chats_show", "", visitor.identity)["data"][1]["choices"]
    return choices


def rows(app: App) -> Rows:
    """Everything in the store, guests and the index of the courses' notes apart, which belongs to nobody."""
    with sqlite3.connect(f"{(app.home / 'iris.db').as_uri()}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in (name for name in tables if not name.startswith("course_index")):
            listed = sorted(connection.execute(f'SELECT * FROM "{table}"'), key=repr)
            found[table] = [row for row in listed if "guest:" not in repr(row)]
    connection.close()
    return found


def forgeries(anna: Identity, bo: Identity) -> list[Identity]:
    """What somebody might send who knows Anna's id, or does not, but never her proof."""
    name = anna["id"]
    return [
        name,
        {"id": name},
        {"id": name, "proof": ""},
        {"id": name, "proof": None},
        {"id": name, "proof": "0" * 64},
        {"id": name, "proof": bo["proof"]},
        {"id": name, "proof": [anna["proof"]]},
        {"id": [name], "proof": anna["proof"]},
        {"id": name + " ", "proof": anna["proof"]},
        {"id": name.upper(), "proof": anna["proof"]},
        {"id": name, "proof": anna["proof"].upper()},
        {"id": name, "proof": anna["proof"] + "é"},
        {"id": f"{name}\ud800", "proof": anna["proof"]},
        {"id": "hf:1", "proof": bo["proof"]},
        {"id": "guest:1"},
        {"id": "%", "proof": "%"},
        [anna["id"], bo["proof"]],
        [anna["id"]],
        "admin",
        7,
        True,
        {"proof": anna["proof"]},
        {"__type__": "update", "value": name},
    ]


def test_a_browser_gets_an_id_once(bo: Visitor) -> None:
    assert bo.identity["id"].startswith("browser:")
    assert len(bo.identity["id"]) > 30
    again = bo.call("meet", bo.identity)["data"][0]
    assert again == {"__type__": "update"}  # it keeps the one it has


def test_every_forgery_is_refused(anna: Visitor, bo: Visitor) -> None:
    real = bo.identity
    for forged in forgeries(anna.identity, real):
        bo.identity = forged
        line = bo.call("chats_show", "", forged)["data"]
        assert line[1]["choices"] == [], forged
        assert "This Iris did not give out the student id" in line[4], forged
        fresh = bo.call("meet", forged)["data"][0]  # a page with such an id begins anew
        assert fresh["id"] not in (anna.identity["id"], real["id"])


def test_each_student_has_chats_of_their_own(anna: Visitor, bo: Visitor) -> None:
    bo.ask("What is a feature store?")
    assert [title for title, _ in chats_of(anna)] == [f"What is {SECRET}?"]
    assert [title for title, _ in chats_of(bo)] == ["What is a feature store?"]


def test_no_endpoint_takes_a_forged_identity(scripted_app: App, anna: Visitor, bo: Visitor) -> None:
    """Every endpoint that takes an identity, with Anna's id and no proof of it, and her chat named everywhere."""
    (_, chat), *_ = chats_of(anna)
    current = {"chat": chat, "owner": anna.identity["id"]}
    before = rows(scripted_app)
    for endpoint in bo.endpoints():
        for forged in ({**anna.identity, "proof": bo.identity["proof"]}, {"id": anna.identity["id"]}, None):
            somebody = Visitor(scripted_app, bo.http, forged)
            trigger, _ = endpoint["targets"][0]
            answer = json.dumps(
                somebody.send(endpoint["id"], somebody.filled(endpoint, chat, current), trigger=trigger)
            )
            assert SECRET not in answer, endpoint["api_name"]
            assert anna.identity["proof"] not in answer, endpoint["api_name"]
    assert lost(before, rows(scripted_app)) == []


def test_no_endpoint_gives_a_student_what_is_anothers(scripted_app: App, anna: Visitor, bo: Visitor) -> None:
    """Every endpoint, called by an honest Bo who names Anna's chat everywhere."""
    (_, chat), *_ = chats_of(anna)
    current = {"chat": chat, "owner": anna.identity["id"]}
    before = rows(scripted_app)
    for endpoint in bo.endpoints():
        trigger, _ = endpoint["targets"][0]
        answer = json.dumps(bo.send(endpoint["id"], bo.filled(endpoint, chat, current), trigger=trigger))
        assert SECRET not in answer, endpoint["api_name"]
    # The last of them have deleted all that was Bo's, and nothing else.
    mine = {table: [row for row in listed if bo.identity["id"] not in row] for table, listed in before.items()}
    assert lost(mine, rows(scripted_app)) == []
    assert [title for title, _ in chats_of(anna)] == [f"What is {SECRET}?"]


def lost(before: Rows, after: Rows) -> list[tuple[str, Any]]:
    """Rows that were changed or deleted."""
    return [(table, row) for table, listed in before.items() for row in listed if row not in after[table]]


def test_a_student_opens_renames_saves_and_deletes_chats(anna: Visitor) -> None:
    (_, chat), *_ = chats_of(anna)
    conversation, current, *_ = anna.call("chats_open", chat, anna.identity)["data"]
    assert [m["content"][0]["text"] for m in conversation] == [f"What is {SECRET}?", "An answer."]
    assert current == {"chat": chat, "owner": anna.identity["id"]}
    assert anna.call("chats_rename", chat, "Leaves", "", anna.identity)["data"][0] == "Leaves"
    assert chats_of(anna) == [["Leaves", chat]]
    file = json.loads(anna.call("chats_md", chat, anna.identity)["data"][0])
    assert file["name"] == "Leaves.md"
    assert f"> What is {SECRET}?" in file["text"]
    file = json.loads(anna.call("chats_json", chat, anna.identity)["data"][0])
    assert json.loads(file["text"])["chats"][0]["title"] == "Leaves"
    assert anna.call("chats_search", f"{SECRET} answer", anna.identity)["data"][0]["choices"] == [["Leaves", chat]]
    assert anna.call("chats_search", "feature", anna.identity)["data"][0]["choices"] == []
    chats_of(anna)  # a page offers what was listed last
    anna.call("chats_delete", chat, "", anna.identity, None)
    assert chats_of(anna) == []
    late = Visitor(anna.app, anna.http, anna.identity)  # a page on which it is still listed
    assert "not there any more" in late.call("chats_open", chat, anna.identity)["data"][3]


def test_deleted_is_deleted_and_the_old_id_is_no_key_any_more(scripted_app: App, anna: Visitor, bo: Visitor) -> None:
    bo.ask("Mine?")
    assert anna.call("my_data_delete", anna.identity)["data"][0] == "done"
    assert anna.identity["id"] not in repr(rows(scripted_app))
    answer = anna.ask("Still there?")
    assert "Everything of this student's was deleted. Reload the page" in html.unescape(json.dumps(answer))
    assert anna.identity["id"] not in repr(rows(scripted_app))
    old = anna.identity
    assert anna.call("meet", old)["data"][0]["id"] != old["id"]
    assert [title for title, _ in chats_of(bo)] == ["Mine?"]


def test_a_deleted_chat_does_not_come_back_with_the_next_question(anna: Visitor) -> None:
    (_, chat), *_ = chats_of(anna)
    shown = anna.call("chats_open", chat, anna.identity)["data"][0]
    anna.call("chats_delete", chat, "", anna.identity, None)  # in another window
    anna.ask("And now?", {"chat": chat, "owner": anna.identity["id"]}, shown)
    assert [title for title, _ in chats_of(anna)] == ["And now?"]
    file = json.loads(anna.call("my_data_chats", anna.identity)["data"][0])
    (kept,) = json.loads(file["text"])["chats"]
    assert [message["content"] for message in kept["messages"]] == ["And now?", "An answer."]


def test_who_says_nothing_leaves_nothing(scripted_app: App, http: httpx.Client) -> None:
    before = rows(scripted_app)
    client = Client(scripted_app.url, verbose=False)
    assert client.predict("Who am I?", api_name="/study_chat") == "An answer."
    client.close()
    nobody = Visitor(scripted_app, http)
    nobody.ask("Who am I?")
    assert chats_of(nobody) == []
    assert rows(scripted_app) == before


def test_an_identity_outlives_a_restart_and_a_restored_backup(tmp_path: Path, http: httpx.Client) -> None:
    with serve(Script()) as url:
        with served(tmp_path / "one", engine_url=url, model="scripted") as app:
            anna = Visitor(app, http)
            identity = anna.meet()
            anna.ask("Before?")
        with served(tmp_path / "one", engine_url=url, model="scripted") as app:
            assert [title for title, _ in chats_of(Visitor(app, http, identity))] == ["Before?"]
            (tmp_path / "two").mkdir()
            backup.copy(app.home / "iris.db", tmp_path / "two" / "iris.db")
        with served(tmp_path / "two", engine_url=url, model="scripted") as app:
            assert [title for title, _ in chats_of(Visitor(app, http, identity))] == ["Before?"]
        with served(tmp_path / "three", engine_url=url, model="scripted") as app:  # another Iris
            assert chats_of(Visitor(app, http, identity)) == []


def test_an_answer_that_cannot_be_saved_is_shown_and_saved_with_the_next(
    tmp_path: Path, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iris.store.BUSY_S", 0.2)
    with serve(Script()) as url, served(tmp_path / "home", engine_url=url, model="scripted") as app:
        anna = Visitor(app, http)
        anna.meet()
        other = sqlite3.connect(app.home / "iris.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        anna.ask("The first?")
        conversation, _, line, current = anna.page
        assert [m["content"][0]["text"] for m in conversation] == ["The first?", "An answer."]
        assert "another program keeps Iris's store" in html.unescape(line)
        assert current == {"chat": "", "owner": anna.identity["id"]}
        other.execute("ROLLBACK")
        other.close()
        anna.ask("The second?", current, conversation)
        _, _, line, current = anna.page
        assert "problem" not in line
        (chat,) = chats_of(anna)
        assert chat == ["The first?", current["chat"]]
        kept = anna.call("chats_open", chat[1], anna.identity)["data"][0]
        assert [m["content"][0]["text"] for m in kept] == ["The first?", "An answer.", "The second?", "An answer."]
