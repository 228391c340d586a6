"""What the tests of evaluation share: splits made of the course's own files, and the runners on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluation.tasks import LETTERS

COURSE = Path(__file__).parents[2] / "data/courses/id2223"


def course_splits(folder: Path, *, train: int = 700, test: int = 12, mcq: int = 12) -> Path:
    """A folder like outputs/data/id2223, a row a topic, so that the held-out ones are on different topics."""
    folder.mkdir(parents=True)
    questions = _rows("qa")
    # Every 7th question is another topic's soon enough; train and test share topics, as in the real splits.
    held_out, others = questions[::7][:test], [row for n, row in enumerate(questions) if n % 7][:train]
    _write(folder / "train.jsonl", [_pair(row) for row in others])
    _write(folder / "test.jsonl", [_pair(row) for row in held_out])
    bank = []
    for number, row in enumerate(_rows("mcq")[::5][:mcq]):
        options = list(row["distractors"])
        options.insert(number % 4, row["answer"])
        listed = "\n".join(f"{LETTERS[n]}. {option}" for n, option in enumerate(options))
        asked = {
            **row,
            "answer": f"{LETTERS[number % 4]}. {row['answer']}",
            "question": f"{row['question']}\n\n{listed}",
        }
        bank.append(
            {
                **_pair(asked),
                "question": row["question"],
                "options": options,
                "answer": LETTERS[number % 4],
                "kind": "mcq",
            }
        )
    _write(folder / "mcq_test.jsonl", bank)
    return folder


def _rows(kind: str) -> list[dict[str, Any]]:
    paths = sorted((COURSE / kind).glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def _pair(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": "qa",
        "topic": row["topic"],
        "prompt": [{"role": "user", "content": row["question"]}],
        "completion": [{"role": "assistant", "content": row["answer"]}],
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
