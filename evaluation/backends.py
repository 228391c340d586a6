"""What a model is asked for, whoever runs it: the probability of given tokens, and answers.

``llama_backend`` runs GGUFs through Iris's engine, ``torch_backend`` Hugging Face models and adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluation.targets import Target
from iris import settings
from iris.engine import Message, Sampling
from iris.engine.merged import merged_copy


@dataclass(frozen=True, slots=True)
class Request:
    """Token ids of a prompt, and of the texts that may follow it. Neither is empty."""

    prompt: tuple[int, ...]
    following: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """Natural-log probability of every token of one following text, and the token the model would have chosen there."""

    logprobs: tuple[float, ...]
    choices: tuple[int, ...]

    @property
    def logprob(self) -> float:
        return sum(self.logprobs)


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer, its tokens, and whether the model ended it itself."""

    text: str
    tokens: int
    stopped: bool


class Backend(Protocol):
    """A loaded model."""

    load_s: float

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation up to where the answer begins, as Iris sends it."""
        ...

    def plain(self, text: str) -> list[int]:
        """Token ids of a text in the middle of a conversation, special tokens read as text."""
        ...

    @property
    def first(self) -> list[int]:
        """What a text of its own begins with: the BOS, or where the model has none its end-of-text token."""
        ...

    def score(self, requests: Sequence[Request]) -> list[list[Scored]]:
        """What the model thinks of each following text, in order."""
        ...

    def generate(
        self, conversations: Sequence[Sequence[Message]], samplings: Sequence[Sampling]
    ) -> Iterator[tuple[int, Generated]]:
        """Answers as they are completed, with the number of their conversation."""
        ...

    def timed(self, prompt: Sequence[int], following: Sequence[int]) -> tuple[float, float]:
        """Seconds to read the prompt at once, and then to take the following tokens in one by one, alone."""
        ...

    def close(self) -> None: ...


def open_backend(target: Target, *, threads: int) -> Backend:
    """Load the model.

    Raises:
        ModelFileError, TargetError: it cannot be loaded, or has no chat template.
    """
    if target.backend == "gguf":
        from evaluation.llama_backend import LlamaBackend

        assert target.path is not None
        path, adapter = target.path, target.adapter
        # As Iris serves it: the adapter worked into a copy of a small model, which is several times as fast.
        if adapter and (merged := merged_copy(path, adapter, settings.home() / "cache", threads=threads)):
            path, adapter = merged, None
        return LlamaBackend(path, adapter, threads=threads)
    from evaluation.torch_backend import TorchBackend

    return TorchBackend(target, threads=threads)


def inside(tokenize: Callable[[str], list[int]], text: str) -> list[int]:
    """Ids of ``text`` as it stands in the middle of a conversation.

    Some tokenizers put a space before the first word of a text. A newline in front, whose tokens are then cut off,
    keeps the word as it is after a template.
    """
    newline = tokenize("\n")
    ids = tokenize("\n" + text)
    return ids[len(newline) :] if ids[: len(newline)] == newline else tokenize(text)
