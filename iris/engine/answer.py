"""One answer being written: what the worker keeps about it, and the stream its reader holds."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING

import numpy as np

from iris.engine import Chunk, FinishReason, GenerationRequest, TokenLogprob, Usage
from iris.engine.cache import Ints, Sequence
from iris.engine.text import TextStream
from iris.errors import SchemaError

if TYPE_CHECKING:
    from iris.engine.sampler import Sampler

HEARTBEAT_S = 0.25
"""A reader gets at least an empty chunk this often, so that it can notice that its own student has left."""


class Answer:
    """The state of one request. Only the worker changes it, save ``cancelled``, which any thread may set."""

    def __init__(self, request: GenerationRequest, prompt: SequenceOf[int], *, max_tokens: int, dropped: int) -> None:
        self.request = request
        self.prompt_tokens = len(prompt)
        self.tokens: Ints = np.array(prompt, np.int32)  # prompt, and what was generated before a restart
        self.max_tokens = max_tokens
        self.dropped = dropped
        self.cancelled = False
        self.attempts = 0
        self.sampler: Sampler | None = None
        self.sequence: Sequence | None = None
        self.cached = 0
        self.reading_own = False
        self.next_token: int | None = None
        self.generated: list[int] = []
        self._text = TextStream(request.sampling.stop)
        self._chunks: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()
        self._place: int | None = None
        self._created = time.monotonic()
        self._admitted: float | None = None
        self._first: float | None = None

    @property
    def reserved(self) -> int:
        """Cells this answer may still need beyond those its sequence holds."""
        held = self.sequence.length if self.sequence else 0
        return self.prompt_tokens + self.max_tokens - held

    @property
    def reading(self) -> bool:
        """Whether the prompt is still being read."""
        return self.next_token is None

    def admitted(self, sequence: Sequence, cached: int) -> None:
        self.sequence = sequence
        self.reading_own = False
        if self._admitted is None:
            self._admitted = time.monotonic()
            self.cached = cached

    def borrowed(self, count: int) -> None:
        """``count`` more tokens of the prompt were taken from another sequence instead of read."""
        if not self.attempts:  # after a restart everything is read or borrowed a second time
            self.cached += count

    def tell_place(self, place: int) -> None:
        if place != self._place:
            self._place = place
            self._chunks.put(Chunk(place=place))

    def tell(self, notice: str) -> None:
        self._chunks.put(Chunk(notice=notice))

    def accept(self, token: int, data: bytes, *, ends: bool, logprob: TokenLogprob | None) -> FinishReason | None:
        """Take the sampled token; returns why the answer is over, or None when it goes on."""
        if self._first is None:
            self._first = time.monotonic()
        logprobs = (logprob,) if logprob else ()
        if ends:
            return "stop"
        self.generated.append(token)
        text = self._text.push(data)
        if text or logprobs:
            self._chunks.put(Chunk(text=text, logprobs=logprobs))
        if self._text.stopped:
            return "stop"
        if len(self.generated) >= self.max_tokens:
            return "length"
        self.next_token = token
        return None

    def finish(self, reason: FinishReason) -> None:
        """Close the stream with its usage. A JSON answer that was cut is an error, since it would not parse."""
        if self.request.json_schema is not None and reason == "length":
            return self.fail(
                SchemaError(f"The answer was cut at {self.max_tokens} tokens before its JSON was complete. Allow more.")
            )
        if self.request.json_schema is not None and self._text.stopped:
            return self.fail(SchemaError("A stop string cut the answer before its JSON was complete. Leave it out."))
        now = time.monotonic()
        pace = 0.0
        if self._first is not None and len(self.generated) > 1 and now > self._first:
            pace = (len(self.generated) - 1) / (now - self._first)
        usage = Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached,
            completion_tokens=len(self.generated),
            queued_s=(self._admitted or now) - self._created,
            first_token_s=None if self._first is None else self._first - self._created,
            total_s=now - self._created,
            tokens_per_second=pace,
            finish_reason=reason,
            dropped_messages=self.dropped,
        )
        self._chunks.put(Chunk(text=self._text.finish(), usage=usage))
        self._end()

    def fail(self, error: BaseException) -> None:
        self._chunks.put(error)
        self._end()

    def _end(self) -> None:
        self._chunks.put(None)
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None

    def take(self, timeout: float) -> Chunk | BaseException | None:
        """The next thing for the reader; an empty chunk when there is none in ``timeout`` seconds."""
        try:
            return self._chunks.get(timeout=timeout)
        except queue.Empty:
            return Chunk()


class AnswerStream:
    """The reader's end of an answer; see ``iris.engine.TokenStream``."""

    def __init__(self, answer: Answer, cancel: Callable[[Answer], None]) -> None:
        self._answer = answer
        self._cancel = cancel
        self._over = False

    def __iter__(self) -> AnswerStream:
        return self

    def __next__(self) -> Chunk:
        if self._over:
            raise StopIteration
        item = self._answer.take(HEARTBEAT_S)
        if isinstance(item, BaseException):
            self._over = True
            raise item
        if item is None:
            self._over = True
            raise StopIteration
        return item

    def close(self) -> None:
        """Cancel the rest. Idempotent; also called when the stream is forgotten."""
        if not self._over:
            self._over = True
            self._cancel(self._answer)

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # interpreter shutdown
            self.close()
