"""The student's chats: a list over the conversation, to search, open, rename, take along and delete."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from iris.errors import IrisError
from iris.study import chat_export, chats
from iris.ui import downloads, running
from iris.ui.messages import as_message
from iris.ui.page import Page
from iris.ui.strings import say, t

LISTED = 50
"""Chats in the list at most; older ones are found by searching."""

# Words of an answer that are on their way would arrive in the chat that is opened: the answer is stopped first.
_STOP_FIRST = """
async (...values) => {
  const stop = () => document.querySelector("#iris-question .stop-button");
  stop()?.click();
  for (let waited = 0; stop() && waited < 10000; waited += 50) await new Promise((done) => setTimeout(done, 50));
  return values;
}
"""
_BACK = "() => setTimeout(() => document.querySelector('#iris-question textarea')?.focus(), 100)"
_INTO = "() => setTimeout(() => document.querySelector('#iris-chats-search :is(input, textarea)')?.focus(), 100)"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the conversation on the page consists of: the messages, the browser's copy, which chat it is."""

    chat: gr.Chatbot
    saved: gr.BrowserState
    current: gr.BrowserState


@dataclass(frozen=True, slots=True)
class Panel:
    """The list's components."""

    column: gr.Column
    search: gr.Textbox
    chosen: gr.Radio
    actions: gr.Column
    title: gr.Textbox
    rename: gr.Button
    open: gr.Button
    markdown: gr.Button
    json: gr.Button
    delete: gr.Button
    confirm: gr.Row
    confirmed: gr.Button
    kept: gr.Button
    status: gr.HTML
    back: gr.Button
    file: gr.Textbox
    show: gr.Button


def layout() -> Panel:
    """Lay out the list, closed, where the conversation will follow; its ``show`` button is rendered by the caller."""
    with gr.Column(elem_id="iris-chats", visible=False) as column:
        with gr.Row(elem_id="iris-chats-head"):
            gr.Markdown(t("chats.heading"))
            back = gr.Button(t("chats.back"), size="sm", scale=0)
        search = gr.Textbox(
            label=t("chats.search"), placeholder=t("chats.search_hint"), lines=1, elem_id="iris-chats-search"
        )
        status = gr.HTML("", elem_id="iris-chats-status")
        chosen = gr.Radio([], label=t("chats.list"), elem_id="iris-chats-list")
        # Gradio knows a page's choices no longer when it has been restarted; whose a chat is, the store knows.
        chosen.preprocess = lambda payload: payload if isinstance(payload, str) else None
        with gr.Column(visible=False, elem_id="iris-chats-actions") as actions:
            with gr.Row():
                opened = gr.Button(t("chats.open"), variant="primary", size="sm")
                markdown = gr.Button(t("chats.markdown"), size="sm")
                as_json = gr.Button(t("chats.json"), size="sm")
                delete = gr.Button(t("chats.delete"), size="sm")
            with gr.Row(visible=False, elem_id="iris-chats-confirm") as confirm:
                gr.Markdown(t("chats.confirm"))
                confirmed = gr.Button(t("chats.confirmed"), variant="stop", size="sm", scale=0)
                kept = gr.Button(t("chats.kept"), size="sm", scale=0)
            with gr.Row(equal_height=True):
                title = gr.Textbox(label=t("chats.title"), lines=1, max_length=4 * chats.TITLE, scale=1)
                rename = gr.Button(t("chats.rename"), size="sm", scale=0)
        file = downloads.component()
    show = gr.Button(t("chats.show"), size="sm", elem_id="iris-chats-show", scale=0, render=False)
    return Panel(
        column, search, chosen, actions, title, rename, opened, markdown, as_json, delete, confirm, confirmed, kept,
        status, back, file, show,
    )  # fmt: skip


def connect(panel: Panel, page: Page, shown: Shown) -> None:
    """Connect the list with the store and with the conversation on the page."""
    of = _Handlers(page)
    quick = running.QUICK
    student, chosen, search = page.student, panel.chosen, panel.search
    listed = [chosen, panel.actions, panel.confirm, panel.status]

    shows = panel.show.click(of.show, [search, student], [panel.column, *listed], api_name="chats_show", **quick)
    shows.then(None, js=_INTO, **quick)
    panel.back.click(lambda: gr.Column(visible=False), None, panel.column, **quick).then(None, js=_BACK, **quick)
    # Gradio calls what is pasted or dictated no input; any change is searched for.
    search.change(of.listed, [search, student], listed, trigger_mode="always_last", api_name="chats_search", **quick)
    search.submit(of.listed, [search, student], listed, **quick)
    chosen.input(
        of.choose,
        [chosen, student],
        [panel.actions, panel.confirm, panel.title, panel.status],
        api_name="chats_choose",
        **quick,
    )
    panel.open.click(
        of.open,
        [chosen, student],
        [shown.chat, shown.current, panel.column, panel.status],
        js=_STOP_FIRST,
        api_name="chats_open",
        **quick,
    ).then(None, js=_BACK, **quick)
    for ask in (panel.rename.click, panel.title.submit):
        ask(
            of.rename,
            [chosen, panel.title, search, student],
            [panel.title, chosen, panel.status],
            api_name="chats_rename",
            **quick,
        )
    for button, kind in ((panel.markdown, "md"), (panel.json, "json")):
        made = button.click(
            of.export(kind), [chosen, student], [panel.file, panel.status], api_name=f"chats_{kind}", **quick
        )
        made.then(None, panel.file, None, js=downloads.SAVE, **quick)
    panel.delete.click(lambda: gr.Row(visible=True), None, panel.confirm, **quick)
    panel.kept.click(lambda: gr.Row(visible=False), None, panel.confirm, **quick)
    panel.confirmed.click(
        of.delete,
        [chosen, search, student, shown.current],
        [*listed, shown.chat, shown.saved, shown.current],
        api_name="chats_delete",
        **quick,
    )


