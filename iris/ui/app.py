"""Builds the page: header, model selector, tabs. ``build(pool, settings)`` -> ``gr.Blocks``, ready for ``launch``."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from iris.engine.pool import EnginePool
from iris.settings import Settings
from iris.ui import models, study_chat, theme
from iris.ui.headers import Headers

MAX_FILE_SIZE = "1mb"  # nothing is uploaded yet


def build(pool: EnginePool, settings: Settings) -> gr.Blocks:
    """The whole app over the engines of ``pool``."""
    # Gradio sums up its last 10,000 events anew after each one, although the page for it is off.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    concurrency = settings.slots + settings.queue + 8
    with gr.Blocks(title="Iris", analytics_enabled=False) as app:
        known = models.Models(pool, settings)
        with gr.Row(elem_id="iris-head"):
            gr.HTML(theme.BRAND, elem_id="iris-brand", js_on_load=None)
            model = models.selector(known)
        notice = models.notice_line()
        models.connect(known, model, notice)
        with gr.Tabs(elem_id="iris-tabs"), gr.Tab("Study Chat", id="study-chat"):
            study_chat.build(app, known, model, concurrency=concurrency)
    app.queue(max_size=4 * concurrency, default_concurrency_limit=concurrency, api_open=False)
    return app


def launch_options(settings: Settings) -> dict[str, Any]:
    """What ``Blocks.launch`` is called with, address apart."""
    return {
        **theme.launch_options(),
        "footer_links": ["api"],
        "run_history": False,  # it would keep every call's inputs in a shared computer's browser
        "allowed_paths": [],
        "max_file_size": MAX_FILE_SIZE,
        "max_threads": settings.slots + settings.queue + 24,
        "share": False,
        "quiet": True,
        "show_error": True,
        "enable_monitoring": False,
        "ssr_mode": False,  # a second server, in Node, for a page that is all script anyway
        "app_kwargs": {"middleware": [Middleware(Headers)]},
    }
