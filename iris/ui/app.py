"""Builds the page: header, model selector, tabs. ``build(pool, settings)`` -> ``gr.Blocks``, ready for ``launch``."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr
from gradio import utils
from starlette.middleware import Middleware

from iris import settings as state
from iris import store as storage
from iris.engine.pool import EnginePool
from iris.notes import ingest
from iris.settings import Settings
from iris.store import Store
from iris.ui import (
    cheat_sheet,
    compare,
    drill,
    feedback,
    keeping,
    models,
    my_data,
    notes,
    page,
    planner,
    quiz,
    review,
    strings,
    student,
    study_chat,
    theme,
)
from iris.ui.headers import Headers
from iris.ui.limits import Limits
from iris.ui.strings import t

MAX_FILE_SIZE = ingest.MAX_BYTES

FILES_AT_ONCE = 8
"""How many of the largest files one upload may have."""

TABS = {
    "study_chat": study_chat,
    "notes": notes,
    "quiz": quiz,
    "feedback": feedback,
    "cheat_sheet": cheat_sheet,
    "planner": planner,
    "review": review,
    "drill": drill,
    "compare": compare,
    "my_data": my_data,
}
"""The tabs from left to right; a name is also the tab's table in strings/*.toml."""


def build(pool: EnginePool, settings: Settings) -> gr.Blocks:
    """The whole app over the engines of ``pool``."""
    # Gradio sums up its last 10,000 events anew after each one, although the page for it is off.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    concurrency = settings.slots + settings.queue + 8
    state.writable_home()
    store = Store(storage.location())
    courses = page.known_courses(settings)
    with gr.Blocks(title="Iris", analytics_enabled=False) as app:
        known = models.Models(pool, settings)
        who = student.component(store)
        student.connect(app, store, who)
        with gr.Row(elem_id="iris-head"):
            gr.HTML(theme.brand(), elem_id="iris-brand", js_on_load=None)
            course = page.course_selector(courses)
            model = models.selector(known)
        notice = models.notice_line()
        models.connect(known, model, notice)
        shared = page.Page(app, known, model, courses, course, store, who, concurrency)
        tabs = gr.Tabs(elem_id="iris-tabs", overflow_behavior="wrap", render=False)
        if settings.forgets:
            keeping.line(tabs, TABS)
        tabs.render()
        with tabs:
            for name, tab in TABS.items():
                with gr.Tab(t(f"{name}.tab"), id=name.replace("_", "-")):
                    tab.build(shared)
    app.queue(max_size=4 * concurrency, default_concurrency_limit=concurrency, api_open=False)
    return app


def launch_options(settings: Settings) -> dict[str, Any]:
    """What ``Blocks.launch`` is called with, address apart."""
    upload = FILES_AT_ONCE * (utils._parse_file_size(MAX_FILE_SIZE) or 0) + (1 << 16)
    limits = Middleware(Limits, rate=settings.rate, proxies=settings.proxies, upload=upload)
    return {
        **theme.launch_options(),
        "i18n": strings.i18n(),
        "footer_links": ["api"],
        "run_history": False,  # it would keep every call's inputs in a shared computer's browser
        "allowed_paths": [],
        "max_file_size": MAX_FILE_SIZE,
        "max_threads": settings.slots + settings.queue + 24,
        "share": False,
        "quiet": True,
        "show_error": True,
        "enable_monitoring": False,
        "ssr_mode": settings.ssr,  # off by default: a second server, in Node, for a page that is all script anyway
        "app_kwargs": {"middleware": [Middleware(Headers), limits]},
        "mcp_server": settings.mcp,
    }
