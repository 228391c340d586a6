"""The model selector: what a student may choose from, and opening it without leaving the page in the dark."""

from __future__ import annotations

import html
import logging
import threading
from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from iris import catalog
from iris.engine import Engine
from iris.engine.pool import EnginePool
from iris.errors import IrisError, UnknownModel
from iris.settings import Settings

log = logging.getLogger(__name__)

TELL_S = 0.5
"""How often the page is told how far a model's download is."""


class Models:
    """The models of this server, for the page and the API.

    Only these can be asked for from outside: a path or a Hub address is for the one who starts Iris.
    """

    def __init__(self, pool: EnginePool, settings: Settings) -> None:
        self._pool = pool
        self._default = settings.model
        if settings.engine_url:  # another server has the models, and only this one was asked for
            self._titles = {settings.model: settings.model}
        else:
            specs = map(catalog.find, settings.models) if settings.models else catalog.models().values()
            self._titles = {spec.id: spec.title for spec in specs}
            if settings.model not in self._titles:
                self._titles = {settings.model: catalog.find(settings.model).title, **self._titles}

    @property
    def default(self) -> str:
        return self._default

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(title, id) of each."""
        return [(title, name) for name, title in self._titles.items()]

    def title(self, model: str) -> str:
        return self._titles[self.known(model)]

    def known(self, model: str | None) -> str:
        """The id itself, or the default one's for none.

        Raises:
            UnknownModel: the message lists the known ids.
        """
        name = model or self._default
        if name not in self._titles:
            raise UnknownModel(f"There is no model {name!r}. Known are: {', '.join(self._titles)}.")
        return name

    def open(self, model: str) -> Generator[str, None, Engine]:
        """The model's engine; yields a line for the student now and then while it is being opened.

        Raises:
            ModelError: it is unknown, cannot be downloaded or cannot be served.
            EngineError: there is no room for it now.
        """
        name = self.known(model)
        if name in self._pool.loaded():
            return self._pool.get(name)
        opened: list[Engine] = []
        failed: list[BaseException] = []
        far = ""

        def progress(done: int, total: int | None) -> None:
            nonlocal far
            if total:
                far = f" {100 * done // total} % of {total / 1e9:.1f} GB"

        def work() -> None:
            try:
                opened.append(self._pool.get(name, progress))
            except BaseException as error:
                failed.append(error)

        # In a thread of its own: a student who leaves does not stop a download that others wait for.
        worker = threading.Thread(target=work, name=f"iris-open {name}", daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(TELL_S)
            if worker.is_alive():
                yield f"Downloading {self.title(name)}:{far}" if far else f"Opening {self.title(name)} …"
        if failed:
            raise failed[0]
        return opened[0]


def selector(models: Models) -> gr.Dropdown:
    """The model selector of the page's head."""
    return gr.Dropdown(
        models.choices,
        value=models.default,
        label="Model",
        show_label=False,
        container=False,
        elem_id="iris-model",
        filterable=False,
        scale=0,
    )


def notice_line() -> gr.HTML:
    """Where the selector's messages appear."""
    return gr.HTML("", elem_id="iris-notice")


def connect(models: Models, model: gr.Dropdown, notice: gr.HTML) -> None:
    """Open a model when it is selected; go back to the one before, and say why, when that fails."""
    selected = gr.State(models.default)
    opening: set[tuple[str | None, str]] = set()

    def select(wanted: str, current: str, request: gr.Request) -> Iterator[Any]:
        key = (request.session_hash, wanted)
        if wanted == current or key in opening:  # Gradio sends a click twice
            yield gr.skip(), gr.skip(), gr.skip()
            return
        opening.add(key)
        try:
            yield gr.Dropdown(interactive=False), gr.skip(), _notice(f"Opening {models.title(wanted)} …")
            for line in models.open(wanted):
                yield gr.skip(), gr.skip(), _notice(line)
            yield gr.Dropdown(interactive=True), wanted, _notice(f"{models.title(wanted)} answers now.", "done")
        except Exception as error:
            if not isinstance(error, IrisError):
                log.exception("a model could not be opened")
            problem = str(error) if isinstance(error, IrisError) else "Something went wrong inside Iris: see its log."
            line = f"{models.title(wanted)} cannot be used, {models.title(current)} goes on. {problem}"
            yield gr.Dropdown(value=current, interactive=True), gr.skip(), _notice(line, "problem")
        finally:
            opening.discard(key)

    model.input(
        select,
        [model, selected],
        [model, selected, notice],
        concurrency_limit=8,
        show_progress="hidden",
        api_visibility="private",
    )


def _notice(line: str, kind: str = "") -> str:
    return f'<p class="{kind}">{html.escape(line)}</p>'
