"""From the rows of a data build to token ids with a mask: what a stage trains on, and what it is measured on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import manifest
from iris import prompts
from training.errors import RowsError
from training.recipes import Recipe, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OVERLONG_LIMIT = 0.005
"""The share of rows over the length limit above which a run is refused."""

_ROOT = Path("outputs/data")
_SYSTEM = {"study_chat": prompts.STUDY_CHAT_SYSTEM}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as tokens; the loss is taken on the last ``supervised`` of them, the answer with its end of turn."""

    ids: tuple[int, ...]
    supervised: int

    @property
    def labels(self) -> list[int]:
        """The ids where the loss is taken, -100 elsewhere."""
        start = len(self.ids) - self.supervised
        return [-100] * start + list(self.ids[start:])


@dataclass(frozen=True, slots=True)
class Split:
    """The usable rows of a split, and how many were left out for which reason."""

    rows: list[Encoded]
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        return sum(len(row.ids) for row in self.rows)

    @property
    def supervised(self) -> int:
        return sum(row.supervised for row in self.rows)


@dataclass(frozen=True, slots=True)
class Build:
    """A folder that data/build.py wrote."""

    folder: Path
    manifest: dict[str, Any]
    sha256: str

    @property
    def identity(self) -> dict[str, str]:
        """For run.json: what names these rows for good."""
        about = self.manifest
        return {"name": str(about["name"]), "manifest_sha256": self.sha256, "licence": str(about.get("licence", ""))}


def find(data: str) -> Build:
    """The build called ``data`` under outputs/data, or in the folder ``data``.

    Raises:
        RowsError: there is none; the message names the command that makes it.
    """
    places = [_ROOT / data, Path(data)]
    for folder in places:
        path = folder / manifest.NAME
        if path.is_file():
            content = path.read_bytes()
            about = json.loads(content)
            if about.get("format") != manifest.FORMAT:
                raise RowsError(f"{path} is of another version of data/build.py. Build the data again.")
            return Build(folder, about, hashlib.sha256(content).hexdigest())
    how = f"--course {data}" if (Path("data/courses") / data).is_dir() else f"--source {Path(data).name}"
    raise RowsError(f"There is no data in {places[0]}. Make it: python data/build.py {how}")


def read(build: Build, split: str) -> Iterator[dict[str, Any]]:
    """The rows of a split in the order of its file, checked against the manifest.

    Raises:
        RowsError: a row has no prompt or no answer; the message names file and line.
        DataError: the file is not the one of the manifest.
    """
    if split not in build.manifest["splits"]:
        raise RowsError(f"{build.folder} has no {split} split.")
    only = {**build.manifest, "splits": {split: build.manifest["splits"][split]}}
    for number, (_, row) in enumerate(manifest.split_rows(build.folder, only), 1):
        answer = row.get("completion") or [{}]
        if not row.get("prompt") or not str(answer[-1].get("content", "")).strip():
            path = build.folder / build.manifest["splits"][split]["file"]
            raise RowsError(
                f"{path}:{number}: the row has no {'answer' if row.get('prompt') else 'prompt'}. Training needs "
                "prompt and completion messages, as data/build.py writes them."
            )
        yield row


def encode(
    tokenizer: PreTrainedTokenizerBase,
    build: Build,
    split: str,
    recipe: Recipe,
    stage: Stage,
    *,
    cap: int = 0,
) -> Split:
    """The rows of a split as tokens, at most ``cap`` of them (0: all), the first by the hash of their ids.

    Raises:
        RowsError: more than 0.5 % of the rows are over the length limit, or no row is left.
    """
    rows = list(read(build, split))
    if cap and cap < len(rows):
        chosen = sorted(range(len(rows)), key=lambda number: _drawn(rows[number]["id"], recipe.seed))[:cap]
        rows = [rows[number] for number in sorted(chosen)]
    writer = ChatWriter(tokenizer, date=recipe.date, system=_SYSTEM.get(stage.system, ""))
    made: list[Encoded] = []
    left_out: Counter[str] = Counter()
    longest: list[int] = []
    for row in rows:
        encoded = writer.encode(row["prompt"], row["completion"])
        if encoded is None:
            left_out["the text of a special token"] += 1
        elif len(encoded.ids) > recipe.max_length:
            left_out["over the length limit"] += 1
            longest.append(len(encoded.ids))
        else:
            made.append(encoded)
    if len(longest) > OVERLONG_LIMIT * len(rows):
        longest.sort()
        kept = longest[max(0, len(longest) - 1 - int(OVERLONG_LIMIT * len(rows)))]
        raise RowsError(
            f"{len(longest):,} of {len(rows):,} {split} rows of {build.folder} ({len(longest) / len(rows):.1%}) are "
            f"longer than max_length ({recipe.max_length:,} tokens); at most {OVERLONG_LIMIT:.1%} are left out, and "
            f"none is cut. --set max_length={kept} keeps enough of them (the longest has {longest[-1]:,} tokens), "
            "or shorten the rows."
        )
    if not made:
        raise RowsError(f"The {split} split of {build.folder} has no row to use.")
    return Split(made, left_out)


