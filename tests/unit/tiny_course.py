"""A second, tiny course, as a teacher would bring it: baking bread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOML = """\
id = "bread"
title = "Baking bread"
language = "en"
licence = "CC-BY-4.0"

[[chapters]]
id = "dough"
title = "Dough"

[[chapters]]
id = "oven"
title = "The oven"

[[topics]]
id = "hydration"
title = "Hydration"
chapter = "dough"
prerequisites = []

[[topics]]
id = "sourdough"
title = "Sourdough starters"
chapter = "dough"
prerequisites = ["hydration"]

[[topics]]
id = "steam"
title = "Steam"
chapter = "oven"
prerequisites = ["hydration", "sourdough"]
"""

NOTES = {
    "hydration": """\
# Hydration

## Idea

Hydration is the mass of the water over the mass of the flour. More water gives larger holes and a stickier dough.

## Worked example

With 500 g of flour and 350 g of water the hydration is 350 / 500, which is 70 percent.

```
## this is a comment in code, no heading
```

## Typical mistake

Counting the salt or the oil as water. Only water, and the water in the starter, belongs in the sum.
""",
    "sourdough": """\
# Sourdough starters

## Idea

A starter is flour and water in which wild yeast and lactic bacteria live. Feeding it keeps the yeast ahead.

## Typical mistake

Using it straight from the fridge. A cold starter needs a warm feeding before it can raise a loaf.
""",
    "steam": """\
# Steam

## Idea

Steam keeps the surface of the loaf moist, so that it can stretch before the crust sets and hardens.

## Typical mistake

Leaving the steam in for the whole bake. The second half must be dry, or the crust stays soft and pale.
""",
}

_QA = [
    (
        "hydration",
        "definition",
        "What does a baker call hydration?",
        "The mass of the water divided by that of the flour.",
    ),
    (
        "hydration",
        "worked_number",
        "A dough has 800 g flour and 520 g water. How wet is it?",
        "520 over 800 is 65 percent.",
    ),
    ("hydration", "why", "Why is my ciabatta dough so sticky?", "It holds four parts of water for five of flour."),
    (
        "hydration",
        "mistake",
        "Do I add the olive oil to the water?",
        "No. Oil coats the flour and counts as fat, not liquid.",
    ),
    (
        "sourdough",
        "mechanism",
        "Who makes the bubbles in a starter?",
        "Wild yeast: it breathes out carbon dioxide as it eats.",
    ),
    (
        "sourdough",
        "why",
        "My starter smells of nail polish, why?",
        "It is hungry. Feed it twice as often for some days.",
    ),
    (
        "sourdough",
        "comparison",
        "Starter or packet yeast?",
        "Packets are quick and even; starters are slow and taste sour.",
    ),
    (
        "sourdough",
        "when_not_to",
        "When would you not use a wild starter?",
        "For a sweet, rich dough that must rise within hours.",
    ),
    (
        "steam",
        "why",
        "Why do bakers throw water into the oven?",
        "The vapour delays the crust, and the loaf grows taller.",
    ),
    ("steam", "design", "How do I get vapour at home?", "Heat an iron pot, bake under its lid, then take that off."),
    (
        "steam",
        "mistake",
        "My crust is leathery. What went wrong?",
        "The lid stayed on too long; half of the bake is enough.",
    ),
    ("steam", "mechanism", "What makes the crust shine?", "Starch on the wet surface turns to a gel and then dries."),
]

_MCQ = [
    ("hydration", "easy", "Flour 1000 g, water 750 g: the hydration is", "75 %", ["133 %", "25 %", "43 %"]),
    (
        "hydration",
        "hard",
        "Which addition changes the hydration?",
        "100 g of milk",
        ["20 g of salt", "30 g of oil", "5 g of yeast"],
    ),
    ("sourdough", "medium", "What sours a starter?", "Lactic bacteria", ["The yeast alone", "Old flour", "Chlorine"]),
    ("sourdough", "easy", "A starter is fed with", "Flour and water", ["Sugar and salt", "Milk alone", "Packet yeast"]),
    (
        "steam",
        "easy",
        "Steam belongs in",
        "The first half of the bake",
        ["The second half", "The cooling", "The proofing"],
    ),
    (
        "steam",
        "medium",
        "Without steam a loaf",
        "Tears at the side",
        ["Turns sour", "Stays wet inside", "Grows too tall"],
    ),
]


def qa_rows() -> list[dict[str, Any]]:
    return [
        {"id": f"{topic}-q{number:02}", "topic": topic, "kind": kind, "question": question, "answer": answer}
        for number, (topic, kind, question, answer) in enumerate(_QA, 1)
    ]


def mcq_rows() -> list[dict[str, Any]]:
    return [
        {
            "id": f"{topic}-m{number:02}",
            "topic": topic,
            "difficulty": difficulty,
            "question": question,
            "answer": answer,
            "distractors": wrong,
            "explanation": f"Item {number}: this follows from the note on {topic}, where the numbers are worked out.",
        }
        for number, (topic, difficulty, question, answer, wrong) in enumerate(_MCQ, 1)
    ]


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write(folder: Path) -> Path:
    """Write the course to ``folder``."""
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    (folder / "course.toml").write_text(TOML, encoding="utf-8")
    for topic, text in NOTES.items():
        (folder / "notes" / f"{topic}.md").write_text(text, encoding="utf-8")
    write_rows(folder / "qa" / "all.jsonl", qa_rows())
    write_rows(folder / "mcq" / "all.jsonl", mcq_rows())
    return folder
