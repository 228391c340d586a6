"""Cards taken along: the Anki package opened as what it is, an SQLite file in an archive; and the table as CSV."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris.study import anki, cards, rich_text, spreadsheet
from iris.study.cards import Card

NOW = 1_795_000_000_000


def card(front: str, back: str = "A", course: str = "id2223", topic: str = "lora") -> Card:
    return cards.make(course, topic, front, back, "hand", NOW)


def opened(data: bytes, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Notes, decks and note types of a package."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extract("collection.anki2", folder)
    connection = sqlite3.connect(folder / "collection.anki2")
    try:
        notes = [
            {"guid": guid, "fields": fields.split("\x1f"), "tags": tags.split(), "model": model, "deck": deck}
            for guid, fields, tags, model, deck in connection.execute(
                "SELECT n.guid, n.flds, n.tags, n.mid, c.did FROM notes n JOIN cards c ON c.nid = n.id ORDER BY n.id"
            )
        ]
        decks, models = map(json.loads, connection.execute("SELECT decks, models FROM col").fetchone())
    finally:
        connection.close()
    return notes, decks, models


def test_a_package_has_every_card_in_the_deck_of_its_course(tmp_path: Path) -> None:
    made = [card("What is $W_0$?", "The *frozen* matrix"), card("Other", course="physics", topic="")]
    data = anki.package(made, {"id2223": "Scalable ML"}, {"lora": "LoRA: low-rank"})
    notes, decks, models = opened(data, tmp_path)
    assert [note["fields"] for note in notes] == [
        ["What is \\(W_0\\)?", "The <em>frozen</em> matrix", "LoRA: low-rank"],
        ["Other", "A", ""],
    ]
    names = [decks[str(note["deck"])]["name"] for note in notes]
    assert names == ["Iris::Scalable ML", "Iris::physics"]
    assert {note["model"] for note in notes} == {anki.MODEL_ID}
    assert notes[0]["tags"] == ["iris", "id2223", "lora"]
    assert [field["name"] for field in models[str(anki.MODEL_ID)]["flds"]] == ["Front", "Back", "Topic"]


def test_a_second_export_has_the_same_ids(tmp_path: Path) -> None:
    first = card("Q")
    edited = replace(first, front="Q, better put", changed=NOW + 1)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    before, decks, _ = opened(anki.package([first], {}, {}), tmp_path / "one")
    after, decks_again, _ = opened(anki.package([edited], {}, {}), tmp_path / "two")
    assert [note["guid"] for note in before] == [note["guid"] for note in after] == [f"iris-{first.id}"]
    assert set(decks) == set(decks_again)
    assert before[0]["fields"] != after[0]["fields"]


def test_no_cards_make_an_empty_package(tmp_path: Path) -> None:
    assert opened(anki.package([], {}, {}), tmp_path)[0] == []


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<b onclick='x'>bold</b>", "&lt;b onclick='x'&gt;bold&lt;/b&gt;"),
        ("$a < b$ and $$\\sum_i x_i$$", "\\(a &lt; b\\) and \\[\\sum_i x_i\\]"),
        ("\\(x\\) and \\[y\\]", "\\(x\\) and \\[y\\]"),
        ("$5 and $10", "$5 and $10"),
        ("`$x$` stays code", "<code>$x$</code> stays code"),
        ("cost \\$5 and $x_1 * x_2 * x_3$", "cost $5 and \\(x_1 * x_2 * x_3\\)"),
        ("one\ntwo", "one<br />\ntwo"),
        ("[link](javascript:alert(1)) ![p](http://x.invalid/p.png)", "[link](javascript:alert(1)) ![p](http://x.invalid/p.png)"),
    ],
)  # fmt: skip
def test_text_is_escaped_and_formulas_are_ankis(text: str, html: str) -> None:
    assert rich_text.anki(text) == html


def test_a_fence_is_code_whatever_is_in_it() -> None:
    assert rich_text.anki("```\ncost = $x$ < $y$\n```") == "<pre><code>cost = $x$ &lt; $y$\n</code></pre>"


@given(text=st.text(max_size=200) | st.text("$\\`<>&*_~()[] \nab1\ue000\ue001", max_size=60))
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_text_brings_html_of_its_own(text: str) -> None:
    from html.parser import HTMLParser

    allowed = {
        *("p", "br", "em", "strong", "code", "pre", "ul", "ol", "li", "blockquote", "hr"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
    }

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in allowed
            assert all(name in ("class", "start", "style") for name, _ in attrs)

    Tags().feed(rich_text.anki(text))
    assert "\ue000" not in rich_text.anki(text)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
@hypothesis_settings(max_examples=200, deadline=None)
def test_the_pieces_hold_all_of_the_text(text: str) -> None:
    for piece in rich_text.pieces(text):
        assert piece.text in text
        assert piece.text or piece.kind != "text"


def test_the_table_comes_back_through_csv() -> None:
    made = [card('Quote " comma, line\nbreak', "=1+1"), card("-1 or +1?", "@x")]
    rows = list(csv.DictReader(io.StringIO(spreadsheet.table(made))))
    assert tuple(rows[0]) == spreadsheet.HEADER
    assert [row["id"] for row in rows] == [card.id for card in made]
    assert rows[0]["front"].replace("\r\n", "\n") == made[0].front
    assert [rows[0]["back"], rows[1]["front"], rows[1]["back"]] == ["'=1+1", "'-1 or +1?", "'@x"]
    assert rows[0]["created"] == rows[0]["due"] == "2026-11-18T11:06:40+00:00"
    assert rows[0]["stability"] == ""
