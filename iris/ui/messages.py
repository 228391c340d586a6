"""A conversation as Gradio's Chatbot holds it."""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]
"""One of Gradio's messages: ``{"role": …, "content": [{"type": "text", "text": …}]}``."""


def as_messages(history: Any) -> list[Message]:
    """The questions and answers of a conversation as the page holds it; all that is not text is dropped."""
    return [
        as_message(message["role"], as_text(message.get("content")))
        for message in (history if isinstance(history, list) else [])
        if isinstance(message, dict) and message.get("role") in ("user", "assistant")
    ]


def as_message(role: str, text: str) -> Message:
    """One message."""
    # As a block: Gradio takes the indentation out of a plain string.
    return {"role": role, "content": [{"type": "text", "text": text}]}


def as_text(content: Any) -> str:
    """Message content as text: Gradio gives a string, a block, or a list of blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return content["text"] if isinstance(content.get("text"), str) else ""
    if isinstance(content, list):
        return "\n".join(filter(None, map(as_text, content)))
    return ""
