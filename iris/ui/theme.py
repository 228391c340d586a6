"""Iris's look: paper by day and aubergine by night, one violet, and the style sheet and script beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from iris.ui.strings import t

_HERE = Path(__file__).parent

_SANS = ("ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

# The flower and the eye in one: eight petals around a golden pupil.
_PETALS = "".join(
    f'<ellipse cx="24" cy="11.500" rx="5.600" ry="9.500" transform="rotate({angle} 24 24)"'
    f' fill="{"#6a4fd8" if angle % 90 else "#8f7bf0"}"/>'
    for angle in (45, 135, 225, 315, 0, 90, 180, 270)
)
MARK = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" aria-hidden="true">'
    f'{_PETALS}<circle cx="24" cy="24" r="6.500" fill="#2b1d63"/><circle cx="24" cy="24" r="3" fill="#f6c453"/></svg>'
)


def brand() -> str:
    """The head's mark, name and what Iris is, in the page's language."""
    return f"{MARK}<div><h1>Iris</h1><p>{t('page.tagline')}</p></div>"


def launch_options() -> dict[str, Any]:
    """Theme, style, script and icon, as ``Blocks.launch`` takes them. Nothing is fetched from elsewhere."""
    icon = "data:image/svg+xml," + quote(MARK)
    style = "".join((_HERE / name).read_text(encoding="utf-8") for name in ("iris.css", "tools.css", "study.css"))
    style = style.replace("IRIS_MARK", icon)
    keys = (_HERE / "study.js").read_text(encoding="utf-8")
    return {
        "theme": build(),
        "js": (_HERE / "iris.js").read_text(encoding="utf-8"),
        # Not as Gradio's `css`, which puts a prefix behind every comma, also behind those inside :is().
        "head": f'<link rel="icon" type="image/svg+xml" href="{icon}"><style>{style}</style><script>{keys}</script>',
    }


def build() -> gr.themes.Base:
    """The theme. Fonts are the system's."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.violet,
        secondary_hue=gr.themes.colors.violet,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="#faf8f5",
        body_background_fill_dark="#15121c",
        body_text_color="#231d30",
        body_text_color_dark="#ece8f4",
        body_text_color_subdued="#625a72",
        body_text_color_subdued_dark="#a79fb9",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1e1a28",
        background_fill_secondary="#f3efe9",
        background_fill_secondary_dark="#262132",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1e1a28",
        block_border_color="#e6e0e8",
        block_border_color_dark="#352e45",
        block_shadow="none",
        block_shadow_dark="none",
        border_color_primary="#e6e0e8",
        border_color_primary_dark="#352e45",
        border_color_accent="#c9bdf3",
        border_color_accent_dark="#5a4d84",
        color_accent="#5f45c8",
        color_accent_soft="#ece6fb",
        color_accent_soft_dark="#352c57",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1e1a28",
        input_border_color="#d9d1df",
        input_border_color_dark="#463d5a",
        input_border_color_focus="#5f45c8",
        input_border_color_focus_dark="#a996ff",
        input_placeholder_color="#6f677e",
        input_placeholder_color_dark="#9a92ad",
        button_primary_background_fill="#5f45c8",
        button_primary_background_fill_hover="#4d36ad",
        button_primary_background_fill_dark="#6a50d6",
        button_primary_background_fill_hover_dark="#7259dd",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_background_fill_hover="#ece6fb",
        button_secondary_background_fill_hover_dark="#352c57",
        button_secondary_border_color="#d9d1df",
        button_secondary_border_color_dark="#463d5a",
        button_secondary_text_color="#4a3a80",
        button_secondary_text_color_dark="#cfc4ff",
        link_text_color="#5239b8",
        link_text_color_hover="#3c2891",
        link_text_color_visited="#5239b8",
        link_text_color_dark="#b8a9ff",
        link_text_color_hover_dark="#d3c9ff",
        link_text_color_visited_dark="#b8a9ff",
        code_background_fill="#f3efe9",
        code_background_fill_dark="#262132",
    )
