"""The Study Chat tab, and its API endpoint ``/study_chat``."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from iris import prompts
from iris.engine import Engine, Usage
from iris.errors import IrisError, RequestError
from iris.notes.library import Scope
from iris.prompts import Turn
from iris.tools import study_chat
from iris.tools.grounded import plain
from iris.ui import chat_card, chat_keeper, chats, grounding, passages, running, strings, student
from iris.ui.messages import Message, as_message, as_messages, as_text
from iris.ui.models import Models
from iris.ui.page import Page
from iris.ui.strings import say, t

# Each update of a page costs the server about 4 ms of the cores that the model also needs, so they are rationed.
WRITING_S = 0.15
"""Least time between two updates of a page while its answer is written: about as fast as text can be read."""
WAITING_S = 0.5
"""Least time between two updates of a page that waits in line. An update is also when a closed page is noticed."""
UPDATES_PER_S = 20
"""Updates a second at most, over all pages whose answers are being written; and as many for those in line."""

_LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "$", "right": "$", "display": False},
]

# Tags in an answer that are shown as they are written. The tokens of which a course speaks would vanish as unknown
# elements, and the rest has no business in a page; what else a model may write of HTML, Gradio sanitizes.
_SHOWN_TAGS = [
    *("s", "pad", "unk", "eos", "bos", "sos", "mask", "cls", "sep", "start_of_turn", "end_of_turn", "think", "image"),
    *("script", "style", "form", "textarea", "select", "option", "iframe", "object", "embed", "video", "audio", "link"),
    *("html", "head", "body", "title", "meta", "base", "dialog"),
]

# The conversation is kept in the browser by the browser: it costs the server nothing, and a reload in the middle of an
# answer keeps what was written so far. An empty conversation is saved only on purpose, because the page also starts
# with one.
_SAVE = """
(chat, saved) => (chat && chat.length)
  ? {history: chat.map((m) => ({role: m.role, content: m.content}))}
  : saved
"""
# What the page can do by itself, it does at once and without the server. But updates that are on the way still arrive
# after a click that ends an answer; so the click is remembered, and has the last word when the page is done with it.
_CLICKED = """
() => {
  const running = document.querySelector("#iris-question .stop-button");
  window.irisEnd = running ? "END" : "";
  return RESULT;
}
"""
_DONE = """
() => {
  const end = window.irisEnd;
  window.irisEnd = "";
  const same = {__type__: "update"};
  const idle = {...same, submit_btn: true, stop_btn: false};
  const [chat, , status, saved, current] = EMPTY;
  if (end === "emptied") return [chat, idle, status, saved, current];
  return [same, idle, end === "stopped" ? STOPPED : same, same, same];
}
"""


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    app, model, concurrency = page.app, page.model, page.concurrency
    tab, keeper = _Tab(page.models, grounding.Grounding(page)), chat_keeper.Keeper(page)
    saved = gr.BrowserState({}, storage_key="iris-study-chat", secret=student.storage_secret(page.store))
    current = chat_keeper.component(page.store)
    with gr.Column(elem_id="iris-study"):
        panel = chats.layout()
        chat = gr.Chatbot(
            label="Conversation",
            show_label=False,
            elem_id="iris-chat",
            layout="bubble",
            buttons=["copy", "copy_all"],
            editable="user",
            latex_delimiters=_LATEX,
            placeholder=t("study_chat.welcome"),
            examples=[{"text": text} for text in prompts.STUDY_CHAT_EXAMPLES],
            feedback_options=None,
            allow_tags=_SHOWN_TAGS,
            group_consecutive_messages=False,
            height=None,
        )
        passages.viewer(page, "study")
        # No max_length: the browser would cut a longer text without a word; here it is refused, and kept.
        question = gr.Textbox(
            label="Your question",
            show_label=False,
            placeholder=t("study_chat.ask"),
            elem_id="iris-question",
            lines=1,
            max_lines=8,
            submit_btn=True,
            autofocus=True,
        )
        with gr.Row(elem_id="iris-foot"):
            status = gr.HTML("", elem_id="iris-status")
            new = gr.Button(t("study_chat.new"), size="sm", elem_id="iris-new", scale=0)
            panel.show.render()
            card = chat_card.button()
            notes = grounding.selector()

    quick = running.QUICK
    # One listener for all four, so that none of them can start a second answer while one is written.
    answer = gr.on(
        [question.submit, chat.example_select, chat.retry, chat.edit],
        keeper.kept(tab.answer, lambda line: (gr.skip(), gr.skip(), running.status(line, kind="problem"))),
        [current, page.student, question, chat, model, notes, page.course],
        [chat, question, status, current],
        trigger_mode="once",
        concurrency_limit=concurrency,
        concurrency_id="engine",
        show_progress="hidden",
        api_visibility="private",
    )
    everything = [chat, question, status, saved, current]
    ready, stopped = _said("study_chat.ready", kind="hint"), _said("study_chat.stopped")
    empty = f'[[], "", {ready}, {{}}, {{}}]'
    app.load(None, None, status, js=f"() => {ready}", **quick)
    answer.then(None, None, everything, js=_DONE.replace("EMPTY", empty).replace("STOPPED", stopped), **quick)
    question.stop(None, None, status, js=_CLICKED.replace("END", "stopped").replace("RESULT", stopped), **quick)
    question.stop(None, cancels=answer, **quick)
    for emptied in (new.click, chat.clear):
        emptied(None, None, everything, js=_CLICKED.replace("END", "emptied").replace("RESULT", empty), **quick)
        emptied(None, cancels=answer, **quick)
    chat.change(None, [chat, saved], saved, js=_SAVE, **quick)
    app.load(keeper.restore, [saved, current, page.student], [chat, saved, current], api_name="chat_restore", **quick)
    chats.connect(panel, page, chats.Shown(chat, saved, current))
    chat_card.connect(card, page, chat, status)
    used = gr.BrowserState(notes.value, storage_key="iris-notes-use", secret=student.storage_secret(page.store))
    notes.input(None, notes, used, js="(use) => use", **quick)
    app.load(None, used, notes, js="(use) => use", **quick)
    gr.api(
        tab.study_chat,
        api_name="study_chat",
        api_description="Ask Iris one question; the answer streams. `history` are earlier messages "
        '(`{"role": "user" | "assistant", "content": …}`), `model` a catalog id (empty: the default). With `notes` = '
        '"course" it answers from the notes of the course with the id `course` (empty: the first), and cites them.',
        concurrency_limit=concurrency,
        concurrency_id="engine",
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an event asks for: a question after some messages, and how to undo it when it cannot be answered.

    ``before`` is the conversation to go back to, ``box`` what the question box then holds (None: as it is).
    """

    question: str
    history: list[Message]
    before: list[Message]
    box: str | None
    empties_box: bool = False


