"""The chat template of a GGUF: messages to token ids.

The template is the model's own Jinja source, rendered in a sandbox. What a student types is text and nothing else:
where a message contains something that the tokenizer would read as a template token (``<|im_end|>``), that message
is tokenized apart, with special tokens switched off.
"""

from __future__ import annotations

import datetime
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from iris.engine import Message
from iris.errors import ModelFileError, RequestError

Tokenize = Callable[[str, bool], list[int]]
"""``(text, parse special tokens) -> token ids``."""

DATE = datetime.datetime(2024, 7, 26)
"""The date for templates that print today's (Llama 3.2): pinned, as in training, and so that prefixes stay cached."""

_PROBE = "iris-probe"  # a text that no template contains
_TOKEN_LIKE = re.compile(r"<[^<>\s]{1,40}>|\[[^\[\]\s]{1,40}\]")

# Private-use characters that no tokenizer gives a meaning to stand for a message while its surroundings are rendered.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")


class ChatTemplate:
    """Renders conversations.

    Args:
        source: the Jinja template.
        bos, eos: the spelling of those tokens, which some templates print.
        tokenize: the model's tokenizer, without BOS.
        bos_token: put in front when the model asks for a BOS and the template does not print one; None for never.

    Raises:
        ModelFileError: the template does not compile or cannot render a plain question.
    """

    def __init__(self, source: str, *, bos: str, eos: str, tokenize: Tokenize, bos_token: int | None = None) -> None:
        self._tokenize = tokenize
        self._bos_token = bos_token
        # The names that transformers gives a template; a tool or document is never passed.
        self._names: dict[str, Any] = {"bos_token": bos, "eos_token": eos, "tools": None, "documents": None}
        self._names["date_string"] = DATE.strftime("%d %b %Y")
        try:
            self._template = _environment().from_string(source)
            if _PROBE not in self._render([Message("user", _PROBE)]):
                raise TemplateError("it leaves out what the user says")
            rendered = self._render([Message("user", "u"), Message("assistant", "a"), Message("user", "u")])
        except Exception as error:  # compiling a broken template can fail in any way, too
            raise ModelFileError(f"The model's chat template cannot be used: {error}") from error
        try:
            self._system_role = _PROBE in self._render([Message("system", _PROBE), Message("user", "u")])
        except TemplateError:
            self._system_role = False
        # Tokens that some vocabularies declare as user-defined: llama.cpp reads them in any text.
        spelled = {text for text in _TOKEN_LIKE.findall(rendered) if len(tokenize(text, False)) == 1}
        self._always_read = re.compile("|".join(map(re.escape, sorted(spelled)))) if spelled else None

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation, up to where the assistant's next answer begins.

        Raises:
            RequestError: the template refuses this order of messages.
        """
        turns = _merged([Message(m.role, m.content.strip()) for m in messages], fold_system=not self._system_role)
        try:
            unsafe = {i for i, turn in enumerate(turns) if self._imitates(turn.content)}
            if not unsafe:
                ids = self._tokenize(self._render(turns), True)
            else:
                ids = self._encode_apart(turns, unsafe)
        except SecurityError as error:
            raise ModelFileError(f"The model's chat template tries something unsafe: {error}") from error
        except TemplateError as error:
            raise RequestError(f"The model's chat template refuses this conversation: {error}") from error
        if self._bos_token is not None and ids[:1] != [self._bos_token]:
            ids.insert(0, self._bos_token)
        return ids

    def _imitates(self, text: str) -> bool:
        if _MARKS.search(text) or (self._always_read and self._always_read.search(text)):
            return True
        return self._tokenize(text, True) != self._tokenize(text, False)

    def _encode_apart(self, turns: Sequence[Message], unsafe: set[int]) -> list[int]:
        marked = [Message(t.role, _MARK.format(i)) if i in unsafe else t for i, t in enumerate(turns)]
        rendered = self._render(marked)
        ids: list[int] = []
        position = 0
        for match in _MARKS.finditer(rendered):
            ids += self._tokenize(rendered[position : match.start()], True)
            ids += self._plain(turns[int(match[1])].content)
            position = match.end()
        return ids + self._tokenize(rendered[position:], True)

    def _plain(self, text: str) -> list[int]:
        """Tokens of ``text`` as what a student typed. What is always read as a token is cut in two."""
        cuts = [match.start() + 1 for match in self._always_read.finditer(text)] if self._always_read else []
        parts = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
        return [token for part in parts for token in self._plain_part(part)]

    def _plain_part(self, text: str) -> list[int]:
        # Some tokenizers put a space before the first word of a text. A newline in front, whose tokens are then cut
        # off, keeps the word as it is in the middle of a conversation.
        newline = self._tokenize("\n", False)
        ids = self._tokenize("\n" + text, False)
        return ids[len(newline) :] if ids[: len(newline)] == newline else self._tokenize(text, False)

    def _render(self, messages: Sequence[Message]) -> str:
        rows = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self._template.render(messages=rows, add_generation_prompt=True, **self._names)
        except TemplateError:
            raise
        except Exception as error:  # a template is a program of strangers: it can fail in any way
            raise TemplateError(f"{type(error).__name__}: {error}") from error


def _merged(messages: Sequence[Message], *, fold_system: bool) -> list[Message]:
    """Neighbouring turns of one role joined, since many templates demand alternation.

    With ``fold_system`` (the template has no system role) the system prompt opens the first user turn.
    """
    turns: list[Message] = []
    for message in messages:
        role = "user" if fold_system and message.role == "system" else message.role
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].content}\n\n{message.content}")
        else:
            turns.append(Message(role, message.content))
    return turns


def _environment() -> ImmutableSandboxedEnvironment:
    """What transformers renders chat templates in, with a pinned date."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = DATE.strftime
    environment.filters["tojson"] = _to_json
    return environment


class _Generation(Extension):
    """``{% generation %} … {% endgeneration %}`` marks the answer in templates made for training: here, nothing."""

    tags = {"generation"}  # noqa: RUF012  (declared so in the base class)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which is wrong in a prompt.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: Any) -> None:
    raise TemplateError(str(message))
