"""Messages in, tokens out: the protocol every engine speaks, and the values that cross it.

``batch.LocalEngine`` runs a GGUF in this process, ``remote.RemoteEngine`` asks an OpenAI-compatible server.
Importing this package loads neither; ``pool.EnginePool`` opens the right one on first use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from iris.errors import RequestError

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``content`` is always text: tokens of the chat template inside it stay text."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; the names are llama.cpp's.

    ``repeat_penalty``, ``frequency_penalty`` and ``presence_penalty`` look at the last ``penalty_window`` tokens of
    the answer. ``top_k`` 0 and ``min_p`` 0 switch those filters off; ``temperature`` 0 takes the likeliest token.
    ``max_tokens`` 0 only reads the prompt (it warms the prefix cache). ``seed`` None draws a fresh one.
    """

    temperature: float = 0.3
    top_p: float = 0.9
    top_k: int = 40
    min_p: float = 0.0
    repeat_penalty: float = 1.15
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_window: int = 64
    max_tokens: int = 512
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in (
            ("temperature", 0.0, 10.0),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("repeat_penalty", 0.01, 10.0),
            ("frequency_penalty", -10.0, 10.0),
            ("presence_penalty", -10.0, 10.0),
            ("top_k", 0, 1 << 30),
            ("penalty_window", 0, 1 << 16),
            ("max_tokens", 0, 1 << 20),
            ("seed", 0, (1 << 32) - 2),
        ):
            value = getattr(self, name)
            if value is None and name == "seed":
                continue
            if not math.isfinite(value) or not low <= value <= high:
                raise RequestError(f"{name} must be between {low} and {high}, not {value}.")
        if any(not text for text in self.stop):
            raise RequestError("A stop string must not be empty.")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A conversation to continue.

    ``json_schema`` makes the answer a JSON document of that schema, or an error. ``logprobs`` n > 0 attaches to each
    chunk the log-probability of its tokens and of the n likeliest alternatives, before any sampling filter.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    json_schema: Mapping[str, Any] | None = None
    logprobs: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probability of a sampled token, and ``(token id, logprob)`` of the likeliest ones, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one answer cost. Times in seconds; ``first_token_s`` counts from the request, waiting in line included.

    ``cached_tokens`` of the ``prompt_tokens`` were not read again. ``tokens_per_second`` is the pace after the first
    token. ``dropped_messages`` is how many of the oldest messages did not fit the context.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queued_s: float
    first_token_s: float | None
    total_s: float
    tokens_per_second: float
    finish_reason: FinishReason
    dropped_messages: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a stream.

    Any of: new ``text`` (whole characters only), the ``place`` in the waiting line (1 is next), a ``notice`` for the
    reader, ``logprobs`` of the tokens sampled since the last chunk. The last chunk of a finished answer has ``usage``.
    """

    text: str = ""
    place: int | None = None
    notice: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None


class TokenStream(Protocol):
    """An answer being written. ``close`` (or leaving the ``with`` block) cancels what is not yet written."""

    def __iter__(self) -> Iterator[Chunk]: ...
    def __next__(self) -> Chunk: ...
    def close(self) -> None: ...
    def __enter__(self) -> TokenStream: ...
    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A snapshot for the status line: answers being written, students waiting, slots, cached tokens and their limit.

    ``closed``: it was shut down, or could not be restarted after an error, and answers nothing any more.
    """

    active: int
    waiting: int
    slots: int
    cached_tokens: int
    cache_capacity: int
    restarts: int = 0
    closed: bool = False


@runtime_checkable
class Engine(Protocol):
    """Anything that turns messages into a stream of chunks. Every method may be called from any thread."""

    @property
    def model_id(self) -> str: ...

    @property
    def context_tokens(self) -> int:
        """How many tokens one conversation may hold, answer included."""
        ...

    def stream(self, request: GenerationRequest) -> TokenStream:
        """Queue the request and return its stream at once.

        Raises:
            RequestError: the request is wrong; PromptTooLong and SchemaError are kinds of it.
            QueueFull: too many are waiting.
            EngineClosed: the engine was shut down.
        While iterating, EngineFailure can be raised too.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` by the model's own tokenizer, without template or special tokens."""
        ...

    def warm(self, messages: Sequence[Message]) -> None:
        """Read the messages into the prefix cache in the background, so that the first student need not wait."""
        ...

    def status(self) -> EngineStatus: ...

    def close(self) -> None: ...


def complete(engine: Engine, request: GenerationRequest) -> tuple[str, Usage]:
    """The whole answer at once, with its usage. Raises what ``Engine.stream`` raises."""
    parts: list[str] = []
    usage: Usage | None = None
    with engine.stream(request) as chunks:
        for chunk in chunks:
            parts.append(chunk.text)
            usage = chunk.usage or usage
    assert usage is not None, "a stream that ends without an error carries its usage"
    return "".join(parts), usage
