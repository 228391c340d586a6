"""The My data tab: what is kept of a student and where, to take along and to delete."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from gradio.context import Context

from iris.errors import IrisError
from iris.study import chat_export, students
from iris.ui import downloads, running, student, take_along
from iris.ui.page import Page
from iris.ui.strings import say, t, texts

# What the browser itself keeps of Iris goes, too. The page starts anew: nothing on it is left of what was deleted.
_FORGET = """
(done) => {
  if (!done) return;
  Object.keys(localStorage).filter((key) => key.startsWith("iris-")).forEach((key) => localStorage.removeItem(key));
  window.onbeforeunload = null;
  window.location.reload();
}
"""


def build(page: Page) -> None:
    """Lay out the tab at this place of the page and connect it."""
    of = _Handlers(page)
    tab = Context.block
    with gr.Column(elem_id="iris-data"):
        gr.Markdown(t("my_data.where"))
        if student.sign_in_enabled():
            gr.Markdown(t("my_data.sign_in"))
            gr.LoginButton(size="sm", scale=0)
        kept = gr.HTML("", elem_id="iris-data-kept")
        with gr.Row():
            export = gr.Button(t("my_data.export_chats"), size="sm", scale=0, min_width=240)
        take_along.build(page)
        gr.Markdown(t("my_data.delete_text"))
        delete = gr.Button(t("my_data.delete"), size="sm", scale=0, min_width=240, elem_id="iris-data-delete")
        with gr.Column(visible=False, elem_id="iris-data-confirm") as confirm:
            gr.Markdown(t("my_data.confirm"))
            with gr.Row():
                confirmed = gr.Button(t("my_data.confirmed"), variant="stop", size="sm", scale=0, min_width=240)
                cancel = gr.Button(t("my_data.cancel"), size="sm", scale=0, min_width=160)
        status = gr.HTML("", elem_id="iris-data-status")
        file, done = downloads.component(), downloads.component()

    quick = running.QUICK
    if isinstance(tab, gr.Tab):
        tab.select(of.kept, page.student, kept, api_name="my_data_kept", **quick)
    exported = export.click(of.export, page.student, [file, status], api_name="my_data_chats", **quick)
    exported.then(None, file, None, js=downloads.SAVE, **quick)
    delete.click(lambda: gr.Column(visible=True), None, confirm, **quick)
    cancel.click(lambda: gr.Column(visible=False), None, confirm, **quick)
    deleted = confirmed.click(of.delete, page.student, [done, status], api_name="my_data_delete", **quick)
    deleted.then(None, done, None, js=_FORGET, **quick)


class _Handlers:
    """What the tab's events do; trouble becomes a line on it."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def kept(self, value: Any, request: gr.Request) -> str:
        """Who the student is, and how much there is of what."""
        try:
            counts = students.counts(self._page.store, self._page.who(value, request))
        except IrisError as error:
            return _problem(error)
        account = student.signed_in(request)
        who = say("my_data.account", request, name=account[1]) if account else say("my_data.browser", request)
        parts = [f"{_name(table, request)}: {number:,}" for table, number in counts.items()]
        line = " · ".join(parts) if parts else say("my_data.nothing", request)
        return f"<p>{html.escape(who)}</p><p>{html.escape(line)}</p>"

    def export(self, value: Any, request: gr.Request) -> tuple[str, str]:
        """All chats as a file."""
        try:
            text = chat_export.as_json(self._page.store, self._page.who(value, request))
        except IrisError as error:
            return "", _problem(error)
        return downloads.file("iris-chats.json", "application/json", text), ""

    def delete(self, value: Any, request: gr.Request) -> tuple[str, str]:
        """Whether everything was deleted; else why not."""
        try:
            students.forget(self._page.store, self._page.who(value, request))
        except IrisError as error:
            return "", _problem(error)
        return "done", ""


def _name(table: str, request: gr.Request) -> str:
    key = f"my_data.table_{table}"
    return say(key, request) if key in texts("en") else table.replace("_", " ")


def _problem(error: IrisError) -> str:
    return running.status(str(error), kind="problem")
