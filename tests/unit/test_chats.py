"""Chats in the store: nothing of one student's is lost, nothing of another's is seen."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from iris.errors import ChatError
from iris.store import Store
from iris.study import chat_export, chats
from iris.study.chats import Message


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "iris.db")
    store.student("anna")
    store.student("bo")
    yield store
    store.close()


def said(*texts: str) -> list[Message]:
    """Question, answer, question, …"""
    return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)]


def test_a_chat_grows_and_is_read_back(store: Store) -> None:
    chat = chats.save(store, "anna", chats.new_id(), said("Why?"))
    assert chats.save(store, "anna", chat, said("Why?", "Because."), said("Why?")) == chat
    more = said("Why?", "Because.", "And?", "  indented\n\n<b>text</b> \U0001f338")
    assert chats.save(store, "anna", chat, more, said("Why?", "Because.")) == chat
    assert list(chats.messages(store, "anna", chat)) == more
    assert [c.title for c in chats.recent(store, "anna")] == ["Why?"]


def test_a_retry_and_an_edit_replace_what_they_replace(store: Store) -> None:
    chat = chats.save(store, "anna", chats.new_id(), said("One?", "1", "Two?", "2"))
    assert chats.save(store, "anna", chat, said("One?", "1", "Two?", "II"), said("One?", "1", "Two?", "2")) == chat
    edited = said("Uno?", "1", "Two?", "II")  # the page shows an edited question at once
    assert chats.save(store, "anna", chat, said("Uno?", "I"), edited) == chat
    assert list(chats.messages(store, "anna", chat)) == said("Uno?", "I")
    assert chats.find(store, "anna", chat).title == "Uno?"


def test_what_another_window_added_is_not_overwritten(store: Store) -> None:
    chat = chats.save(store, "anna", chats.new_id(), said("One?", "1"))
    chats.save(store, "anna", chat, said("One?", "1", "Two?", "2"), said("One?", "1"))
    other = chats.save(store, "anna", chat, said("One?", "1", "Three?", "3"), said("One?", "1"))
    assert other != chat
    assert list(chats.messages(store, "anna", chat)) == said("One?", "1", "Two?", "2")
    assert list(chats.messages(store, "anna", other)) == said("One?", "1", "Three?", "3")


def test_last_words_that_the_page_never_got_do_not_split_a_chat(store: Store) -> None:
    chat = chats.save(store, "anna", chats.new_id(), said("One?", "It is so because of the"))
    shown = said("One?", "It is so")
    assert chats.save(store, "anna", chat, [*shown, *said("Go on?")], shown) == chat


def test_another_students_chat_does_not_exist(store: Store) -> None:
    chat = chats.save(store, "anna", chats.new_id(), said("Anna's?", "Hers."))
    for act in (
        lambda: chats.find(store, "bo", chat),
        lambda: chats.messages(store, "bo", chat),
        lambda: chats.rename(store, "bo", chat, "Mine"),
        lambda: chats.save(store, "bo", chat, said("Mine?"), said()),
        lambda: chat_export.markdown(store, "bo", chat),
        lambda: chat_export.as_json(store, "bo", chat),
    ):
        with pytest.raises(ChatError, match="not there any more"):
            act()
    chats.delete(store, "bo", chat)
    assert chats.recent(store, "bo", search="Anna") == ()
    assert chats.everything(store, "bo") == ()
    assert list(chats.messages(store, "anna", chat)) == said("Anna's?", "Hers.")


def test_titles(store: Store) -> None:
    long = "Why   does\nthe gradient " + "vanish " * 40
    chat = chats.save(store, "anna", chats.new_id(), said(long))
    title = chats.find(store, "anna", chat).title
    assert title.startswith("Why does the gradient vanish")
    assert title.endswith("vanish…")
    assert len(title) <= chats.TITLE
    assert chats.rename(store, "anna", chat, "  My\n own <title> ") == "My own <title>"
    chats.save(store, "anna", chat, said(long, "Answer."), said(long))
    assert chats.find(store, "anna", chat).title == "My own <title>"
    assert chats.rename(store, "anna", chat, " ") == title  # an empty one brings the first question back
    chats.delete(store, "anna", chat)
    with pytest.raises(ChatError):
        chats.rename(store, "anna", chat, "Too late")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["Größe", "Iğdır", "Café"]),
        ("GROSSE", ["Größe"]),
        ("große", ["Größe"]),
        ("ığdir", ["Iğdır"]),
        ("cafe", ["Café"]),
        ("answer grö", ["Größe"]),  # words in different places
        ("swer", ["Größe", "Iğdır", "Café"]),
        ("100%", ["Café"]),
        ("% _", []),
        ("nowhere", []),
    ],
)
def test_search_finds_words_in_titles_questions_and_answers(store: Store, search: str, found: list[str]) -> None:
    chats.save(store, "anna", chats.new_id(), said("Café", "An answer, 100% sure."))
    chats.save(store, "anna", chats.new_id(), said("Iğdır", "An answer."))
    chats.save(store, "anna", chats.new_id(), said("Größe", "An answer."))
    assert sorted(c.title for c in chats.recent(store, "anna", search=search)) == sorted(found)


def test_the_latest_come_first_and_not_too_many(store: Store) -> None:
    for number in range(5):
        chats.save(store, "anna", chats.new_id(), said(f"{number}?"))
    with store.write() as connection:
        connection.execute("UPDATE chats SET updated_at = substr(title, 1, 1)")
    assert [c.title for c in chats.recent(store, "anna", limit=3)] == ["4?", "3?", "2?"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=6))
@hypothesis_settings(max_examples=50, deadline=None)
def test_any_text_comes_back_and_goes_out_as_json(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "iris.db")
        store.student("anna")
        chat = chats.save(store, "anna", chats.new_id(), said(*texts))
        assert list(chats.messages(store, "anna", chat)) == said(*texts)
        file = json.loads(chat_export.as_json(store, "anna"))
        assert (file["format"], file["version"]) == ("iris-chats", 1)
        assert [m["content"] for m in file["chats"][0]["messages"]] == texts
        assert json.loads(chat_export.as_json(store, "anna", chat)) == file
        for word in texts[0].split():
            assert chats.recent(store, "anna", search=word)
        store.close()


def test_markdown_quotes_questions_and_leaves_answers(store: Store) -> None:
    chat = chats.save(store, "anna", chats.new_id(), said("What is `x`?\n# no heading", "It **is** $x^2$:\n\n- a list"))
    text = chat_export.markdown(store, "anna", chat)
    assert text.startswith("# What is \\`x\\`? \\# no heading\n\n_20")
    assert "\n\n> What is `x`?\n> # no heading\n\nIt **is** $x^2$:\n\n- a list\n" in text


@dataclass
class Window:
    """One page of the student's: which chat it shows, and what of it."""

    chat: str = ""
    shown: list[Message] = field(default_factory=list)