@dataclass(frozen=True, slots=True)
class _Tab:
    """The tab's handlers."""

    models: Models
    grounding: grounding.Grounding | None = None

    def answer(
        self,
        draft: str,
        history: list[Message],
        model: str,
        notes: str | None,
        course: str | None,
        event: gr.EventData,
        who: str = "",
        request: gr.Request | None = None,
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Answer what was sent, chosen, retried or edited; yields (conversation, question box, status line)."""
        asked = _asked(draft or "", as_messages(history), event)
        try:
            question = study_chat.checked(asked.question)
            scope = self.grounding.scope(notes, course, who, request) if self.grounding else None
        except RequestError as error:
            # Nothing was changed yet, save by an edit; a message of a megabyte need not travel back.
            yield asked.before, gr.skip(), running.status(str(error), kind="problem")
            return
        conversation = [*asked.history, as_message("user", question)]
        line = say("study_chat.reading", request)
        box = {"value": ""} if asked.empties_box else {}
        yield conversation, gr.Textbox(submit_btn=False, stop_btn=True, **box), running.status(line)
        text = ""
        try:
            engine = yield from running.opened(
                self.models.open(model), lambda line: (gr.skip(), gr.skip(), running.status(line))
            )
            for shown, answer in self._written(engine, question, _turns(asked.history), scope, request):
                # Unchanged parts are skipped: the box would lose the focus, the status line would be read out again.
                reply = gr.skip()
                if shown != text:
                    text = shown
                    reply = [*conversation, as_message("assistant", text)]
                said, line = line, _line(answer, request)
                yield reply, gr.skip(), gr.skip() if line == said else running.status(line)
            if not text:
                raise IrisError(say("study_chat.nothing", request))
        except Exception as error:
            problem = running.problem(error, "an answer failed")
            if text:  # what was written stays, and can be retried
                yield gr.skip(), gr.skip(), running.status(problem, kind="problem")
            else:
                back = gr.skip() if asked.box is None else gr.Textbox(value=asked.box)
                yield asked.before, back, running.status(problem, kind="problem")

    def _written(
        self, engine: Engine, question: str, turns: Sequence[Turn], scope: Scope | None, request: gr.Request | None
    ) -> Iterator[tuple[str, study_chat.Answer]]:
        """The answer as the page shows it, and as the tool gives it."""
        if scope is None or self.grounding is None:
            for answer in study_chat.stream(engine, question, turns, pace=_pace(engine)):
                yield answer.text, answer
        else:
            for cited in self.grounding.stream(engine, question, turns, scope, _pace(engine)):
                yield grounding.as_markdown(cited, request), cited.answer

    def study_chat(
        self,
        message: str,
        history: list[dict[str, Any]] | None = None,
        model: str = "",
        notes: str = "",
        course: str = "",
    ) -> Generator[str, None, None]:
        """The answer so far, growing; the last value is the whole answer."""
        try:
            if not isinstance(message, str):
                raise RequestError("`message` must be text.")
            turns = _turns(_checked_history(history))
            scope = self._scope(notes, course)
            engine = yield from running.opened(self.models.open(model), lambda line: "")
            if scope is None or self.grounding is None:
                for answer in study_chat.stream(engine, message, turns, pace=_pace(engine)):
                    yield answer.text
            else:
                for cited in self.grounding.stream(engine, message, turns, scope, _pace(engine)):
                    yield grounding.as_text(cited)
        except IrisError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def _scope(self, notes: str, course: str) -> Scope | None:
        if notes not in ("", None, "course"):
            raise RequestError(f'`notes` must be "course", or empty for an answer without notes; not {notes!r}.')
        known = self.grounding.page.courses if self.grounding else {}
        if course and course not in known:
            raise RequestError(f"There is no course {course!r}. Known are: {', '.join(known)}.")
        chosen = course or next(iter(known), "")
        return self.grounding.scope(notes, chosen, "", None) if self.grounding else None


def _asked(draft: str, history: list[Message], event: gr.EventData) -> _Asked:
    if isinstance(event.target, gr.Textbox):
        return _Asked(draft, history, history, draft, empties_box=True)
    if not history:
        return _Asked(as_text(event.value), history, history, None)  # an example question
    at = min(int(event.index[0] if isinstance(event.index, list) else event.index), len(history) - 1)
    while at > 0 and history[at]["role"] != "user":
        at -= 1
    previous = getattr(event, "previous_value", None)
    if previous is None:
        return _Asked(as_text(history[at]["content"]), history[:at], history, None)  # retry
    # The page already shows the edited question. If it cannot be answered, it moves to the box.
    edited = as_text(event.value)
    before = [*history[:at], as_message("user", as_text(previous)), *history[at + 1 :]]
    return _Asked(edited, history[:at], before, "\n\n".join(filter(None, [edited, draft])))


def _pace(engine: Engine) -> study_chat.Pace:
    def pace(answer: study_chat.Answer) -> float:
        status = engine.status()
        if answer.place:
            return max(WAITING_S, status.waiting / UPDATES_PER_S)
        return max(WRITING_S, status.active / UPDATES_PER_S)

    return pace


def _said(key: str, *, kind: str = "") -> str:
    """A status line as a JavaScript expression."""
    return strings.chosen({name: running.status(strings.texts(name)[key], kind=kind) for name in strings.LANGUAGES})


def _line(answer: study_chat.Answer, request: gr.Request | None) -> str:
    if answer.usage:
        return _summary(answer.usage, answer.notices, request)
    if answer.notices:
        return answer.notices[-1]
    if answer.place:
        return say("study_chat.place", request, place=answer.place)
    return say("study_chat.writing" if answer.text else "study_chat.reading", request)


def _summary(usage: Usage, notices: tuple[str, ...], request: gr.Request | None) -> str:
    parts = [say("study_chat.tokens", request, count=usage.completion_tokens)]
    if usage.tokens_per_second:
        parts.append(f"{usage.tokens_per_second:.0f} tokens/s")
    if usage.first_token_s is not None:
        parts.append(say("study_chat.first_word", request, seconds=f"{usage.first_token_s:.1f}"))
    if usage.finish_reason == "length":
        parts.append(say("study_chat.length", request))
    return " · ".join([*parts, *notices])


def _checked_history(history: Any) -> list[Message]:
    messages = as_messages(history)
    if len(messages) != len(history or []):
        raise RequestError(
            '`history` must be a list of {"role": "user", "content": …} and {"role": "assistant", "content": …}.'
        )
    return messages


def _turns(messages: list[Message]) -> tuple[Turn, ...]:
    """Question and answer pairs."""
    turns: list[Turn] = []
    for message in messages:
        text = as_text(message["content"])
        if message["role"] == "user":
            turns.append(Turn(text, ""))
        elif turns:
            turns[-1] = Turn(turns[-1].question, f"{turns[-1].answer}\n{plain(text)}".strip())
    return tuple(turns)
