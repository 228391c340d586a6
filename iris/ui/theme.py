"""Iris's look: one quiet theme for light and dark, and the style sheet beside it."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS_FILE = Path(__file__).with_name("iris.css")

_SANS = ("ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def build() -> gr.themes.Base:
    """The theme. Fonts are the system's: nothing is fetched from elsewhere."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.violet,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="#f7f6fb",
        body_background_fill_dark="#12121b",
        body_text_color="#1d1b2e",
        body_text_color_dark="#e9e8f2",
        body_text_color_subdued="#59566f",
        body_text_color_subdued_dark="#a9a6bd",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1a1a26",
        background_fill_secondary="#f1eff8",
        background_fill_secondary_dark="#20202e",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1a1a26",
        block_border_color="#e2dff0",
        block_border_color_dark="#2e2d40",
        block_shadow="none",
        block_shadow_dark="none",
        border_color_primary="#e2dff0",
        border_color_primary_dark="#2e2d40",
        input_background_fill="#ffffff",
        input_background_fill_dark="#20202e",
        input_border_color="#cfcbe2",
        input_border_color_dark="#3b3a52",
        input_border_color_focus="#5b4bd6",
        input_border_color_focus_dark="#9d90ff",
        button_primary_background_fill="#5142c9",
        button_primary_background_fill_hover="#4336ad",
        button_primary_background_fill_dark="#6b5cf0",
        button_primary_background_fill_hover_dark="#7d70f5",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#eeecf8",
        button_secondary_background_fill_dark="#2a2a3b",
        link_text_color="#4a3cc0",
        link_text_color_dark="#b3a9ff",
        color_accent_soft="#ebe8fb",
        color_accent_soft_dark="#2b2846",
    )
