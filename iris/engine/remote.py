"""RemoteEngine: the same protocol over an OpenAI-compatible server (vLLM, llama-server, …).

For when a class outgrows one machine. Queueing, batching and prefix caching are the server's; what it does not tell
(cached tokens, its waiting line) is reported as 0. One thread runs all connections: a stream can be closed at any
moment, also while the server has not said a word yet, and the server sees the connection close at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from iris.engine import Chunk, EngineStatus, FinishReason, GenerationRequest, Message, Sampling, Usage, schema
from iris.engine.answer import HEARTBEAT_S
from iris.errors import EngineClosed, EngineFailure, IrisError, RequestError, SchemaError

log = logging.getLogger(__name__)

T = TypeVar("T")

CHARACTERS_PER_TOKEN = 3.5
"""For ``count_tokens``: the protocol has no tokenizer call. Typical of English text in current vocabularies."""

CONNECT_S = 10.0
"""How long a server may take to accept a connection."""

_CHECK = "Check IRIS_ENGINE_URL."


class RemoteEngine:
    """See ``iris.engine.Engine``.

    Args:
        url: the server's base address, with or without ``/v1``.
        key: its API key, if it wants one.
        model: the name the server knows the model by; when it does not list that name, its first model is used.
        context: tokens of one conversation, as far as Iris is concerned; the server has the last word.
        timeout_s: for the silence before and between the pieces of an answer.

    Raises:
        EngineFailure: the server cannot be reached, refuses the key, or serves no model.
    """

    def __init__(
        self, url: str, *, key: str = "", model: str = "", context: int = 4096, timeout_s: float = 120.0
    ) -> None:
        import openai

        if not (key.isascii() and key.isprintable()):
            raise EngineFailure("The engine's key has characters that no key can have. Check IRIS_ENGINE_KEY.")
        base = url.strip().rstrip("/")
        self._url = base if base.endswith("/v1") else f"{base}/v1"
        self._context = context
        self._lock = threading.Lock()
        self._closed = False
        self._older_schemas = False
        self._running: set[Future[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"iris-remote {self._url}", daemon=True)
        self._thread.start()
        self._client = openai.AsyncOpenAI(
            base_url=self._url,
            api_key=key or "none",
            timeout=openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            max_retries=1,
        )
        try:
            self._model = self._wait_for(self._served(model))
        except BaseException:
            self.close()
            raise

    @property
    def model_id(self) -> str:
        return self._model

    @property
    def context_tokens(self) -> int:
        return self._context

    def stream(self, request: GenerationRequest) -> RemoteStream:
        if not request.messages or not request.messages[-1].content.strip():
            raise RequestError("There is no question. Write one and send it again.")
        if request.logprobs:
            raise RequestError("A remote engine gives no log-probabilities by token id. Use a local model for them.")
        if request.json_schema is not None:
            schema.check(request.json_schema)
        chunks: queue.SimpleQueue[Chunk | Exception | None] = queue.SimpleQueue()
        with self._lock:
            if self._closed:
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(self._answer(request, chunks), self._loop)
            self._running.add(future)
        future.add_done_callback(self._running.discard)
        # Only a reader that did not cancel by itself reads on, and for that one the engine was closed.
        future.add_done_callback(lambda done: chunks.put(_closed() if done.cancelled() else None))
        return RemoteStream(chunks, future)

    def count_tokens(self, text: str) -> int:
        return math.ceil(len(text) / CHARACTERS_PER_TOKEN)

    def warm(self, messages: Sequence[Message]) -> None:
        """Nothing: the server's cache is its own."""

    def status(self) -> EngineStatus:
        return EngineStatus(
            active=len(self._running), waiting=0, slots=0, cached_tokens=0, cache_capacity=0, closed=self._closed
        )

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._wait_for(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # What the thread of the connections does.

    async def _served(self, wanted: str) -> str:
        try:
            listed = await self._client.models.list()
            names = [str(row.id) for row in listed.data]
        except (AttributeError, TypeError, ValueError) as error:  # some other web page answered
            raise EngineFailure(f"What answers at {self._url} is no OpenAI-compatible engine. {_CHECK}") from error
        except Exception as error:
            raise _translated(error, self._url) from error
        if not names:
            raise EngineFailure(f"The engine at {self._url} serves no model.")
        return wanted if wanted in names else names[0]

    async def _shut(self) -> None:
        for future in list(self._running):  # these only: what the client started for them, it cancels itself
            future.cancel()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        await self._client.close()
        await asyncio.sleep(0)  # the closed sockets are let go in the loop's next round

    async def _answer(self, request: GenerationRequest, chunks: queue.SimpleQueue[Chunk | Exception | None]) -> None:
        try:
            async for chunk in self._chunks(request):
                chunks.put(chunk)
        except IrisError as error:
            chunks.put(error)
        except Exception as error:
            chunks.put(_translated(error, self._url))

    async def _chunks(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        started = time.monotonic()
        first: float | None = None
        text: list[str] = []
        reason: FinishReason | None = None
        counted: Any = None
        if request.sampling.max_tokens == 0:
            reason = "length"
        else:
            async with await self._open(request) as response:
                async for event in response:
                    counted = event.usage or counted
                    for choice in event.choices[:1]:
                        if choice.finish_reason:
                            reason = "length" if choice.finish_reason == "length" else "stop"
                        if choice.delta.content:
                            first = first or time.monotonic()
                            text.append(choice.delta.content)
                            yield Chunk(text=choice.delta.content)
        if reason is None:  # llama-cpp-python's server ends the stream so when a conversation is too long for it
            raise EngineFailure(
                f"The engine at {self._url} ended the answer before it was complete. "
                "The conversation may be too long for it: shorten it, or try again."
            )
        if request.json_schema is not None:
            _verify("".join(text), request.json_schema, cut=reason == "length")
        now = time.monotonic()
        generated = counted.completion_tokens if counted else len(text)
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

    async def _open(self, request: GenerationRequest) -> Any:
        import openai

        arguments = _arguments(self._model, request)
        if request.json_schema is None:
            return await self._client.chat.completions.create(**arguments)
        older = {"type": "json_object", "schema": dict(request.json_schema)}
        if not self._older_schemas:
            try:
                return await self._client.chat.completions.create(**arguments)
            except openai.APIStatusError as error:
                if error.status_code not in (400, 422, 500):
                    raise
        # llama-cpp-python's server knows only this spelling (and says so with status 500).
        response = await self._client.chat.completions.create(**{**arguments, "response_format": older})
        self._older_schemas = True
        return response


class RemoteStream:
    """See ``iris.engine.TokenStream``. Closing it closes the connection, which makes the server stop."""

    def __init__(self, chunks: queue.SimpleQueue[Chunk | Exception | None], future: Future[None]) -> None:
        self._chunks = chunks
        self._future = future
        self._over = False

    def __iter__(self) -> RemoteStream:
        return self

    def __next__(self) -> Chunk:
        if self._over:
            raise StopIteration
        try:
            item = self._chunks.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            return Chunk()
        if self._over:  # closed meanwhile, by another thread
            raise StopIteration
        if isinstance(item, Chunk):
            return item
        self._over = True
        raise item or StopIteration

    def close(self) -> None:
        """Cancel the rest. Idempotent; also called when the stream is forgotten."""
        self._over = True
        self._future.cancel()

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # interpreter shutdown
            self.close()


def _closed() -> EngineClosed:
    return EngineClosed("This engine was just closed. Ask again.")


def _arguments(model: str, request: GenerationRequest) -> dict[str, Any]:
    s: Sampling = request.sampling
    arguments: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": _sendable(message.content)} for message in request.messages],
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
            "top_k": s.top_k,
            "min_p": s.min_p,
            "repetition_penalty": s.repeat_penalty,
            "repeat_penalty": s.repeat_penalty,
            "repeat_last_n": s.penalty_window,
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


def _sendable(text: str) -> str:
    """``text`` with a question mark for every lone surrogate: UTF-8 cannot carry one."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _verify(text: str, wanted: Mapping[str, Any], *, cut: bool) -> None:
    """Raise SchemaError unless ``text`` is JSON of the schema: some servers ignore the schema in silence."""
    if cut:
        raise SchemaError("The answer was cut before its JSON was complete. Allow more tokens.")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SchemaError(
            f"The engine's answer is not JSON ({error}). Does its server support JSON schemas?"
        ) from error
    if not _conforms(value, wanted, wanted):
        raise SchemaError("The engine's answer is JSON, but not of the schema. Does its server support JSON schemas?")


def _conforms(value: Any, part: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether a JSON value is of a schema that ``schema.check`` let pass, formats of strings aside."""
    if "$ref" in part:
        target: Any = root
        for step in str(part["$ref"]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target[key]
        return _conforms(value, target, root)
    if "anyOf" in part:
        return any(_conforms(value, choice, root) for choice in part["anyOf"])
    if "const" in part or "enum" in part:
        choices = [part["const"]] if "const" in part else part["enum"]
        return any(type(value) is type(choice) and value == choice for choice in choices)
    kinds = part.get("type")
    if isinstance(kinds, list):
        return any(_conforms(value, {"type": kind}, root) for kind in kinds)
    if kinds == "object":
        properties, more = part.get("properties", {}), part.get("additionalProperties", "properties" not in part)
        return (
            isinstance(value, dict)
            and all(name in value for name in part.get("required", []))
            and all(_conforms(value[name], properties[name], root) for name in value if name in properties)
            and (more is not False or all(name in properties for name in value))
            and (not isinstance(more, dict) or all(_conforms(v, more, root) for k, v in value.items()))
        )
    if kinds == "array":
        tuple_of = part.get("prefixItems")
        return (
            isinstance(value, list)
            and part.get("minItems", 0) <= len(value) <= part.get("maxItems", len(value))
            and all(_conforms(item, part["items"], root) for item in value if "items" in part)
            and (
                tuple_of is None
                or (
                    len(value) == len(tuple_of)
                    and all(_conforms(v, p, root) for v, p in zip(value, tuple_of, strict=True))
                )
            )
        )
    if kinds == "string":
        return isinstance(value, str) and part.get("minLength", 0) <= len(value) <= part.get("maxLength", len(value))
    types: dict[str, Any] = {"number": int | float, "integer": int, "boolean": bool, "null": type(None)}
    if kinds in types:
        return isinstance(value, types[kinds]) and (kinds == "boolean" or not isinstance(value, bool))
    return True


def _translated(error: Exception, url: str) -> IrisError:
    import openai

    detail = " ".join(str(getattr(error, "message", "") or error or type(error).__name__).split())[:300]
    if isinstance(error, openai.APITimeoutError):
        return EngineFailure(f"The engine at {url} did not answer in time. Try again.")
    if isinstance(error, openai.APIConnectionError):
        return EngineFailure(f"The engine at {url} cannot be reached. Does its server run? {_CHECK}")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return EngineFailure(f"The engine at {url} refuses the key. Set IRIS_ENGINE_KEY.")
    if isinstance(error, openai.NotFoundError):
        return EngineFailure(f"There is no OpenAI-compatible engine at {url} ({detail}). {_CHECK}")
    if isinstance(error, openai.RateLimitError):
        return EngineFailure(f"The engine at {url} is busy. Try again in a minute.")
    if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
        return RequestError(f"The engine refuses this request: {detail}")
    if isinstance(error, openai.APIError):
        return EngineFailure(f"The engine at {url} failed: {detail}")
    log.warning("the connection to the engine at %s failed", url, exc_info=error)
    return EngineFailure(f"The connection to the engine at {url} broke off ({detail}). Try again.")
