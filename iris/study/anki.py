"""Cards as an Anki package: note and deck ids stay the same, so that a second import updates instead of doubling."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import genanki

from iris.study.cards import Card
from iris.study.rich_text import anki as as_html

# Anki knows a note type by this number for ever: a new layout gets a new one.
MODEL_ID = 1_607_422_223
_CSS = (
    ".card { font-family: system-ui, sans-serif; font-size: 20px; line-height: 1.5; max-width: 40em; margin: auto; }"
    " pre, code { text-align: left; } .topic { color: gray; font-size: 14px; }"
)
_TOPIC = "{{#Topic}}<p class='topic'>{{Topic}}</p>{{/Topic}}"
MODEL = genanki.Model(
    MODEL_ID,
    "Iris",
    fields=[{"name": "Front"}, {"name": "Back"}, {"name": "Topic"}],
    templates=[
        {
            "name": "Card 1",
            "qfmt": _TOPIC + "{{Front}}",
            "afmt": "{{FrontSide}}<hr id='answer'>{{Back}}",
        }
    ],
    css=_CSS,
)


def package(cards: Sequence[Card], courses: Mapping[str, str], topics: Mapping[str, str]) -> bytes:
    """An ``.apkg`` file: a deck for each course.

    Args:
        cards: what goes into it.
        courses: titles of courses by id; an unknown course is called by its id.
        topics: titles of topics by id, likewise.
    """
    decks: dict[str, genanki.Deck] = {}
    for card in cards:
        title = courses.get(card.course, card.course) or "Iris"
        deck = decks.setdefault(card.course, genanki.Deck(deck_id(card.course), f"Iris::{_one_line(title)}"))
        topic = as_html(topics.get(card.topic, card.topic))
        deck.add_note(
            genanki.Note(
                model=MODEL,
                fields=[as_html(card.front), as_html(card.back), topic],
                guid=f"iris-{card.id}",
                tags=["iris", *filter(None, [_tag(card.course), _tag(card.topic)])],
            )
        )
    if not decks:
        decks[""] = genanki.Deck(deck_id(""), "Iris")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iris.apkg"
        genanki.Package(list(decks.values())).write_to_file(path)
        return path.read_bytes()


def deck_id(course: str) -> int:
    """Made of the course's id: a positive 31-bit number, as Anki takes it."""
    return int.from_bytes(hashlib.sha256(f"iris deck {course}".encode()).digest()[:4], "big") >> 1 or 1


def _tag(name: str) -> str:
    return re.sub(r"\s+", "-", name.strip())


def _one_line(title: str) -> str:
    return " ".join(title.split()).replace("::", ":")
