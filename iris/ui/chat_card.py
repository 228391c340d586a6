"""Makes a card of the latest answer in Study Chat."""

from __future__ import annotations

from typing import Any

import gradio as gr

from iris.errors import IrisError
from iris.store import now
from iris.study import cards
from iris.tools import item_cards
from iris.tools.grounded import plain
from iris.ui import running
from iris.ui.messages import as_messages, as_text
from iris.ui.page import Page
from iris.ui.strings import say, t


def button() -> gr.Button:
    """The button, to be rendered where it belongs."""
    return gr.Button(t("chat_card.make"), size="sm", elem_id="iris-chat-card", scale=0)


def connect(make: gr.Button, page: Page, chat: gr.Chatbot, status: gr.HTML) -> None:
    """Connect the button with the conversation and the status line."""

    def card(history: Any, course: str | None, student: Any, request: gr.Request) -> str:
        """Keep the latest question and answer as a card."""
        question, answer = "", ""
        for message in as_messages(history):
            if message["role"] == "user":
                question, answer = as_text(message["content"]), ""
            else:
                answer = "\n".join(filter(None, [answer, plain(as_text(message["content"]))]))
        if not question.strip() or not answer.strip():
            return running.status(say("chat_card.nothing", request), kind="problem")
        try:
            made = item_cards.of_chat(course or "", question, answer, now())
            new = cards.add(page.store, page.who(student, request), [made])
        except IrisError as error:
            return running.status(str(error), kind="problem")
        return running.status(say("chat_card.kept" if new else "chat_card.there", request))

    make.click(
        card,
        [chat, page.course, page.student],
        status,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="once",
    )
