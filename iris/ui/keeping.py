"""The line that says that nothing outlives a restart here, with the way to take one's history along."""

from __future__ import annotations

from collections.abc import Container

import gradio as gr

from iris.ui.strings import t

LEARNER_FILE = "my_data"
"""The tab where everything of a student can be saved as one file."""


def line(tabs: gr.Tabs, known: Container[str]) -> None:
    """Show the line; the button opens the tab with the learner file, where there is one."""
    with gr.Row(elem_id="iris-forgets"):
        gr.Markdown(t("page.forgets"))
        if LEARNER_FILE in known:
            take = gr.Button(t("page.take_along"), size="sm", scale=0, min_width=200)
            take.click(
                lambda: gr.Tabs(selected=LEARNER_FILE.replace("_", "-")),
                outputs=tabs,
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )
