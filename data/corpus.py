"""What is computed for each row of a large file in worker processes, and put together here: cleaning and likeness."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from data import groups, parallel, text
from data.clean import clean_row
from data.groups import Groups, Sketches
from data.sources import Row

_SHORT = 4  # content words of a first turn below which it ("Hello!") says nothing


@dataclass
class Likeness:
    """Everything needed to tell which of n rows are near-duplicates. ``add`` and ``extend``, then ``labels``."""

    questions: list[Sketches] = field(default_factory=list)
    asked: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Numbers of the rows that have a question to compare."""
    answers: list[Sketches] = field(default_factory=list)
    keys: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    """Row number and key of each text that joins rows when it is equal."""
    count: int = 0

    def extend(self, other: Likeness) -> None:
        """Append the rows of ``other``."""
        self.questions += other.questions
        self.asked += [numbers + self.count for numbers in other.asked]
        self.answers += other.answers
        self.keys += [pairs + np.array([self.count, 0], np.uint64) for pairs in other.keys]
        self.count += other.count

    def join_questions(self, found: Groups) -> Groups:
        """Join rows of near-duplicate questions."""
        asked = np.concatenate(self.asked) if self.asked else np.empty(0, np.int64)
        groups.join_near_duplicates(found, groups.joined(self.questions), groups.QUESTION_LIKE, asked)
        return found

    def join_answers(self, found: Groups) -> Groups:
        """Join rows of near-duplicate answers."""
        groups.join_near_duplicates(found, groups.joined(self.answers), groups.ANSWER_LIKE)
        return found

    def labels(self, *, containment: bool = False) -> npt.NDArray[np.int64]:
        """For each row the number of the first row of its group of near-duplicates, by question or by answer.

        ``containment`` joins rows also where one answer is for the most part contained in a longer one; that is
        compared for all pairs, so it is for collections of some thousand rows.
        """
        found = Groups(self.count)
        if self.keys:
            pairs = np.concatenate(self.keys)
            found.join_equal(pairs[:, 1], pairs[:, 0].astype(np.int64))
        self.join_answers(self.join_questions(found))
        if containment:
            groups.join_contained(found, groups.joined(self.answers))
        return found.labels()


def likeness(pairs: Sequence[tuple[str, str]], first_turns: Sequence[str] = ()) -> Likeness:
    """The likeness of rows given as (question, answer); an empty question is not compared.

    ``first_turns`` has for each row of several turns what the user said first, else an empty text: a conversation
    belongs to the question it begins with.
    """
    asked = [number for number, (question, _) in enumerate(pairs) if question]
    keys = [(number, text.word_key("q" + pairs[number][0])) for number in asked]
    keys += [(number, text.word_key("a" + answer)) for number, (_, answer) in enumerate(pairs)]
    for number, first in enumerate(first_turns):
        if first and len(text.content_words(first)) >= _SHORT:
            keys.append((number, text.word_key("q" + first)))
    return Likeness(
        [groups.sketch((pairs[number][0] for number in asked), text.question_features)],
        [np.array(asked, np.int64)],
        [groups.sketch((answer for _, answer in pairs), text.answer_features)],
        [np.array(keys, np.uint64).reshape(-1, 2)],
        len(pairs),
    )


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A batch after cleaning: for each row that is left its id, a key equal for repetitions, and its JSON line."""

    ids: list[str]
    keys: list[int]
    lines: list[bytes]
    hits: Counter[str]


def cleaned(rows: Iterable[Row], *, keep_instructions: bool, processes: int | None) -> Iterator[Cleaned]:
    """Clean rows in worker processes."""
    return parallel.mapped(partial(_clean, keep_instructions=keep_instructions), rows, processes=processes)


def _clean(rows: list[Row], *, keep_instructions: bool) -> Cleaned:
    result = Cleaned([], [], [], Counter())
    for row in rows:
        clean = clean_row(row, result.hits, keep_instructions=keep_instructions)
        if clean is None:
            continue
        name = clean.id
        result.ids.append(name)
        result.keys.append(
            text.key(
                *(f"{message.role}:{text.same(message.content)}" for message in clean.prompt),
                text.same(clean.completion),
            )
        )
        result.lines.append(json.dumps(row_json(clean, name), ensure_ascii=False).encode() + b"\n")
    return result


def row_json(row: Row, name: str) -> dict[str, Any]:
    """A row as it stands in a split, without its group."""
    prompt = [{"role": message.role, "content": message.content} for message in row.prompt]
    completion = [{"role": "assistant", "content": row.completion}]
    return {"id": name, "source": row.source, "topic": row.topic, "prompt": prompt, "completion": completion}


def likeness_of_lines(lines: Iterable[bytes], *, processes: int | None) -> Likeness:
    """The likeness of rows given as JSON lines of a split."""
    whole = Likeness()
    for part in parallel.mapped(_likeness, lines, processes=processes):
        whole.extend(part)
    return whole


def _likeness(lines: list[bytes]) -> Likeness:
    return likeness_of_rows([json.loads(line) for line in lines])


def likeness_of_rows(rows: Sequence[dict[str, Any]]) -> Likeness:
    """The likeness of rows of a split."""
    pairs, first_turns = [], []
    for row in rows:
        turns = [message["content"] for message in row["prompt"] if message["role"] == "user"]
        pairs.append(("\n\n".join(turns), row["completion"][-1]["content"]))
        first_turns.append(turns[0] if len(turns) > 1 else "")
    return likeness(pairs, first_turns)
