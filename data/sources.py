"""One schema for every kind of training text, read row by row from a file, a folder or the Hugging Face Hub.

    sharegpt    {"conversations": [{"from": "human" | "gpt" | "system", "value"}]}            FineTome
    messages    {"conversations" or "messages": [{"role", "content"}]}                       the original exam set
    dolly       {"instruction", "context", "response"}                                       Dolly
    alpaca      {"instruction", "input", "output"}                                           Alpaca
    qa          {"question", "answer", "category"}                                           philosophy
    pairs       {"prompt": text or messages, "completion": text or messages}                 what data/build.py writes
    text        {"text"}, or a line of a .txt or .raw file                                   WikiText

Without a format given each row is recognized by its fields. A malformed row is reported with file and line, counted
and left out; more than 1 % of them stop the run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data import files
from data.files import DataError
from iris.engine import Message, Role

MALFORMED_LIMIT = 0.01  # share of malformed rows above which a run stops
_SURE = 1000  # malformed rows after which the run stops at once, without reading the rest
_SHOWN = 20  # malformed rows of which the report keeps the text


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation whose last turn is to be learned.

    ``prompt`` begins with at most one system message and ends with the user's; it is empty for plain text.
    ``file`` and ``line`` (from 1) say where the row came from.
    """

    prompt: tuple[Message, ...]
    completion: str
    source: str = ""
    topic: str = ""
    file: str = ""
    line: int = 0

    @property
    def question(self) -> str:
        """All that the user says, the turns separated by blank lines."""
        return "\n\n".join(message.content for message in self.prompt if message.role == "user")

    @property
    def id(self) -> str:
        """The source and a hash of the texts: the same row has the same id wherever it stands."""
        parts = [f"{message.role}\0{message.content}" for message in self.prompt] + [self.completion]
        digest = hashlib.blake2b("\0\0".join(parts).encode(), digest_size=8).hexdigest()
        return f"{self.source or 'row'}-{digest}"

    def replaced(self, prompt: tuple[Message, ...], completion: str) -> Row:
        """The same row with other texts."""
        return replace(self, prompt=prompt, completion=completion)


@dataclass(frozen=True, slots=True)
class Source:
    """A data set by name: where the Hub has it, the format of its rows, its licence."""

    hub: str
    format: str
    licence: str
    config: str | None = None


SOURCES: dict[str, Source] = {
    "finetome": Source("mlabonne/FineTome-100k", "sharegpt", "none stated; derived from arcee-ai/The-Tome"),
    "dolly": Source("databricks/databricks-dolly-15k", "", "CC BY-SA 3.0"),
    "alpaca": Source("tatsu-lab/alpaca", "alpaca", "CC BY-NC 4.0"),
    "philosophy": Source("sayhan/strix-philosophy-qa", "qa", "Apache-2.0"),
    "wikitext": Source("Salesforce/wikitext", "text", "CC BY-SA 3.0 and GFDL", "wikitext-2-raw-v1"),
    "exam": Source("", "messages", "MIT"),
}

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(?::[\w.-]+)?")
_ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "system": "system",
}  # fmt: skip