class Windows(RuleBasedStateMachine):
    """One student in several windows at once: every answer is kept, unless it was replaced or deleted on purpose."""

    windows = Bundle("windows")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name) / "iris.db")
        self.store.student("anna")
        self.number = count()
        self.owed: set[str] = set()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def save(self, window: Window, messages: list[Message], before: list[Message] | None) -> None:
        try:
            window.chat = chats.save(self.store, "anna", window.chat, messages, before)
        except ChatError:  # deleted in another window: the page begins anew with its question
            window.chat, messages = chats.new_id(), messages[-2:]
            chats.save(self.store, "anna", window.chat, messages)
        window.shown = messages

    @rule(target=windows)
    def open_window(self) -> Window:
        return Window()

    @rule(window=windows)
    def ask(self, window: Window) -> None:
        answer = f"answer {next(self.number)}"
        before = None if not window.chat else window.shown
        window.chat = window.chat or chats.new_id()
        self.save(window, [*window.shown, Message("user", "Why?"), Message("assistant", answer)], before)
        self.owed.add(answer)

    @rule(window=windows)
    def retry(self, window: Window) -> None:
        if window.shown:
            answer = f"answer {next(self.number)}"
            self.owed.discard(window.shown[-1].text)
            self.save(window, [*window.shown[:-1], Message("assistant", answer)], window.shown)
            self.owed.add(answer)

    @rule(window=windows)
    def begin_anew(self, window: Window) -> None:
        window.chat, window.shown = "", []

    @rule(window=windows, other=windows)
    def open_what_the_other_has(self, window: Window, other: Window) -> None:
        if other.chat:
            try:
                window.shown = list(chats.messages(self.store, "anna", other.chat))
                window.chat = other.chat
            except ChatError:
                pass

    @rule(window=windows)
    def delete(self, window: Window) -> None:
        if window.chat:
            try:
                for message in chats.messages(self.store, "anna", window.chat):
                    self.owed.discard(message.text)
            except ChatError:
                pass
            chats.delete(self.store, "anna", window.chat)
            window.chat, window.shown = "", []

    @rule(window=consumes(windows))
    def close_window(self, window: Window) -> None:
        pass

    @invariant()
    def every_answer_is_kept(self) -> None:
        kept = {message.text for _, messages in chats.everything(self.store, "anna") for message in messages}
        assert self.owed <= kept, self.owed - kept


TestWindows = Windows.TestCase
TestWindows.settings = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)
