"""What an audit counts: repetitions, near-duplicates, damage, templates, lengths, what a random split would leak."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data import corpus, parallel, templates, text
from data.clean import clean_prompt, damage, leaks
from data.clean_rules import BEHEADED
from data.corpus import Likeness
from data.groups import Groups, Ints
from data.sources import Report, Row
from data.splits import SHARES

_EXAMPLES = 3
_HEAD = 160  # characters of a text that is shown
_TRAINED_LENGTH = 1024  # tokens; what trainers cut at by default


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question to look for in the data, with its answer if there is one."""

    question: str
    answer: str = ""


@dataclass
class _Part:
    """What a worker finds out about a batch of different rows."""

    prompt_tokens: list[int] = field(default_factory=list)
    answer_tokens: list[int] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    with_instructions: int = 0
    leaking: list[tuple[int, str]] = field(default_factory=list)
    likeness: Likeness = field(default_factory=Likeness)


@cache
def _tokenizer(path: Path | None) -> Any:
    from iris.engine.tokenizer import Tokenizer

    return Tokenizer(path)


def _measure(rows: list[Row], tokenizer: Path | None) -> _Part:
    part = _Part()
    count = _tokenizer(tokenizer).count_many
    part.prompt_tokens = count("\n".join(message.content for message in row.prompt) for row in rows)
    part.answer_tokens = count(row.completion for row in rows)
    for number, row in enumerate(rows):
        question = row.question
        if question:
            if name := damage(question):
                part.damaged.append((number, name))
            hits: Counter[str] = Counter()
            clean_prompt(question, hits)
            part.rules.update(hits.keys())
            part.with_instructions += bool(set(hits) - {BEHEADED})
        if found := leaks(row.completion):
            part.leaking.append((number, found[0]))
    turns = [[message.content for message in row.prompt if message.role == "user"] for row in rows]
    part.likeness = corpus.likeness(
        [(row.question, row.completion) for row in rows], [said[0] if len(said) > 1 else "" for said in turns]
    )
    return part


