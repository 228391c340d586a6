"""All that is the student's as one file, to be saved here and read elsewhere. A part of the My data tab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from iris.errors import IrisError, LearnerFileError
from iris.study.learner import MAX_BYTES
from iris.tools import take_along as tool
from iris.ui import downloads, running
from iris.ui.page import Page
from iris.ui.strings import say, t


def build(page: Page) -> None:
    """Lay the part out at this place and connect it."""
    of = _Handlers(page)
    gr.Markdown(t("take_along.intro"))
    with gr.Row():
        save = gr.Button(t("take_along.save"), size="sm", scale=0, min_width=240, elem_id="iris-take-save")
        read = gr.UploadButton(
            t("take_along.read"), file_types=[".json"], size="sm", scale=0, min_width=240, elem_id="iris-take-read"
        )
    status = gr.HTML("", elem_id="iris-take-status", elem_classes="iris-line")
    file = downloads.component()

    quick = running.QUICK
    saved = save.click(of.save, page.student, [file, status], **quick)
    saved.then(None, file, None, js=downloads.SAVE, **quick)
    read.upload(of.read, [read, page.student], [status, read], **quick)


class _Handlers:
    """What the buttons do; trouble becomes a line."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def save(self, value: Any, request: gr.Request) -> tuple[str, str]:
        """The learner file."""
        try:
            text = tool.save(self._page.store, self._page.who(value, request))
        except IrisError as error:
            return "", running.status(str(error), kind="problem")
        return downloads.file("iris-learner.json", "application/json", text), ""

    def read(self, path: str | None, value: Any, request: gr.Request) -> tuple[str, Any]:
        """What a learner file has brought; it does not stay on the server."""
        if not path:
            return "", gr.skip()
        try:
            if Path(path).stat().st_size > MAX_BYTES:
                raise LearnerFileError(f"This file is larger than {MAX_BYTES >> 20} MB: no learner file is.")
            done = tool.load(self._page.store, self._page.who(value, request), Path(path).read_bytes())
        except Exception as error:
            problem = running.problem(error, "a learner file could not be read")
            return running.status(problem, kind="problem"), None
        finally:
            Path(path).unlink(missing_ok=True)
        counts = {what: sum(getattr(done, what).values()) for what in ("new", "changed", "same")}
        return running.status(say("take_along.done", request, **counts)), None
