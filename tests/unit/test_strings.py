"""The interface speaks all its languages completely."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from iris.ui import app, strings

PLACES = re.compile(r"{(\w*)}")


@pytest.mark.parametrize("language", strings.LANGUAGES)
def test_every_language_has_every_text_with_the_same_places(language: str) -> None:
    english, other = strings.texts("en"), strings.texts(language)
    assert set(other) == set(english)
    for key, text in english.items():
        assert other[key].strip(), key
        assert sorted(PLACES.findall(other[key])) == sorted(PLACES.findall(text)), key


def test_every_tab_has_a_title() -> None:
    for name in app.TABS:
        assert strings.texts("en")[f"{name}.tab"]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("sv-SE,sv;q=0.9,en;q=0.8", "sv"),
        ("fr,de;q=0.7,tr;q=0.9", "tr"),
        ("fr-FR", "en"),
        ("", "en"),
        ("en;q=x,de", "de"),
        ("de;q=0.2,en;q=0.9", "en"),
    ],
)
def test_the_language_is_the_first_that_iris_speaks(header: str, language: str) -> None:
    request: Any = SimpleNamespace(headers={"accept-language": header})
    assert strings.language(request) == language
    assert strings.say("page.course", request) == strings.texts(language)["page.course"]


def test_an_unknown_text_is_a_mistake_at_once() -> None:
    with pytest.raises(KeyError):
        strings.t("page.nothing")