class Audit:
    """Reads rows once, and then has the numbers. Memory: about 2 KB for each different row."""

    def __init__(self, report: Report, *, tokenizer: Path | None = None, processes: int | None = None) -> None:
        self._report = report
        self._tokenizer = tokenizer
        self._processes = processes
        self._copies: dict[int, int] = {}  # how often each different row is there, by its key, in reading order
        self._pairs: list[tuple[int, int]] = []  # keys of question and answer of each different row
        self._short: dict[int, str] = {}  # questions that may be from a template
        self._answers: dict[int, str] = {}  # the beginning of each answer
        self._places: list[str] = []
        self._parts: list[_Part] = []

    def run(self, rows: Iterator[Row]) -> None:
        """Read all rows."""
        measure = partial(_measure, tokenizer=self._tokenizer)
        self._parts = list(parallel.mapped(measure, self._different(rows), processes=self._processes))

    def _different(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            question = "\n".join(f"{message.role}:{message.content.strip()}" for message in row.prompt)
            asked, answer = text.key(question), text.key(row.completion.strip())
            pair = text.key(question, row.completion.strip())
            self._copies[pair] = self._copies.get(pair, 0) + 1
            if self._copies[pair] > 1:
                continue
            self._pairs.append((asked, answer))
            self._places.append(f"{row.file}:{row.line}" if row.line else row.file)
            self._answers.setdefault(answer, row.completion[:_HEAD].strip())
            if row.prompt and row.question.count(" ") <= 30:
                self._short.setdefault(asked, row.question)
            yield row

    def result(self, against: Sequence[tuple[str, Sequence[Prompt]]] = ()) -> dict[str, Any]:
        """All numbers, ready for JSON. ``against`` are named sets of evaluation prompts."""
        whole = Likeness()
        for part in self._parts:
            whole.extend(part.likeness)
        pairs = np.array(self._pairs, np.uint64).reshape(-1, 2)
        copies = np.fromiter(self._copies.values(), np.int64)
        asks = whole.asked and any(map(len, whole.asked))
        questions = whole.join_questions(_equal(pairs[:, 0])).labels()
        answers = whole.join_answers(_equal(pairs[:, 1])).labels()
        distinct_prompts = len(np.unique(pairs[:, 0])) if asks else 0
        made, largest = templates.templates(
            list(self._short.values()), templates.frames(list(self._short.values())), total=max(1, distinct_prompts)
        )
        return {
            "rows": self._report.rows,
            "malformed": self._report.malformed,
            "malformed_rows": self._report.problems,
            "distinct_pairs": len(pairs),
            "distinct_prompts": distinct_prompts,
            "distinct_answers": len(np.unique(pairs[:, 1])),
            "near_duplicates": {
                "prompts": _near(questions, pairs[:, 0]) if asks else None,
                "answers": _near(answers, pairs[:, 1]),
                "groups": len(np.unique(whole.labels())),
            },
            "shared_answers": self._shared(pairs, copies) if asks else None,
            "damaged_prompts": self._damaged(copies),
            "templates": {
                "prompts": made,
                "share": round(made / max(1, distinct_prompts), 4),
                "largest": [{"text": template.text, "prompts": template.prompts} for template in largest],
            },
            "meta_instructions": self._instructions(len(pairs)),
            "tokens": self._tokens(copies),
            "random_split": _random_split(pairs[:, 1], answers, copies),
            "contamination": [self._contamination(name, prompts, whole) for name, prompts in against],
        }

    def _numbered(self) -> Iterator[tuple[int, _Part]]:
        """Each part with the number of its first row."""
        first = 0
        for part in self._parts:
            yield first, part
            first += len(part.answer_tokens)

    def _shared(self, pairs: npt.NDArray[np.uint64], copies: Ints) -> dict[str, Any]:
        """Answers that are given to more than one question."""
        asked: dict[int, set[int]] = defaultdict(set)
        rows: Counter[int] = Counter()
        for (question, answer), count in zip(pairs.tolist(), copies.tolist(), strict=True):
            asked[answer].add(question)
            rows[answer] += count
        many = sorted((answer for answer in asked if len(asked[answer]) > 1), key=lambda answer: -len(asked[answer]))
        return {
            "answers": len(many),
            "rows": sum(rows[answer] for answer in many),
            "prompts": sum(len(asked[answer]) for answer in many),
            "most_shared": [
                {"prompts": len(asked[answer]), "rows": rows[answer], "answer": self._answers[answer]}
                for answer in many[:_EXAMPLES]
            ],
        }

    def _damaged(self, copies: Ints) -> dict[str, Any]:
        found: Counter[str] = Counter()
        rows, places = 0, []
        for first, part in self._numbered():
            for number, name in part.damaged:
                found[name] += 1
                rows += int(copies[first + number])
                places.append(f"{self._places[first + number]}: {name}")
        return {
            "prompts": found.total(),
            "rows": rows,
            "kinds": dict(found.most_common()),
            "examples": places[:_EXAMPLES],
        }

    def _instructions(self, different: int) -> dict[str, Any]:
        rules: Counter[str] = Counter()
        examples = []
        for first, part in self._numbered():
            rules += part.rules
            examples += [f"{self._places[first + number]}: {sentence}" for number, sentence in part.leaking]
        with_instructions = sum(part.with_instructions for part in self._parts)
        return {
            "prompts": with_instructions,
            "prompts_share": round(with_instructions / max(1, different), 4),
            "rules": dict(rules.most_common()),
            "answers": len(examples),
            "answers_share": round(len(examples) / max(1, different), 4),
            "answer_examples": examples[:_EXAMPLES],
        }

    def _tokens(self, copies: Ints) -> dict[str, Any]:
        prompts = np.array([count for part in self._parts for count in part.prompt_tokens], np.int64)
        answers = np.array([count for part in self._parts for count in part.answer_tokens], np.int64)
        tokenizer = _tokenizer(self._tokenizer).name
        whole = np.repeat(prompts + answers, copies)
        return {
            "tokenizer": tokenizer,
            "prompt": _spread(np.repeat(prompts, copies)),
            "answer": _spread(np.repeat(answers, copies)),
            "row": _spread(whole),
            "total": int(whole.sum()),
            "longer_than_1024": int((whole > _TRAINED_LENGTH).sum()),
        }

    def _contamination(self, name: str, prompts: Sequence[Prompt], own: Likeness) -> dict[str, Any]:
        """Which evaluation prompts are in the data, by question or by answer."""
        both = Likeness()
        both.extend(own)
        both.extend(corpus.likeness([(prompt.question, prompt.answer or f"\0{prompt.question}") for prompt in prompts]))
        labels = both.labels()
        data, asked = labels[: own.count], labels[own.count :]
        found = np.isin(asked, data)
        return {
            "name": name,
            "prompts": len(prompts),
            "found": int(found.sum()),
            "rows": int(np.isin(data, asked).sum()),
            "examples": [prompts[number].question[:_HEAD] for number in np.flatnonzero(found)[:_EXAMPLES].tolist()],
        }


def _equal(keys: npt.NDArray[np.uint64]) -> Groups:
    found = Groups(len(keys))
    found.join_equal(keys)
    return found


def _near(labels: Ints, keys: npt.NDArray[np.uint64]) -> dict[str, int]:
    """Of the different texts, how many have a near-duplicate that is not the same text, and in how many groups."""
    groups, texts = labels[np.unique(keys, return_index=True)[1]], np.unique(keys)
    _, counts = np.unique(groups, return_counts=True)
    return {
        "texts": int(counts[counts > 1].sum()),
        "groups": int((counts > 1).sum()),
        "largest_group": int(counts.max(initial=0)),
        "distinct_groups": len(counts) if len(texts) else 0,
    }


def _spread(values: Ints) -> dict[str, float]:
    if not len(values):
        return {"mean": 0, "median": 0, "p95": 0, "max": 0}
    median, p95 = np.percentile(values, [50, 95])
    return {"mean": round(float(values.mean()), 1), "median": int(median), "p95": int(p95), "max": int(values.max())}


def _random_split(keys: npt.NDArray[np.uint64], near: Ints, copies: Ints) -> dict[str, float]:
    """The share of test rows whose answer, or one nearly the same, would be in training after a random split.

    Exact expectation for a draw of rows without replacement: a row whose answer has c copies among n rows, in a test
    split, has none of the other c - 1 in training with probability C(n - c, t) / C(n - 1, t), t the training rows.
    """
    total = int(copies.sum())
    train = round(SHARES["train"] * total)
    shares = {}
    for name, groups in (("same_answer", keys), ("nearly_same_answer", near)):
        _, group = np.unique(groups, return_inverse=True)
        sizes = np.bincount(group, weights=copies).astype(np.int64)
        leaked = sum(
            int(size) * int(number) * (1 - _none_in_train(total, train, int(size)))
            for size, number in zip(*np.unique(sizes, return_counts=True), strict=True)
        )
        shares[name] = round(leaked / max(1, total), 4)
    return shares


def _none_in_train(total: int, train: int, copies: int) -> float:
    if total - copies < train:
        return 0.0
    log = math.lgamma
    return math.exp(log(total - copies + 1) - log(total - copies - train + 1) - log(total) + log(total - train))
