"""Builds the page: header, model selector, tabs. ``build(pool, settings)`` -> ``gr.Blocks``, ready for ``launch``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from iris import catalog
from iris.engine.pool import EnginePool
from iris.errors import IrisError
from iris.settings import Settings
from iris.ui import study_chat, theme

_BRAND = """\
<div id="iris-brand">
<svg viewBox="0 0 32 32" aria-hidden="true"><g fill="none" stroke-width="2.2" stroke-linecap="round">
<path stroke="#6b5cf0" d="M2.5 16C6 9 11 6 16 6s10 3 13.500 10C26 23 21 26 16 26S6 23 2.500 16Z"/>
<circle stroke="#9b6cf5" cx="16" cy="16" r="6.200"/></g><circle fill="#5142c9" cx="16" cy="16" r="2.600"/></svg>
<div><h1>Iris</h1><p>Your course tutor</p></div></div>
"""

# The status line is updated in place: a screen reader should hear it, quietly. Gradio gives no attribute for it.
_ON_LOAD = """
() => {
  document.documentElement.lang = document.documentElement.lang || "en";
  const line = document.querySelector("#iris-status");
  if (line) { line.setAttribute("role", "status"); line.setAttribute("aria-live", "polite"); }
  const box = document.querySelector("#iris-question textarea");
  if (box) { box.setAttribute("aria-label", "Your question"); }
}
"""

MAX_FILE_SIZE = "1mb"  # nothing is uploaded yet


def build(pool: EnginePool, settings: Settings) -> gr.Blocks:
    """The whole app over the engines of ``pool``."""
    concurrency = settings.slots + settings.queue + 8
    with gr.Blocks(title="Iris", analytics_enabled=False, fill_width=False) as app:
        with gr.Row(elem_id="iris-head"):
            gr.HTML(_BRAND, scale=1)
            model = _model_selector(settings)
        with gr.Tabs(elem_id="iris-tabs"), gr.Tab("Study Chat", id="study-chat"):
            study_chat.build(pool, model, concurrency=concurrency)
        notice = gr.HTML(visible=False)
        selected = gr.State(settings.model)
        model.input(
            lambda wanted, current: (yield from _select(pool, wanted, current)),
            [model, selected],
            [model, selected, notice],
            concurrency_limit=8,
            show_progress="hidden",
            api_visibility="private",
        )
        app.load(None, js=_ON_LOAD)
    app.queue(max_size=4 * concurrency, default_concurrency_limit=concurrency, api_open=False)
    return app


def launch_options(settings: Settings) -> dict[str, Any]:
    """What ``Blocks.launch`` is called with, address apart."""
    return {
        "theme": theme.build(),
        "css_paths": theme.CSS_FILE,
        "footer_links": ["api"],
        "run_history": False,  # it would keep a student's questions in a shared computer's browser
        "allowed_paths": [],
        "max_file_size": MAX_FILE_SIZE,
        "max_threads": settings.slots + settings.queue + 24,
        "share": False,
        "quiet": True,
        "show_error": True,
        "enable_monitoring": False,
    }


def _model_selector(settings: Settings) -> gr.Dropdown:
    rows = catalog.models()
    choices = [(spec.title, spec.id) for spec in rows.values()]
    if settings.model not in rows:
        choices.insert(0, (catalog.find(settings.model).title, settings.model))
    return gr.Dropdown(
        choices, value=settings.model, label="Model", show_label=False, elem_id="iris-model", filterable=False, scale=0
    )


def _select(pool: EnginePool, wanted: str, current: str) -> Iterator[Any]:
    """Open the chosen model; go back to the current one, and say why, when that fails."""
    gr.Info(f"Opening {catalog.find(wanted).title} …", duration=4)
    try:
        pool.get(wanted)
    except IrisError as error:
        gr.Warning(str(error), duration=15)
        yield current, current, gr.skip()
        return
    gr.Info(f"{catalog.find(wanted).title} is ready.", duration=3)
    yield wanted, wanted, gr.skip()
