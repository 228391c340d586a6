"""Conversations of Study Chat in the store: saved, listed, searched, renamed, deleted.

Every function takes the student whose chats it is about, and another student's chat is as one that does not exist.
"""

from __future__ import annotations

import secrets
import sqlite3
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from iris.errors import ChatError
from iris.store import Store, now

TITLE = 80
"""Most characters of a title."""

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """A question or an answer."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation in a list; times in milliseconds since 1970, UTC."""

    id: str
    title: str
    created_at: int
    updated_at: int


def new_id() -> str:
    """The id of a chat that is about to begin."""
    return secrets.token_urlsafe(12)


def save(
    store: Store, student: str, chat: str, messages: Sequence[Message], before: Sequence[Message] | None = None
) -> str:
    """Keep the conversation as it is now; returns the id of the chat it is kept in.

    Nothing is overwritten that the page did not show: if the chat holds more than the page knew of, it was continued
    in another window meanwhile, and this conversation becomes a chat of its own.

    Args:
        chat: the id under which the page holds it.
        messages: all of it, from the first question on.
        before: what the page showed before the last question was asked, repeated or edited; None for a chat that
            begins with this, under the id ``chat``.

    Raises:
        ChatError: the student has no such chat (any more).
        StoreError: it could not be saved; the chat is as it was.
    """
    with store.write() as connection:
        at, kept = now(), tuple[Message, ...]()
        begins = before is None
        if before is not None:
            if not _owned(connection, student, chat):
                raise _gone()
            kept = _messages(connection, chat)
            if not _knew(before, kept):
                begins, chat, kept = True, new_id(), ()
        if begins:
            connection.execute("INSERT INTO chats VALUES (?, ?, '', '', 0, ?, ?)", (chat, student, at, at))
        same = 0
        while same < min(len(kept), len(messages)) and kept[same] == messages[same]:
            same += 1
        connection.execute("DELETE FROM chat_messages WHERE chat = ? AND place >= ?", (chat, same))
        connection.executemany(
            "INSERT INTO chat_messages VALUES (?, ?, ?, ?, ?)",
            [(chat, place, m.role, m.text, folded(m.text)) for place, m in enumerate(messages) if place >= same],
        )
        connection.execute("UPDATE chats SET updated_at = ? WHERE id = ?", (at, chat))
        title = _title(messages)
        sql = "UPDATE chats SET title = ?, folded = ? WHERE id = ? AND NOT renamed"
        connection.execute(sql, (title, folded(title), chat))
        return chat


def recent(store: Store, student: str, *, search: str = "", limit: int = 50) -> tuple[Chat, ...]:
    """The student's chats, the latest first; with ``search``, those in which each of its words occurs somewhere."""
    words = folded(search).split()
    occurs = (
        " AND (instr(folded, ?) OR EXISTS "
        "(SELECT 1 FROM chat_messages m WHERE m.chat = chats.id AND instr(m.folded, ?)))"
    )
    sql = (
        f"SELECT id, title, created_at, updated_at FROM chats WHERE student = ?{occurs * len(words)} "
        "ORDER BY updated_at DESC, id LIMIT ?"
    )
    with store.read() as connection:
        rows = connection.execute(sql, (student, *(word for word in words for _ in range(2)), limit))
        return tuple(Chat(**row) for row in rows)


def find(store: Store, student: str, chat: str) -> Chat:
    """One chat of the student's.

    Raises:
        ChatError: there is none of that id (any more).
    """
    with store.read() as connection:
        row = connection.execute(
            "SELECT id, title, created_at, updated_at FROM chats WHERE id = ? AND student = ?", (chat, student)
        ).fetchone()
    if not row:
        raise _gone()
    return Chat(**row)


def messages(store: Store, student: str, chat: str) -> tuple[Message, ...]:
    """What was said, in order.

    Raises:
        ChatError: there is no such chat (any more).
    """
    with store.read() as connection:
        if not _owned(connection, student, chat):
            raise _gone()
        return _messages(connection, chat)


def everything(store: Store, student: str) -> tuple[tuple[Chat, tuple[Message, ...]], ...]:
    """All of the student's chats as they are at this moment, the latest first."""
    sql = "SELECT id, title, created_at, updated_at FROM chats WHERE student = ? ORDER BY updated_at DESC, id"
    with store.read() as connection:
        found = [Chat(**row) for row in connection.execute(sql, (student,))]
        return tuple((chat, _messages(connection, chat.id)) for chat in found)


def rename(store: Store, student: str, chat: str, title: str) -> str:
    """Give a chat another title; returns it as it was kept. An empty one brings the first question back.

    Raises:
        ChatError: there is no such chat (any more).
    """
    title = _shortened(title)
    with store.write() as connection:
        if not _owned(connection, student, chat):
            raise _gone()
        renamed = bool(title)
        title = title or _title(_messages(connection, chat))
        sql = "UPDATE chats SET title = ?, folded = ?, renamed = ? WHERE id = ?"
        connection.execute(sql, (title, folded(title), renamed, chat))
    return title


def delete(store: Store, student: str, chat: str) -> None:
    """Delete a chat; one that is gone already is no error."""
    with store.write() as connection:
        connection.execute("DELETE FROM chats WHERE id = ? AND student = ?", (chat, student))
    store.scrub()


def folded(text: str) -> str:
    """Text as it is searched: without case, accents and the difference between i and ı."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parts if not unicodedata.combining(c)).replace("ı", "i")


def _gone() -> ChatError:
    return ChatError("This chat is not there any more: it may have been deleted in another window.")


def _owned(connection: sqlite3.Connection, student: str, chat: str) -> bool:
    sql = "SELECT 1 FROM chats WHERE id = ? AND student = ?"
    return connection.execute(sql, (chat, student)).fetchone() is not None


def _messages(connection: sqlite3.Connection, chat: str) -> tuple[Message, ...]:
    rows = connection.execute("SELECT role, text FROM chat_messages WHERE chat = ? ORDER BY place", (chat,))
    return tuple(Message(**row) for row in rows)


def _knew(before: Sequence[Message], kept: Sequence[Message]) -> bool:
    """Whether a page that showed ``before`` had seen all that is kept.

    Questions may differ, because the page shows an edited one at once; an answer may be longer than the page showed,
    because its last words can be on their way when the page is left.
    """
    return len(before) >= len(kept) and all(
        shown.role == stored.role and (shown.role == "user" or stored.text.startswith(shown.text))
        for shown, stored in zip(before, kept, strict=False)
    )


def _title(messages: Sequence[Message]) -> str:
    return _shortened(next((m.text for m in messages if m.role == "user"), ""))


def _shortened(text: str) -> str:
    """One line of at most ``TITLE`` characters, cut between words where there are any."""
    text = " ".join(text.split())
    if len(text) <= TITLE:
        return text
    cut = text[: TITLE - 1]
    head, _, _ = cut.rpartition(" ")
    return (head if len(head) > TITLE // 2 else cut) + "…"