@dataclass
class Report:
    """What reading came across; complete once the rows have been read."""

    rows: int = 0
    malformed: int = 0
    problems: list[str] = field(default_factory=list)
    """The first malformed rows, as ``file:line: reason``."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    """What was read: path, size and sha256 of each file, or name and revision on the Hub."""

    def bad(self, file: str, line: int, reason: str) -> None:
        """Count a malformed row.

        Raises:
            DataError: there are a thousand by now, and they are more than 1 % of the rows so far.
        """
        self.malformed += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(f"{file}:{line}: {reason}")
        if self.malformed >= _SURE:
            self.check()

    def check(self) -> None:
        """Raise DataError if more than 1 % of the rows so far are malformed."""
        seen = self.rows + self.malformed
        if self.malformed > MALFORMED_LIMIT * seen:
            more = f" Then: {'; '.join(self.problems[1:3])}." if self.malformed > 1 else ""
            raise DataError(
                f"{self.problems[0]} ({self.malformed:,} of {seen:,} rows are malformed, "
                f"{self.malformed / seen:.1%}; at most {MALFORMED_LIMIT:.0%} are left out.{more})"
            )


def read(target: str | Path, *, format: str = "", source: str = "", report: Report | None = None) -> Iterator[Row]:
    """The rows of a file (.jsonl, .json, .parquet, .txt, .raw), of all such files in a folder, or of a Hub data set.

    ``target`` is a Hub id (``owner/name``, ``owner/name:config``) only if no such path exists. Nothing is kept in
    memory. ``report`` is filled while reading.

    Raises:
        DataError: the target cannot be read, is empty, or more than 1 % of its rows are malformed.
    """
    report = Report() if report is None else report
    convert = _converter(format)
    path = Path(target)
    if not path.exists() and _HUB_ID.fullmatch(str(target)) and path.suffix not in files.READERS:
        records = files.hub_records(str(target), report.inputs)
    else:
        records = files.records(path, report.inputs)
    for record in records:
        if isinstance(record.value, files.Broken):
            report.bad(record.file, record.line, record.value.reason)
            continue
        try:
            prompt, completion, topic = convert(record.value)
        except ValueError as error:
            report.bad(record.file, record.line, str(error))
            continue
        report.rows += 1
        yield Row(prompt, completion, source, topic, record.file, record.line)
    if not report.rows and not report.malformed:
        raise DataError(f"{target}:1: there are no rows in it.")
    report.check()


_Converted = tuple[tuple[Message, ...], str, str]


def _converter(format: str) -> Callable[[object], _Converted]:
    if format and format not in FORMATS:
        raise DataError(f"There is no format {format!r}; known are {', '.join(FORMATS)}.")

    def convert(value: object) -> _Converted:
        if not isinstance(value, dict):
            kind = {list: "a list", str: "a text", type(None): "null"}.get(type(value), f"a {type(value).__name__}")
            raise ValueError(f"a row must be an object {{…}}, not {kind}")
        return FORMATS[format or recognize(value)](value)

    return convert


def recognize(value: Mapping[str, object]) -> str:
    """The format of a row, by its fields.

    Raises:
        ValueError: no format has these fields.
    """
    if "conversations" in value or "messages" in value:
        return "messages"
    if "instruction" in value:
        return "dolly" if "response" in value else "alpaca"
    for format, fields in (("pairs", ("prompt", "completion")), ("qa", ("question", "answer")), ("text", ("text",))):
        if all(name in value for name in fields):
            return format
    shown = ", ".join(list(value)[:6]) or "none"
    raise ValueError(f"the fields ({shown}) are of no known format; known are {', '.join(FORMATS)}")


def _conversation(value: Mapping[str, Any]) -> _Converted:
    turns = value.get("conversations", value.get("messages"))
    return *_split(turns), _text(value, "topic", optional=True)


def _split(turns: object) -> tuple[tuple[Message, ...], str]:
    """A list of turns as prompt and completion; turns after the last answer have nothing to learn and are left out."""
    if not isinstance(turns, list | tuple) or not turns:
        raise ValueError("a conversation must be a list of turns")
    messages: list[Message] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise ValueError(f"turn {number} must be an object, not a {type(turn).__name__}")
        name = turn.get("from", turn.get("role"))
        role = _ROLES.get(name) if isinstance(name, str) else None
        if role is None:
            raise ValueError(f"turn {number} is from {name!r}; known are {', '.join(_ROLES)}")
        content = turn.get("value", turn.get("content"))
        if not isinstance(content, str):
            raise ValueError(f"turn {number} must have a text, not {content!r:.40}")
        if role == "system" and number > 1:
            raise ValueError(f"turn {number} is from the system, but only the first may be")
        if role != "system" and role == (messages[-1].role if messages else "assistant"):
            before = (
                "the assistant begins" if not messages else f"turns {number - 1} and {number} are both from {name!r}"
            )
            raise ValueError(f"questions and answers must alternate; {before}")
        if role == "assistant" and messages[-1].role == "system":
            raise ValueError("questions and answers must alternate; the assistant begins")
        messages.append(Message(role, _checked(content)))
    while messages and messages[-1].role != "assistant":
        messages.pop()
    if not messages:
        raise ValueError("the conversation has no answer")
    return tuple(messages[:-1]), messages[-1].content


def _instruction(value: Mapping[str, Any]) -> _Converted:
    context = _text(value, "context", "input", optional=True)
    question = _text(value, "instruction") + (f"\n\n{context}" if context.strip() else "")
    topic = _text(value, "category", optional=True)
    return (Message("user", question),), _text(value, "response", "output"), topic


def _question(value: Mapping[str, Any]) -> _Converted:
    topic = _text(value, "category", "topic", optional=True)
    return (Message("user", _text(value, "question")),), _text(value, "answer"), topic


def _pair(value: Mapping[str, Any]) -> _Converted:
    prompt, completion, topic = value.get("prompt"), value.get("completion"), _text(value, "topic", optional=True)
    if isinstance(prompt, str) and isinstance(completion, str):
        return (Message("user", _checked(prompt)),), _checked(completion), topic
    if isinstance(prompt, list) and isinstance(completion, list):
        return *_split([*prompt, *completion]), topic
    raise ValueError("prompt and completion must both be texts, or both lists of messages")


def _plain(value: Mapping[str, Any]) -> _Converted:
    return (), _text(value, "text"), _text(value, "topic", optional=True)


FORMATS: dict[str, Callable[[Mapping[str, Any]], _Converted]] = {
    "sharegpt": _conversation, "messages": _conversation, "dolly": _instruction, "alpaca": _instruction,
    "qa": _question, "pairs": _pair, "text": _plain,
}  # fmt: skip


def _text(value: Mapping[str, Any], *names: str, optional: bool = False) -> str:
    """The first of the named fields that is there, as text."""
    for name in names:
        if (found := value.get(name)) is not None:
            if not isinstance(found, str):
                raise ValueError(f"{name} must be a text, not {found!r:.40}")
            return _checked(found)
    if optional:
        return ""
    raise ValueError(f"{' or '.join(names)} is missing")


def _checked(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half a character (\\u{ord(text[error.start]):04x}) in the text") from None
    return text
