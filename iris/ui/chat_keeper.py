"""Keeps the conversation of Study Chat: in the store when a question is asked and answered, on the page over a reload.

The browser holds a copy of the conversation on the page, which costs the server nothing and survives what the server
may not: a reload in the middle of an answer, a full disk. What is listed and searched is in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gradio as gr

from iris.errors import ChatError, IrisError, StoreError, StudentError
from iris.store import Store
from iris.study import chats
from iris.study.chats import Message
from iris.ui import student
from iris.ui.messages import as_message, as_messages, as_text
from iris.ui.page import Page
from iris.ui.strings import say

log = logging.getLogger(__name__)

Update = tuple[Any, ...]


def component(store: Store) -> gr.BrowserState:
    """Which chat the page shows: ``{"chat": its id, "owner": the student's id}``, empty before the first question."""
    return gr.BrowserState({}, storage_key="iris-chat", secret=student.storage_secret(store))


class Keeper:
    """Saves what the tab's handler answers, and gives the page back what it showed."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def kept(self, answer: Callable[..., Iterator[Update]], problem: Callable[[str], Update]) -> Callable[..., Any]:
        """The handler ``answer`` with saving around it.

        Args:
            answer: ``(question, history, …, event, student's id, request)`` to updates, the first of which is the
                conversation.
            problem: the update that shows a line of trouble.

        Returns:
            ``(current, student, event, request, question, history, …)`` to the same updates, each with one for
            ``current`` behind it.
        """

        def handler(
            current: Any, value: Any, event: gr.EventData, request: gr.Request, question: str, history: Any, *more: Any
        ) -> Iterator[Update]:
            unsaved = ""
            try:
                # A program that does not say who it is leaves no chat behind.
                known = value or student.signed_in(request) or student.nameless(self._page.store, request)
                name = self._page.who(value, request) if known else ""
            except StudentError as error:
                yield (*problem(str(error)), gr.skip())
                return
            except StoreError as error:
                log.error("a chat will not be saved: %s", error)
                name, unsaved = "", say("chats.not_saved", request)
            if self._deleted(name, current):
                current, history = {}, []
            record = _Record(self._page.store, name, current, _plain(history), unsaved)
            try:
                for update in answer(question, history, *more, event, name, request):
                    shown = _plain(update[0]) if isinstance(update[0], list) else None
                    yield (*update, record.current() if record.is_new(shown) else gr.skip())
                    if shown is not None:
                        record.shows(shown)
                failure = record.save()
                if failure:
                    yield (*problem(failure), record.current())
                elif record.moved:
                    yield (*(gr.skip() for _ in problem("")), record.current())
            finally:  # also when the page was closed or the answer stopped
                record.save()

        return handler

    def _deleted(self, name: str, current: Any) -> bool:
        """Whether the page shows a chat that its student has deleted in another window."""
        chat, owner = _ids(current)
        if not chat or not name or owner != name:
            return False
        try:
            chats.find(self._page.store, name, chat)
        except ChatError:
            return True
        except StoreError as error:
            log.error("a chat could not be read: %s", error)
        return False

    def restore(self, saved: Any, current: Any, value: Any, request: gr.Request) -> tuple[Any, Any, Any]:
        """What a page that is loaded shows: (conversation, the browser's copy, which chat it is)."""
        shown = as_messages(saved.get("history") if isinstance(saved, dict) else None)
        chat, owner = _ids(current)
        if not owner or not value:
            return gr.skip(), {}, {}
        try:
            if self._page.who(value, request) != owner:  # somebody else has used this browser
                return gr.skip(), {}, {}
            kept = chats.messages(self._page.store, owner, chat) if chat else ()
        except (StudentError, ChatError):  # deleted in another window
            return gr.skip(), {}, {}
        except StoreError as error:
            log.error("a chat could not be read: %s", error)
            kept = ()
        pairs = zip(kept, _plain(shown), strict=False)
        if len(kept) >= len(shown) and all(new.text.startswith(old.text) for new, old in pairs):
            shown = [as_message(message.role, message.text) for message in kept]
        return shown or gr.skip(), gr.skip(), gr.skip()


class _Record:
    """One question's way into the store."""

    def __init__(self, store: Store, name: str, current: Any, shown: tuple[Message, ...], unsaved: str) -> None:
        chat, owner = _ids(current)
        self._store = store
        self._name = name
        self._unsaved = unsaved
        self._failed = False
        self._begins = not chat or owner != name
        self._chat = chats.new_id() if self._begins else chat
        self._told = ""
        self._known = self._now = shown

    @property
    def moved(self) -> bool:
        """Whether the page was told another id than the one it is saved under."""
        return self._told not in ("", self._chat)

    def is_new(self, messages: tuple[Message, ...] | None) -> bool:
        """Whether the page has yet to be told its chat: it has, once there is more on it than before."""
        return not self._told and messages not in (None, self._now)

    def current(self) -> dict[str, str]:
        self._told = self._chat
        if not self._name:
            return {}
        # An id that is not in the store would be taken for a chat that was deleted.
        return {"chat": "" if self._failed and self._begins else self._chat, "owner": self._name}

    def shows(self, messages: tuple[Message, ...]) -> None:
        """The page shows this now. A new question is saved at once; what replaces others, when it is complete."""
        asked = len(messages) == len(self._now) + 1 and messages[:-1] == self._now and messages[-1].role == "user"
        self._now = messages
        if asked:
            self.save()

    def save(self) -> str:
        """Save what the page shows, if it is not saved yet; what went wrong, or nothing."""
        if not self._name:
            return self._unsaved
        if self._now == self._known:
            return ""
        try:
            if not self._now:
                chats.delete(self._store, self._name, self._chat)
                self._begins = True
            else:
                self._save()
        except IrisError as error:
            log.error("a chat could not be saved: %s", error)
            self._failed = True
            return str(error)
        self._known, self._failed = self._now, False
        return ""

    def _save(self) -> None:
        before = None if self._begins else self._known
        with suppress(ChatError):  # it was deleted while the answer was being written, and stays so
            self._chat = chats.save(self._store, self._name, self._chat, self._now, before)
            self._begins = False


def _ids(current: Any) -> tuple[str, str]:
    """(chat, owner) of what a page says it shows, empty where it says nothing."""
    values = (current.get("chat"), current.get("owner")) if isinstance(current, dict) else ("", "")
    chat, owner = (value if isinstance(value, str) else "" for value in values)
    return chat, owner


def _plain(history: Any) -> tuple[Message, ...]:
    return tuple(Message(message["role"], as_text(message["content"])) for message in as_messages(history))
