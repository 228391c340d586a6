"""What models are evaluated on: prompt sets, the course's held-out questions, and texts that show what was forgotten.

general, domain   the ten everyday and ten course prompts of the original project   prompts/*.toml
philosophy        questions by branch                                               prompts/philosophy.toml
course            the course's test split: free answers with references             outputs/data/<course>/test.jsonl
mcq               its multiple-choice items that were never trained on              outputs/data/<course>/mcq_test.jsonl
dolly             held-out rows of Dolly: general instructions                      outputs/data/dolly/test.jsonl
wikitext          passages of WikiText-2: plain English                             a wiki.test.raw
any other name    your own prompts: a .toml like prompts/*.toml, a .jsonl, or a .txt with a prompt a line
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from data import files
from data.text import content_words
from evaluation import metrics
from evaluation.errors import TaskError
from iris.engine import Message

Kind = Literal["answer", "choice", "text"]

PROMPTS = Path(__file__).parent / "prompts"
LETTERS = "ABCDEFGH"
PASSAGE = 1500
"""Characters of a WikiText passage: about 350 tokens."""
FACTS = 8
"""Key terms that are taken from a reference answer."""
OWN = 0.05
"""A term belongs to a topic when this share of the answers that use it are on the topic: three times chance at 60."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to do.

    ``prompt`` is the conversation (empty for a plain text). ``reference`` is the answer to compare with, or the text
    itself. ``facts`` are lists of spellings. ``options`` and ``right`` belong to multiple choice, where ``question``
    is the question without its options.
    """

    id: str
    prompt: tuple[Message, ...] = ()
    reference: str = ""
    facts: tuple[tuple[str, ...], ...] = ()
    category: str = ""
    question: str = ""
    options: tuple[str, ...] = ()
    right: int = -1


@dataclass(frozen=True, slots=True)
class Task:
    """Items of one kind. ``source`` says where they come from, for the report."""

    name: str
    kind: Kind
    items: tuple[Item, ...]
    source: str = ""

    @property
    def sha256(self) -> str:
        """What names these items for good: results of other items are not compared with them."""
        text = json.dumps([asdict(item) for item in self.items], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the data is: the folder of the course's splits, Dolly's test rows, WikiText's test file."""

    course: Path = Path("outputs/data/id2223")
    dolly: Path = Path("outputs/data/dolly/test.jsonl")
    wikitext: Path = Path("outputs/data/wikitext-2-raw/wiki.test.raw")
    limits: Mapping[str, int] = field(default_factory=lambda: {"wikitext": 24, "dolly": 48})
    """Items of a task at most, evenly from all over; 0 or absent: all."""


