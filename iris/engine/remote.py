"""RemoteEngine: the same protocol over an OpenAI-compatible server (vLLM, llama-server, …).

For when a class outgrows one machine. Queueing, batching and prefix caching are the server's; what it does not tell
(cached tokens, its waiting line) is reported as 0.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

from iris.engine import Chunk, EngineStatus, FinishReason, GenerationRequest, Message, Sampling, Usage, schema
from iris.errors import EngineClosed, EngineFailure, RequestError, SchemaError

CHARACTERS_PER_TOKEN = 3.5
"""For ``count_tokens``: the protocol has no tokenizer call. Typical of English text in current vocabularies."""


class RemoteEngine:
    """See ``iris.engine.Engine``.

    Args:
        url: the server's base address, with or without ``/v1``.
        key: its API key, if it wants one.
        model: the name the server knows the model by; when it does not list that name, its first model is used.
        context: tokens of one conversation, as far as Iris is concerned; the server has the last word.
        timeout_s: for connecting, and for the silence between two pieces of an answer.
    """

    def __init__(
        self, url: str, *, key: str = "", model: str = "", context: int = 4096, timeout_s: float = 120.0
    ) -> None:
        import openai

        base = url.rstrip("/")
        self._url = base if base.endswith("/v1") else f"{base}/v1"
        self._client = openai.OpenAI(base_url=self._url, api_key=key or "none", timeout=timeout_s, max_retries=2)
        self._context = context
        self._active = 0
        self._lock = threading.Lock()
        self._closed = False
        self._model = self._served(model)

    def _served(self, wanted: str) -> str:
        import openai

        try:
            names = [row.id for row in self._client.models.list().data]
        except openai.OpenAIError as error:
            raise _translated(error, self._url) from error
        if not names:
            raise EngineFailure(f"The engine at {self._url} serves no model.")
        return wanted if wanted in names else names[0]

    @property
    def model_id(self) -> str:
        return self._model

    @property
    def context_tokens(self) -> int:
        return self._context

    def stream(self, request: GenerationRequest) -> RemoteStream:
        if self._closed:
            raise EngineClosed("This engine was closed. Ask again.")
        if not request.messages or not request.messages[-1].content.strip():
            raise RequestError("There is no question. Write one and send it again.")
        if request.json_schema is not None:
            schema.check(request.json_schema)
        return RemoteStream(self._chunks(request))

    def count_tokens(self, text: str) -> int:
        return math.ceil(len(text) / CHARACTERS_PER_TOKEN)

    def warm(self, messages: Sequence[Message]) -> None:
        """Nothing: the server's cache is its own."""

    def status(self) -> EngineStatus:
        return EngineStatus(active=self._active, waiting=0, slots=0, cached_tokens=0, cache_capacity=0)

    def close(self) -> None:
        self._closed = True
        self._client.close()

    def _chunks(self, request: GenerationRequest) -> Iterator[Chunk]:
        import openai

        started = time.monotonic()
        first: float | None = None
        pieces = 0
        reason: FinishReason = "stop"
        counted: Any = None
        with self._lock:
            self._active += 1
        try:
            response = self._client.chat.completions.create(**_arguments(self._model, request))
            try:
                for event in response:
                    counted = event.usage or counted
                    for choice in event.choices[:1]:
                        text = choice.delta.content or ""
                        if choice.finish_reason == "length":
                            reason = "length"
                        if text:
                            first = first or time.monotonic()
                            pieces += 1
                            yield Chunk(text=text)
            finally:
                response.close()
        except openai.OpenAIError as error:
            raise _translated(error, self._url) from error
        finally:
            with self._lock:
                self._active -= 1
        if request.json_schema is not None and reason == "length":
            raise SchemaError("The answer was cut before its JSON was complete. Allow more tokens.")
        now = time.monotonic()
        generated = counted.completion_tokens if counted else pieces
        details = getattr(counted, "prompt_tokens_details", None)
        yield Chunk(
            usage=Usage(
                prompt_tokens=counted.prompt_tokens if counted else 0,
                cached_tokens=(getattr(details, "cached_tokens", 0) or 0) if details else 0,
                completion_tokens=generated,
                queued_s=0.0,
                first_token_s=None if first is None else first - started,
                total_s=now - started,
                tokens_per_second=(generated - 1) / (now - first) if first and generated > 1 and now > first else 0.0,
                finish_reason=reason,
            )
        )


class RemoteStream:
    """See ``iris.engine.TokenStream``. Closing it closes the connection, which makes the server stop."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks

    def __iter__(self) -> RemoteStream:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        cast(Any, self._chunks).close()

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _arguments(model: str, request: GenerationRequest) -> dict[str, Any]:
    s: Sampling = request.sampling
    arguments: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": s.temperature,
        "top_p": s.top_p,
        "max_tokens": s.max_tokens,
        "frequency_penalty": s.frequency_penalty,
        "presence_penalty": s.presence_penalty,
        # vLLM, llama-server and llama-cpp-python read these beside OpenAI's own names: two spell the penalty one
        # way, one the other.
        "extra_body": {
            "top_k": s.top_k or -1,
            "min_p": s.min_p,
            "repetition_penalty": s.repeat_penalty,
            "repeat_penalty": s.repeat_penalty,
        },
    }
    if s.seed is not None:
        arguments["seed"] = s.seed
    if s.stop:
        arguments["stop"] = list(s.stop)
    if request.json_schema is not None:
        arguments["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(request.json_schema), "strict": True},
        }
    return arguments


def _translated(error: Exception, url: str) -> Exception:
    import openai

    if isinstance(error, openai.APITimeoutError):
        return EngineFailure(f"The engine at {url} did not answer in time. Try again.")
    if isinstance(error, openai.APIConnectionError):
        return EngineFailure(f"The engine at {url} cannot be reached. Check IRIS_ENGINE_URL and that the server runs.")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return EngineFailure(f"The engine at {url} refuses the key. Set IRIS_ENGINE_KEY.")
    if isinstance(error, openai.BadRequestError):
        return RequestError(f"The engine refuses this request: {error.message}")
    return EngineFailure(f"The engine at {url} failed: {error}")
