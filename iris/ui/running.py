"""What tabs that ask the model have in common: waiting for it, status lines, and errors as a student reads them."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Callable, Generator
from typing import Any

import gradio as gr

from iris.engine import Engine
from iris.errors import IrisError

log = logging.getLogger(__name__)

CRASHED = "Something went wrong inside Iris, and it was written to the log. Nothing of yours is lost: try again."
UPDATE_S = 0.25
"""Least time between two updates of a page: each costs the server some of the cores that the model needs."""

QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""How a page's listeners are connected that answer at once."""


def slow(concurrency: int) -> dict[str, Any]:
    """How those are connected that ask the model, ``concurrency`` of them at the same time on the whole page."""
    return {
        "show_progress": "hidden",
        "api_visibility": "private",
        "concurrency_limit": concurrency,
        "concurrency_id": "engine",
        "trigger_mode": "once",
    }


def opened(opening: Generator[str, None, Engine], told: Callable[[str], Any]) -> Generator[Any, None, Engine]:
    """The engine of a model that is being opened; yields ``told`` of each line for the student."""
    while True:
        try:
            line = next(opening)
        except StopIteration as done:
            engine: Engine = done.value
            return engine
        yield told(line)


def finished(opening: Generator[str, None, Engine]) -> Engine:
    """The engine of a model that is being opened, when it is open."""
    while True:
        try:
            next(opening)
        except StopIteration as done:
            engine: Engine = done.value
            return engine


def status(line: str, *, kind: str = "") -> str:
    """A line for the student, as HTML."""
    return f'<p class="{kind}">{html.escape(line)}</p>' if line else ""


def problem(error: Exception, what: str) -> str:
    """An error's own message if it was meant for students; else it goes to the log, as ``what``, and they read that."""
    if isinstance(error, IrisError):
        return str(error)
    log.error("%s", what, exc_info=error)
    return CRASHED


def refused(error: IrisError) -> gr.Error:
    """The error for callers of the API."""
    return gr.Error(str(error), print_exception=False)


class Pace:
    """``due()`` is true at most every ``UPDATE_S`` seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + UPDATE_S
        return True
