"""The chat template of a GGUF: messages to token ids.

The template is the model's own Jinja source, rendered in a sandbox. What a student types is text and nothing else:
where a message contains something that the tokenizer would read as a template token (``<|im_end|>``), that message
is tokenized apart, with special tokens switched off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from iris.engine import Message
from iris.errors import ModelFileError, RequestError

Tokenize = Callable[[str, bool], list[int]]
"""``(text, parse special tokens) -> token ids``."""

DATE = "26 Jul 2024"
"""The date for templates that print today's (Llama 3.2): pinned, as in training, and so that prefixes stay cached."""

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
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = lambda value, **kw: json.dumps(
            value, ensure_ascii=False, indent=kw.get("indent")
        )
        self._tokenize = tokenize
        self._names = {"bos_token": bos, "eos_token": eos, "date_string": DATE}
        self._bos_token = bos_token
        try:
            self._template = environment.from_string(source)
            self._system_role = True
            probe = [Message("system", "s"), Message("user", "u")]
            try:
                if "s" not in self._render(probe).replace("user", "").replace("assistant", ""):
                    self._system_role = False
            except TemplateError:
                self._system_role = False
            self._render([Message("user", "u")])
        except (TemplateError, TypeError, ValueError) as error:
            raise ModelFileError(f"The model's chat template cannot be used: {error}") from error

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
        if _MARKS.search(text):
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
        # Some tokenizers put a space before the first word of a text. A newline in front, whose tokens are then cut
        # off, keeps the word as it is in the middle of a conversation.
        newline = self._tokenize("\n", False)
        ids = self._tokenize("\n" + text, False)
        return ids[len(newline) :] if ids[: len(newline)] == newline else self._tokenize(text, False)

    def _render(self, messages: Sequence[Message]) -> str:
        rows = [{"role": m.role, "content": m.content} for m in messages]
        return self._template.render(messages=rows, add_generation_prompt=True, **self._names)


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


def _refuse(message: Any) -> None:
    raise TemplateError(str(message))
