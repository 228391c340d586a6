"""The interface's texts in its languages: ``t`` for what is on the page, ``say`` for what an event answers.

They stand in ``strings/<language>.toml``, one table a tab; ``tests/unit/test_strings.py`` keeps the languages complete.
The page's language is the browser's; English where Iris does not speak it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

LANGUAGES = ("en", "sv", "tr", "de")

_FOLDER = Path(__file__).parent / "strings"


@cache
def texts(language: str) -> dict[str, str]:
    """All texts of a language by ``table.key``."""
    tables = tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{table}.{key}": text for table, entries in tables.items() for key, text in entries.items()}


@cache
def i18n() -> gr.I18n:
    """The texts as ``Blocks.launch`` takes them."""
    return gr.I18n(**{language: texts(language) for language in LANGUAGES})


def t(key: str) -> Any:
    """A text of the page, translated in the browser; for labels, placeholders and Markdown that stand there.

    Raises:
        KeyError: there is no such text.
    """
    _ = texts("en")[key]
    return i18n()(key)


def say(key: str, request: gr.Request | None, /, **values: object) -> str:
    """A text in the language of whoever asks, with ``{names}`` filled in; for status lines and results."""
    text = texts(language(request)).get(key) or texts("en")[key]
    return text.format(**values) if values else text


def chosen(texts_of: Mapping[str, str]) -> str:
    """A JavaScript expression: of these values by language, the one that ``say`` would choose."""
    spoken = '(navigator.languages ?? []).map((name) => name.split("-")[0].toLowerCase())'
    return f'((values) => values[{spoken}.find((name) => name in values) ?? "en"])({json.dumps(dict(texts_of))})'


def language(request: gr.Request | None) -> str:
    """The first language of the browser's list that Iris speaks, else English."""
    header = (request.headers.get("accept-language") or "") if request and request.headers else ""
    ranked = []
    for place, part in enumerate(header.split(",")):
        name, _, quality = part.strip().partition(";q=")
        try:
            ranked.append((-float(quality or 1), place, name.split("-")[0].lower()))
        except ValueError:
            continue
    return next((name for _, _, name in sorted(ranked) if name in LANGUAGES), "en")