class ChatWriter:
    """Writes messages in a model's chat template, as token ids, the same on every day.

    What is before the answer gets exactly the ids that the served model will see, so the mask cannot slip: the answer
    begins where generation would begin.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, date: str, system: str = "") -> None:
        self._tokenizer: Any = tokenizer
        self._date = date
        self._system = system
        self._special = {
            number: token.content for number, token in self._tokenizer.added_tokens_decoder.items() if token.special
        }
        self._takes_system = self._accepts_system()
        probe = self._tokenizer("a").input_ids
        bos = self._tokenizer.bos_token_id
        self._bos = [bos] if bos is not None and probe[:1] == [bos] else []

    def encode(self, prompt: Sequence[dict[str, str]], completion: Sequence[dict[str, str]]) -> Encoded | None:
        """The conversation as tokens; None where a text contains a special token's text, which would become one.

        Raises:
            RowsError: the template does not close the assistant's turn with a special token.
        """
        messages = self._messages(prompt)
        answer = [{"role": turn["role"], "content": turn["content"].strip()} for turn in completion]
        if any(text in turn["content"] for turn in [*prompt, *answer] for text in self._special.values()):
            return None
        before = self._render(messages, add_generation_prompt=True)
        whole = self._render([*messages, *answer], add_generation_prompt=False)
        if not whole.startswith(before):
            raise RowsError(
                "The chat template writes the question differently once it is answered, so that the answer cannot be "
                "told from it. Iris cannot train this model."
            )
        start = self._ids(before)
        ids = self._ids(whole)
        # Tokenized in one go, a SentencePiece vocabulary keeps its view of where words begin; where a token spans the
        # border the two texts are tokenized apart, as they are when the model answers.
        rest = ids[len(start) :] if ids[: len(start)] == start else self._plain(whole[len(before) :])
        end = next((number for number, token in enumerate(rest) if token in self._special), None)
        if end is None:
            raise RowsError("The chat template does not end the assistant's turn with a special token.")
        return Encoded(tuple(start + rest[: end + 1]), end + 1)

    def decode_supervised(self, row: Encoded) -> str:
        """The text that the loss is taken on."""
        return str(self._tokenizer.decode(row.ids[len(row.ids) - row.supervised :]))

    def _messages(self, prompt: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        messages = [{"role": turn["role"], "content": turn["content"]} for turn in prompt]
        if self._system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self._system})
        if messages[0]["role"] == "system" and not self._takes_system and len(messages) > 1:
            system, first, *others = messages
            messages = [{"role": first["role"], "content": f"{system['content']}\n\n{first['content']}"}, *others]
        return messages

    def _accepts_system(self) -> bool:
        """Whether the template writes a system message; Gemma's raises, others drop it in silence."""
        from jinja2 import TemplateError

        try:
            text = self._render(
                [{"role": "system", "content": "Only Latin."}, {"role": "user", "content": "Hi"}],
                add_generation_prompt=True,
            )
        except TemplateError:
            return False
        return "Only Latin." in text

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=self._date
            )
        )

    def _ids(self, text: str) -> list[int]:
        ids = self._plain(text)
        return ids if ids[: len(self._bos)] == self._bos else self._bos + ids

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)


def _drawn(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()


def unchecked_against(stage: Build, course: Build) -> str:
    """Why rows of ``stage`` may give away what is held out of ``course``; empty if they were checked."""
    if stage.folder == course.folder or "held_out" not in course.manifest:
        return ""
    checked = {entry["course"]: entry["held_out"] for entry in stage.manifest.get("checked_against", ())}
    if checked.get(course.manifest["name"]) == course.manifest["held_out"]:
        return ""
    return (
        f"{stage.folder} was not checked against the test rows of {course.manifest['name']}: build it again, or its "
        "test results cannot be trusted."
    )
