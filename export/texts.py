"""Texts to compare models on: rows of the course's splits, and strings that tokenizers stumble over."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import SourceError
from iris.engine import Message

DEFAULT_COURSE = "id2223"

_STRINGS: tuple[str, ...] = (
    *("", " ", "  ", "\n", "\n\n", "\t", " \n \t ", "a", " a", "a ", "  a  b   c    d", "a\r\nb"),
    *("end.\n\n\nNext", "Hello, world!", "it's we'll they've I'd O'Neill"),
    *("ALLCAPS MixedCase snake_case kebab-case", "ﬁrst ﬂoor", "1", "12", "123", "1234567890", "3.14159"),
    *("1,000,000", "1e-9", "0x1F", " 7", "  7", "\n 7", "v1.2.3", "2024-07-26", "x² + y³ = z⁴", "½ ¾ Ⅷ ① ٣"),
    *("∑_{i=1}^{n} x_i", "$\\frac{\\partial L}{\\partial w}$", "σ(z) = 1/(1+e^{-z})", "∇·E = ρ/ε₀"),
    *("def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) { a[i] += b[i]; }"),
    *("if x:\n\tpass\n\n\n\nelse:\n\tpass", "SELECT * FROM t WHERE a <> 'b';"),
    *("{\"key\": [1, 2, {\"a\": null}]}", "<div class=\"x\">&nbsp;</div>", "#include <stdio.h>"),
    *("lambda x: x if x else None", "λ x → x", "a->b::c<d>&&e||f", "```python\nprint('hi')\n```"),
    *("@decorator\nclass A(B): ...", "naïve café résumé", "Ångström ÅÄÖ åäö", "Straße groß", "Пример текста"),
    *("Ελληνικά κείμενα", "日本語のテキスト", "中文文本，标点。", "한국어 문장", "نص عربي", "עברית"),
    *("हिन्दी पाठ", "ไทยไม่มีช่องว่าง", "e\u0301 vs é", "a\u0300\u0316b", "\u200bzero\u200dwidth", "😀"),
    *("👩\u200d👩\u200d👧\u200d👦 family", "🇸🇪 flag", "👍🏽", "\u00a0non\u00a0breaking"),
    *("“quotes” – dash — em…", "•\tbullet", "\ufeffmark", "https://example.org/a?b=c&d=%20#e"),
    *("user@example.org", "/usr/local/bin", "C:\\Users\\x", "--flag=value", "100%", "$5.00"),
    *("aaaaaaaaaaaaaaaaaaaa", "ababababab", "...........", "-----", "!?!?!?", "((((()))))", "[[a]](b)"),
    *("\\n is not a newline",),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A question as it is asked, and the answer."""

    prompt: tuple[Message, ...]
    answer: str


def folder_of(run: Mapping[str, Any], given: Path | None) -> Path:
    """The folder of splits for a run: ``given``, that of its last stage, or the built course.

    Raises:
        SourceError: it holds no splits.
    """
    names = [str(about.get("name", "")) for about in dict(run.get("data", {})).values()]
    folder = given or Path("outputs/data") / (names[-1] if names else DEFAULT_COURSE)
    if not (folder / "test.jsonl").is_file():
        raise SourceError(
            f"{folder} holds no test.jsonl to compare the models on. Build it (python data/build.py --course "
            f"{DEFAULT_COURSE}), or name a folder of splits with --data."
        )
    return folder


def rows(folder: Path, split: str) -> list[Row]:
    """The rows of a split.

    Raises:
        SourceError: the file is missing or broken.
    """
    path = folder / f"{split}.jsonl"
    found = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                turns = [Message(turn["role"], str(turn["content"]).strip()) for turn in row["prompt"]]
                found.append(Row(tuple(turns), str(row["completion"][0]["content"]).strip()))
    except FileNotFoundError as error:
        raise SourceError(f"There is no {path}. Build the data first, or name another folder with --data.") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SourceError(f"{path}: line {len(found) + 1} is no row of prompt and completion: {error}") from error
    if not found:
        raise SourceError(f"{path} is empty.")
    return found


def spread(found: Sequence[Row], count: int) -> list[Row]:
    """At most ``count`` rows, evenly from all over."""
    step = max(1, len(found) // count)
    return list(found[::step][:count])


def strings(special: Iterable[str], held_out: Iterable[str], count: int = 200) -> list[str]:
    """``count`` strings: code, scripts, white space, special tokens as text, pieces of the course, and mixtures."""
    known = list(_STRINGS)
    for token in sorted(special):
        known += [token, f"a{token}b", f"a {token} b", f"{token}\n{token}"]
    known += [text[:200] for text in itertools.islice(held_out, 20)]
    chance = random.Random(2223)
    chosen = (
        known if len(known) <= count else [*_STRINGS, *chance.sample(known[len(_STRINGS) :], count - len(_STRINGS))]
    )
    while len(chosen) < count:
        chosen.append("".join(chance.choice(known)[: chance.randint(1, 12)] for _ in range(chance.randint(2, 6))))
    return chosen


def chats(found: Sequence[Row], count: int = 20) -> list[list[Message]]:
    """Conversations to put through the template: of one turn, of several, with and without a system prompt."""
    chosen = spread(found, count)
    result: list[list[Message]] = []
    for number, row in enumerate(chosen):
        turns = [turn for turn in row.prompt if turn.role != "system"]
        if number % 2:
            turns = [Message("system", "You are a tutor. Answer briefly."), *turns]
        if number % 3 == 0:
            turns = [*turns, Message("assistant", row.answer), Message("user", "Why?")]
        result.append(turns)
    return result
