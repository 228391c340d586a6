"""The Study Chat tab, and its API endpoint ``/study_chat``."""

from __future__ import annotations

import html
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from iris import prompts
from iris.engine import Usage
from iris.engine.pool import EnginePool
from iris.errors import IrisError
from iris.prompts import Turn
from iris.tools import study_chat

History = list[dict[str, Any]]
"""Gradio's messages: ``{"role": …, "content": text or list of blocks}``."""

UPDATE_S = 0.1
"""The page is updated at most this often for one answer: each update costs the two cores that the model also needs."""

PLACEHOLDER = "## What are you studying?\nAsk anything about your course. Iris explains step by step."

_LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "$", "right": "$", "display": False},
]


def build(pool: EnginePool, model: gr.Dropdown, *, concurrency: int) -> None:
    """Lay out the tab inside the current ``gr.Blocks`` and connect it.

    Args:
        pool: where the model's engine comes from.
        model: the shared model selector.
        concurrency: how many answers may be written or wait at the same time.
    """
    tab = _Tab(pool)
    saved = gr.BrowserState({}, storage_key="iris-study-chat", secret=_storage_secret())
    chat = gr.Chatbot(
        label="Conversation",
        show_label=False,
        elem_id="iris-chat",
        layout="bubble",
        buttons=["copy", "copy_all"],
        editable="user",
        latex_delimiters=_LATEX,
        placeholder=PLACEHOLDER,
        examples=[{"text": text} for text in prompts.STUDY_CHAT_EXAMPLES],
        feedback_options=None,
        allow_tags=False,
        group_consecutive_messages=False,
    )
    question = gr.Textbox(
        label="Your question",
        show_label=False,
        placeholder="Ask a question… (Enter sends, Shift+Enter starts a new line)",
        elem_id="iris-question",
        lines=1,
        max_lines=8,
        max_length=study_chat.MAX_CHARACTERS,
        submit_btn=True,
        autofocus=True,
    )
    with gr.Row(elem_id="iris-foot"):
        status = gr.HTML(_status("Ready."), elem_id="iris-status")
        new = gr.Button("New chat", size="sm", elem_id="iris-new", scale=0)

    outputs = [chat, question, status]
    running: dict[str, Any] = {
        "outputs": outputs,
        "concurrency_limit": concurrency,
        "concurrency_id": "engine",
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    answers = [
        question.submit(tab.ask, [question, chat, model], **running),
        chat.example_select(tab.example, [chat, model], **running),
        chat.retry(tab.retry, [chat, model], **running),
        chat.edit(tab.edit, [chat, model], **running),
    ]
    for event in answers:
        event.then(tab.save, chat, saved, **quick)
    question.stop(tab.stopped, chat, [question, status, saved], cancels=answers, **quick)
    chat.clear(tab.cleared, None, [chat, question, status, saved], cancels=answers, **quick)
    new.click(tab.cleared, None, [chat, question, status, saved], cancels=answers, **quick)
    gr.on(None, tab.restore, saved, chat, **quick)
    gr.api(
        tab.api,
        api_name="study_chat",
        api_description="Ask Iris one question; the answer streams. `history` are earlier messages "
        '(`{"role": "user" | "assistant", "content": …}`), `model` a catalog id (empty: the default).',
        concurrency_limit=concurrency,
        concurrency_id="engine",
    )


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers. Each answering one yields ``(chat, question box, status)``."""

    pool: EnginePool

    def ask(self, question: str, history: History, model: str) -> Iterator[Any]:
        yield from self._answer(question, history or [], model)

    def example(self, event: gr.SelectData, history: History, model: str) -> Iterator[Any]:
        yield from self._answer(_text(event.value.get("text", "")), history or [], model)

    def retry(self, event: gr.RetryData, history: History, model: str) -> Iterator[Any]:
        at = _index(event.index)
        while at > 0 and history[at]["role"] != "user":
            at -= 1
        yield from self._answer(_text(history[at]["content"]), history[:at], model)

    def edit(self, event: gr.EditData, history: History, model: str) -> Iterator[Any]:
        yield from self._answer(_text(event.value), history[: _index(event.index)], model)

    def _answer(self, question: str, history: History, model: str) -> Iterator[Any]:
        asked = study_chat.clean(question)
        conversation = [*history, {"role": "user", "content": _shown(asked)}]
        try:
            if not asked:
                raise IrisError("Write a question first.")
            yield conversation, _box(running=True), _status("Reading your question …")
            engine = self.pool.get(model)
            written = False
            for answer in study_chat.stream(engine, asked, _turns(history), every_s=UPDATE_S):
                if answer.usage:
                    line = _summary(answer.usage, answer.notices)
                elif answer.notices:
                    line = answer.notices[-1]
                elif answer.place:
                    line = f"You are number {answer.place} in line …"
                elif answer.text:
                    line = "Writing …"
                else:
                    line = "Reading your question …"
                reply = [{"role": "assistant", "content": answer.text}] if answer.text else []
                # Unchanged parts are skipped: the box would lose the focus, the status line would be read out again.
                yield [*conversation, *reply] if reply else gr.skip(), gr.skip(), _status(line)
                written = written or bool(reply)
            yield gr.skip(), _box(running=False), gr.skip()
        except IrisError as error:
            yield history, _box(running=False, value=question), _status(str(error), problem=True)

    def stopped(self, history: History) -> tuple[Any, str, dict[str, Any]]:
        return _box(running=False), _status("Stopped."), self.save(history)

    def cleared(self) -> tuple[History, Any, str, dict[str, Any]]:
        return [], _box(running=False, value=""), _status("Ready."), {}

    def save(self, history: History) -> dict[str, Any]:
        return {"history": [{"role": m["role"], "content": _text(m["content"])} for m in history or []]}

    def restore(self, saved: dict[str, Any] | None) -> Any:
        history = (saved or {}).get("history")
        return history if isinstance(history, list) and history else gr.skip()

    def api(
        self, message: str, history: list[dict[str, Any]] | None = None, model: str = ""
    ) -> Generator[str, None, None]:
        """The answer so far, growing; the last value is the whole answer."""
        try:
            engine = self.pool.get(model)
            for answer in study_chat.stream(engine, message, _turns(history or []), every_s=UPDATE_S):
                yield answer.text
        except IrisError as error:
            raise gr.Error(str(error), print_exception=False) from error


def _turns(history: History) -> tuple[Turn, ...]:
    """Question and answer pairs of a conversation as the page holds it."""
    turns: list[Turn] = []
    for message in history:
        text = _text(message.get("content", ""))
        if message.get("role") == "user":
            turns.append(Turn(html.unescape(text), ""))
        elif turns:
            turns[-1] = Turn(turns[-1].question, f"{turns[-1].answer}\n{text}".strip())
    return tuple(turns)


def _text(content: Any) -> str:
    """Message content as text: Gradio gives a string, a block, or a list of blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return str(content.get("text", ""))
    if isinstance(content, list):
        return "\n".join(filter(None, map(_text, content)))
    return ""


def _shown(question: str) -> str:
    """A question as Markdown that shows it to the letter: tags and template tokens stay visible."""
    return html.escape(question, quote=False)


def _index(index: Any) -> int:
    return int(index[0] if isinstance(index, list | tuple) else index)


def _box(*, running: bool, value: str | None = None) -> Any:
    """The question box: emptied and with a stop button while an answer is written."""
    if running:
        return gr.Textbox(value="", submit_btn=False, stop_btn=True)
    if value is None:
        return gr.Textbox(submit_btn=True, stop_btn=False)
    return gr.Textbox(value=value, submit_btn=True, stop_btn=False)


def _status(line: str, *, problem: bool = False) -> str:
    return f'<p class="problem" role="alert">{html.escape(line)}</p>' if problem else f"<p>{html.escape(line)}</p>"


def _summary(usage: Usage, notices: tuple[str, ...]) -> str:
    parts = [f"{usage.completion_tokens} tokens"]
    if usage.tokens_per_second:
        parts.append(f"{usage.tokens_per_second:.0f} tokens/s")
    if usage.first_token_s is not None:
        parts.append(f"first word after {usage.first_token_s:.1f} s")
    if usage.finish_reason == "length":
        parts.append("stopped at the length limit")
    return " · ".join([*parts, *notices])


def _storage_secret() -> str:
    """The key that encrypts what the browser keeps: made once and kept, so that a restart does not lose it."""
    import secrets

    from iris import settings

    path = settings.writable_home() / "browser.key"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        key = secrets.token_urlsafe(24)
        path.touch(mode=0o600)
        path.write_text(key, encoding="ascii")
        return key