def load(name: str, sources: Sources) -> Task:
    """The task of that name, or the prompts of that file.

    Raises:
        TaskError: its data is missing, empty or broken; the message says how to get it.
    """
    reader = READERS.get(name)
    task = reader(sources) if reader else own(Path(name))
    if not task.items:
        raise TaskError(f"{task.source} holds nothing to evaluate on.")
    limit = sources.limits.get(task.name, 0)
    if not 0 < limit < len(task.items):
        return task
    chosen = [task.items[number * len(task.items) // limit] for number in range(limit)]
    return Task(task.name, task.kind, tuple(chosen), task.source)


def own(path: Path) -> Task:
    """Prompts from a file: .toml with [[prompts]], .jsonl with prompt (or question) and reference, .txt.

    Raises:
        TaskError: there is no such file, it holds no prompt, or a row is broken; with its line.
    """
    kinds: dict[str, Callable[[Path], Iterator[Item]]] = {".toml": _toml, ".jsonl": _jsonl, ".txt": _txt}
    if path.suffix not in kinds:
        raise TaskError(
            f"There is no task {str(path)!r}. Known are {', '.join(READERS)}, and .toml, .jsonl or .txt files."
        )
    try:
        items = tuple(kinds[path.suffix](path))
    except FileNotFoundError as error:
        raise TaskError(f"There is no file {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{path} is not valid TOML: {error}") from error
    if not items:
        raise TaskError(f"{path} is empty: write a prompt a line, or choose another file.")
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise TaskError(f"{path}: the id {twice[0]!r} is there twice. Give every prompt an id of its own.")
    return Task(path.stem, "answer", items, path.name)


def _txt(path: Path) -> Iterator[Item]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            yield Item(f"line-{number}", (Message("user", line.strip()),))


def _toml(path: Path) -> Iterator[Item]:
    content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    rows = content.get("prompts", [])
    if not isinstance(rows, list):
        raise TaskError(f"{path}: each prompt begins with a line [[prompts]].")
    for number, row in enumerate(rows, 1):
        yield _row(row, f"{path}, prompt {number}", str(number))


def _jsonl(path: Path) -> Iterator[Item]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TaskError(f"{path}:{number}: this is not valid JSON: {error}") from error
            yield _row(row, f"{path}:{number}", f"line-{number}")


def _row(row: object, where: str, fallback: str) -> Item:
    if not isinstance(row, dict):
        raise TaskError(f"{where}: expected fields such as text and facts.")
    text = row.get("text") or row.get("prompt") or row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise TaskError(f"{where}: there is no text of the prompt.")
    reference = row.get("reference") or row.get("answer") or ""
    facts = row.get("facts", [])
    if not isinstance(reference, str):
        raise TaskError(f"{where}: the reference must be text.")
    if not isinstance(facts, list) or not all(
        isinstance(fact, list) and fact and all(isinstance(word, str) and word.strip() for word in fact)
        for fact in facts
    ):
        raise TaskError(f'{where}: facts are lists of spellings, such as [["loss", "cost"], ["gradient"]].')
    return Item(
        str(row.get("id") or fallback),
        (Message("user", text.strip()),),
        reference.strip(),
        tuple(tuple(fact) for fact in facts),
        str(row.get("category") or ""),
        text.strip(),
    )


def _prompt_set(name: str) -> Callable[[Sources], Task]:
    return lambda _: own(PROMPTS / f"{name}.toml")


def _course(sources: Sources) -> Task:
    path = sources.course / "test.jsonl"
    how = f"Build the course's splits: python data/build.py --course {sources.course.name}"
    rows = list(_rows(path, how))
    seen: Counter[str] = Counter()
    on_topic: dict[str, Counter[str]] = {}
    train = sources.course / "train.jsonl"
    for row in _rows(train, how):
        found = set(content_words(_answer(row, train)))
        seen.update(found)
        on_topic.setdefault(str(row.get("topic", "")), Counter()).update(found)
    items = []
    for row in rows:
        prompt, answer = _prompt(row, path), _answer(row, path)
        topic = str(row.get("topic", ""))
        facts = key_terms(answer, prompt[-1].content, seen, on_topic.get(topic, {}))
        items.append(Item(str(row["id"]), prompt, answer, facts, topic, prompt[-1].content))
    return Task("course", "answer", tuple(items), f"{sources.course.name}, test split")


def _mcq(sources: Sources) -> Task:
    path = sources.course / "mcq_test.jsonl"
    items: list[Item] = []
    for row in _rows(path, f"Build the course's splits: python data/build.py --course {sources.course.name}"):
        try:
            options, right = tuple(map(str, row["options"])), LETTERS.index(row["answer"])
            question = str(row["question"])
        except (KeyError, ValueError, TypeError) as error:
            raise TaskError(f"{path}: item {len(items) + 1} has no question, options and answer letter.") from error
        topic = str(row.get("topic", ""))
        items.append(Item(str(row["id"]), _prompt(row, path), options[right], (), topic, question, options, right))
    return Task("mcq", "choice", tuple(items), f"{sources.course.name}, held-out multiple choice")


def _dolly(sources: Sources) -> Task:
    path = sources.dolly
    rows = _rows(
        path, "Build it: python data/build.py --source dolly --path FILE, or name its test.jsonl with --dolly."
    )
    items = tuple(Item(str(row["id"]), _prompt(row, path), _answer(row, path)) for row in rows)
    return Task("dolly", "text", items, "Dolly, held-out answers")


def _wikitext(sources: Sources) -> Task:
    path = sources.wikitext
    if not path.is_file():
        raise TaskError(f"There is no {path}. Name the test file of WikiText-2 (raw) with --wikitext.")
    passages: list[str] = []
    text = ""
    for record in files.READERS[".raw"](path):
        line = record.value["text"] if isinstance(record.value, dict) else ""
        text += ("\n" if text else "") + line
        if len(text) >= PASSAGE:
            # Whole words up to the same length, so that every passage weighs about the same.
            passages.append(text[:PASSAGE].rpartition(" ")[0])
            text = ""
    items = tuple(Item(f"passage-{number}", (), passage) for number, passage in enumerate(passages, 1))
    return Task("wikitext", "text", items, "WikiText-2, test")


def _rows(path: Path, how: str) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise TaskError(f"There is no {path}. {how}")
    count = 0
    for record in files.records(path, []):
        if not isinstance(record.value, dict):
            raise TaskError(f"{record.file}:{record.line}: this is no row of prompt and completion.")
        count += 1
        yield record.value
    if not count:
        raise TaskError(f"{path} is empty. {how}")


def _prompt(row: Mapping[str, Any], path: Path) -> tuple[Message, ...]:
    try:
        return tuple(Message(turn["role"], str(turn["content"]).strip()) for turn in row["prompt"])
    except (KeyError, TypeError) as error:
        raise TaskError(f"{path}: row {row.get('id', '?')} has no prompt messages.") from error


def _answer(row: Mapping[str, Any], path: Path) -> str:
    try:
        return str(row["completion"][-1]["content"]).strip()
    except (KeyError, TypeError, IndexError) as error:
        raise TaskError(f"{path}: row {row.get('id', '?')} has no completion message.") from error


def key_terms(
    answer: str, question: str, seen: Mapping[str, int], on_topic: Mapping[str, int], count: int = FACTS
) -> tuple[tuple[str, ...], ...]:
    """The ``count`` words of a reference answer that carry most, each as a fact of one spelling.

    Words that other answers on the same topic use, too (``on_topic``: how many), weighed by inverse document frequency
    over the whole course (``seen``), as Spärck Jones (1972) weighs terms: the topic's own terms. The names and numbers
    of a single example are not among them, nor are words of the question, which an echo of it would contain.
    """
    weight: dict[str, float] = {}
    for place, word in enumerate(content_words(answer)):
        stem = _stem(word)
        here = on_topic.get(word, 0)
        own = here >= max(2, OWN * seen.get(word, 0))
        if len(word) > 3 and own and not metrics.key_facts(question, [[stem]]):
            weight.setdefault(stem, math.log(here / seen[word]) - 1e-6 * place)
    best = sorted(weight, key=lambda word: -weight[word])[:count]
    return tuple((word,) for word in best)


def _stem(word: str) -> str:
    """The word without the commonest endings of English, at least four letters: the beginning that counts as a hit."""
    for ending in ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


READERS: dict[str, Callable[[Sources], Task]] = {
    "general": _prompt_set("general"),
    "domain": _prompt_set("domain"),
    "philosophy": _prompt_set("philosophy"),
    "course": _course,
    "mcq": _mcq,
    "dolly": _dolly,
    "wikitext": _wikitext,
}


def load_all(names: Sequence[str], sources: Sources) -> list[Task]:
    """The tasks of these names; each name once.

    Raises:
        TaskError: see ``load``; or two of them are called alike.
    """
    tasks = [load(name, sources) for name in dict.fromkeys(names)]
    twice = [name for name, count in Counter(task.name for task in tasks).items() if count > 1]
    if twice:
        raise TaskError(f"Two tasks are called {twice[0]!r}. Rename one of the files.")
    return tasks


def topics(sources: Sources) -> list[tuple[str, str]]:
    """(topic, answer) of the course's training questions: what unrelated texts of our own are drawn from.

    Raises:
        TaskError: the course's splits are not built.
    """
    path = sources.course / "train.jsonl"
    rows = _rows(path, f"Build the course's splits: python data/build.py --course {sources.course.name}")
    return [(str(row.get("topic", "")), _answer(row, path)) for row in rows if row.get("kind", "qa") == "qa"]
