"""Chats to take along: as Markdown to read, as JSON for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from iris.store import Store
from iris.study import chats
from iris.study.chats import Chat, Message

FORMAT, VERSION = "iris-chats", 1


def markdown(store: Store, student: str, chat: str) -> str:
    """One chat to read. What the student typed stands as a quotation, the answers as the model wrote them.

    Raises:
        ChatError: there is no such chat (any more).
    """
    about = chats.find(store, student, chat)
    parts = [f"# {_plain(about.title)}", f"_{_time(about.created_at)}_"]
    for message in chats.messages(store, student, chat):
        if message.role == "user":
            parts.append("\n".join(f"> {line}".rstrip() for line in message.text.split("\n")))
        else:
            parts.append(message.text.strip("\n"))
    return "\n\n".join(parts) + "\n"


def as_json(store: Store, student: str, chat: str = "") -> str:
    """One chat, or all of the student's, the latest first.

    ``{"format": "iris-chats", "version": 1, "chats": [{"id", "title", "created_at", "updated_at", "messages": [{"role",
    "content"}]}]}`` with times in ISO 8601, UTC.

    Raises:
        ChatError: there is no such chat (any more).
    """
    found: tuple[tuple[Chat, tuple[Message, ...]], ...]
    if chat:
        found = ((chats.find(store, student, chat), chats.messages(store, student, chat)),)
    else:
        found = chats.everything(store, student)
    listed = [_entry(about, messages) for about, messages in found]
    return json.dumps({"format": FORMAT, "version": VERSION, "chats": listed}, ensure_ascii=False, indent=1) + "\n"


def _entry(chat: Chat, messages: tuple[Message, ...]) -> dict[str, object]:
    return {
        "id": chat.id,
        "title": chat.title,
        "created_at": _time(chat.created_at),
        "updated_at": _time(chat.updated_at),
        "messages": [{"role": message.role, "content": message.text} for message in messages],
    }


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|$~" else c for c in text)