class _Handlers:
    """What the panel's events do; trouble becomes a line on the panel."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._store = page.store

    def show(self, search: str | None, value: Any, request: gr.Request) -> tuple[Any, ...]:
        return (gr.Column(visible=True), *self.listed(search, value, request))

    def listed(self, search: str | None, value: Any, request: gr.Request) -> tuple[Any, ...]:
        """The list, nothing chosen, the actions away, and how many there are."""
        try:
            choices = self._choices(search, self._page.who(value, request))
        except IrisError as error:
            return gr.Radio([], value=None), gr.Column(visible=False), gr.Row(visible=False), _problem(error)
        if choices:
            line = say("chats.more", request, number=LISTED) if len(choices) == LISTED else ""
        else:
            line = say("chats.not_found" if (search or "").strip() else "chats.none", request)
        return gr.Radio(choices, value=None), gr.Column(visible=False), gr.Row(visible=False), _line(line)

    def choose(self, chat: str | None, value: Any, request: gr.Request) -> tuple[Any, ...]:
        """The actions for a chosen chat, and its title to be changed."""
        try:
            found = chats.find(self._store, self._page.who(value, request), chat or "")
        except IrisError as error:
            return gr.Column(visible=False), gr.Row(visible=False), "", _problem(error)
        return gr.Column(visible=True), gr.Row(visible=False), found.title, ""

    def open(self, chat: str | None, value: Any, request: gr.Request) -> tuple[Any, ...]:
        """The chosen chat on the page, and the list away."""
        try:
            student = self._page.who(value, request)
            found = chats.messages(self._store, student, chat or "")
        except IrisError as error:
            return gr.skip(), gr.skip(), gr.skip(), _problem(error)
        conversation = [as_message(message.role, message.text) for message in found]
        return conversation, {"chat": chat, "owner": student}, gr.Column(visible=False), ""

    def rename(
        self, chat: str | None, title: str, search: str | None, value: Any, request: gr.Request
    ) -> tuple[Any, ...]:
        """The title as it was kept, and the list with it."""
        try:
            student = self._page.who(value, request)
            title = chats.rename(self._store, student, chat or "", title or "")
            choices = self._choices(search, student)
            if chat not in [name for _, name in choices]:  # it no longer fits what is searched for
                choices.insert(0, (title, str(chat)))
        except IrisError as error:
            return gr.skip(), gr.skip(), _problem(error)
        return title, gr.Radio(choices, value=chat), _line(say("chats.renamed", request))

    def export(self, kind: str) -> Callable[..., tuple[Any, ...]]:
        """The handler that makes a file of the chosen chat."""

        def handler(chat: str | None, value: Any, request: gr.Request) -> tuple[Any, ...]:
            try:
                student = self._page.who(value, request)
                about = chats.find(self._store, student, chat or "")
                make = chat_export.markdown if kind == "md" else chat_export.as_json
                text = make(self._store, student, about.id)
            except IrisError as error:
                return "", _problem(error)
            media = "text/markdown" if kind == "md" else "application/json"
            return downloads.file(downloads.name(about.title, kind), media, text), ""

        return handler

    def delete(
        self, chat: str | None, search: str | None, value: Any, current: Any, request: gr.Request
    ) -> tuple[Any, ...]:
        """The list without the chosen chat; the page is emptied if it showed that one."""
        try:
            chats.delete(self._store, self._page.who(value, request), chat or "")
        except IrisError as error:
            return *(gr.skip() for _ in range(3)), _problem(error), *(gr.skip() for _ in range(3))
        *rest, line = self.listed(search, value, request)
        if isinstance(current, dict) and current.get("chat") == chat:
            return *rest, line or _line(say("chats.deleted", request)), [], {}, {}
        return *rest, line or _line(say("chats.deleted", request)), gr.skip(), gr.skip(), gr.skip()

    def _choices(self, search: str | None, student: str) -> list[tuple[str, str]]:
        found = chats.recent(self._store, student, search=search or "", limit=LISTED)
        return [(chat.title or "…", chat.id) for chat in found]


def _line(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def _problem(error: IrisError) -> str:
    return running.status(str(error), kind="problem")
