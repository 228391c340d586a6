"""Cards as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from iris.study.cards import Card
from iris.study.days import moment

HEADER = (
    *("id", "course", "topic", "front", "back", "source"),
    *("created", "due", "reviewed", "stability", "difficulty"),
)


def table(cards: Sequence[Card]) -> str:
    """The cards as CSV (RFC 4180) with a header; times in ISO 8601, UTC.

    A cell that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEADER)
    for card in cards:
        kept = card.memory
        texts = (card.course, card.topic, card.front, card.back, card.source)
        times = (_time(card.created), _time(kept.due), _time(kept.reviewed))
        numbers = ("" if value is None else f"{value:.4f}" for value in (kept.stability, kept.difficulty))
        writer.writerow([card.id, *map(_harmless, texts), *times, *numbers])
    return out.getvalue()


def _time(at: int | None) -> str:
    return "" if at is None else moment(at).isoformat(timespec="seconds")


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
