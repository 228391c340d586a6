"""The remote engine against a real OpenAI-compatible server process (llama-cpp-python's), and against odd ones."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from iris.engine import Chunk, Message, TokenStream, complete
from iris.engine import Engine as EngineProtocol
from iris.engine.answer import HEARTBEAT_S
from iris.engine.remote import RemoteEngine
from iris.errors import EngineClosed, EngineFailure, RequestError, SchemaError
from tests.conftest import THREADS
from tests.unit.engines import PATIENCE_S, eventually, read, request

KEY = "a-secret"
STORY = "Tell me a long story about a model that learned to count."


class Server:
    """``python -m llama_cpp.server`` on the embedded model."""

    def __init__(self, gguf: Path, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        options = {"model": gguf, "model_alias": "tiny", "port": port, "api_key": KEY, "n_ctx": 512}
        options |= {"n_threads": THREADS, "n_threads_batch": THREADS, "interrupt_requests": False}
        command = [sys.executable, "-m", "llama_cpp.server", *(f"--{k}={v}" for k, v in options.items())]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        eventually(self._answers, f"the server starts: {self.log()[-2000:]}")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).is_success
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def server(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(gguf, tmp_path_factory.mktemp("server") / "log")
    yield running
    running.kill()


@pytest.fixture(scope="module")
def remote(server: Server) -> Iterator[RemoteEngine]:
    engine = RemoteEngine(server.url, key=KEY, model="no-such-name", context=512)
    yield engine
    engine.close()


def until_text(stream: TokenStream) -> str:
    return next(chunk.text for chunk in stream if chunk.text)


# ---- A real server.


def test_is_an_engine(remote: RemoteEngine) -> None:
    assert isinstance(remote, EngineProtocol)
    assert remote.model_id == "tiny"  # the server's first model, since it has none of that name
    assert remote.context_tokens == 512
    assert remote.count_tokens("") == 0
    assert 3 <= remote.count_tokens("What is overfitting?") <= 8
    remote.warm((Message("user", "hi"),))
    assert remote.status().active == 0


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", " "])
def test_the_address_in_any_form(server: Server, ending: str) -> None:
    engine = RemoteEngine(server.url + ending, key=KEY, model="tiny")
    assert engine.model_id == "tiny"
    engine.close()
    engine.close()


def test_an_answer_streams_and_is_the_models(remote: RemoteEngine, engine: Any) -> None:
    asked = request("What is a neural network?", max_tokens=16)
    chunks = list(remote.stream(asked))
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) >= 12
    assert "".join(texts)[:12] == complete(engine, asked)[0][:12]  # the same model, template and sampling
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.finish_reason == "length"
    assert usage.completion_tokens == 16
    assert usage.first_token_s is not None
    assert 0 < usage.first_token_s <= usage.total_s
    assert usage.tokens_per_second > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_conversations_sampling_and_stop_strings_arrive(remote: RemoteEngine) -> None:
    def told(seed: int) -> str:
        return complete(remote, request(STORY, temperature=1.5, top_k=0, top_p=1.0, max_tokens=10, seed=seed))[0]

    assert told(5) == told(5)
    assert told(5) != told(6)
    whole = complete(remote, request(STORY, max_tokens=16))[0]
    text, usage = complete(remote, request(STORY, max_tokens=16, stop=(whole[10:14],)))
    assert text == whole[: whole.index(whole[10:14])]
    assert usage.finish_reason == "stop"
    name = "My name is Zanzibar. Say my name."
    assert "Zanzibar" in complete(remote, request(name, "Zanzibar.", "Say it again.", max_tokens=24))[0]


def test_reading_only_costs_nothing(remote: RemoteEngine) -> None:
    text, usage = complete(remote, request("hi", max_tokens=0))
    assert (text, usage.completion_tokens, usage.finish_reason) == ("", 0, "length")


def test_strange_characters(remote: RemoteEngine) -> None:
    assert complete(remote, request("a\x00b \ud83d 😀", max_tokens=2))[1].completion_tokens > 0


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def test_json(remote: RemoteEngine) -> None:
    for seed in range(2):
        text, usage = complete(
            remote, request("Describe a person.", schema=PERSON, temperature=1.0, max_tokens=80, seed=seed)
        )
        person = json.loads(text)
        assert set(person) == {"name", "age"}
        assert isinstance(person["age"], int)
        assert usage.finish_reason == "stop"
    with pytest.raises(SchemaError, match="before its JSON was complete"):
        complete(remote, request("Describe a person.", schema=PERSON, max_tokens=3))
    with pytest.raises(SchemaError, match="pattern"):
        remote.stream(request("hi", schema={"type": "string", "pattern": "a"}))


def test_requests_that_make_no_sense(remote: RemoteEngine) -> None:
    with pytest.raises(RequestError, match="There is no question"):
        remote.stream(request(" \n"))
    with pytest.raises(RequestError, match="log-probabilities"):
        remote.stream(request("hi", logprobs=3))


def test_a_conversation_too_long_for_the_server(remote: RemoteEngine) -> None:
    with pytest.raises(EngineFailure, match="too long"):
        complete(remote, request("word " * 1000))


def test_closing_a_stream_stops_the_servers_work(server: Server, remote: RemoteEngine) -> None:
    before = server.log().count("Disconnected from client")
    with remote.stream(request(STORY, max_tokens=400)) as stream:
        until_text(stream)
        assert remote.status().active == 1
    assert list(stream) == []
    eventually(lambda: server.log().count("Disconnected from client") > before, "the server notices")
    eventually(lambda: remote.status().active == 0, "nothing is running")
    assert complete(remote, request("hi", max_tokens=2))[1].completion_tokens == 2


def test_a_forgotten_stream_is_closed(server: Server, remote: RemoteEngine) -> None:
    before = server.log().count("Disconnected from client")
    until_text(remote.stream(request(STORY, max_tokens=400)))
    eventually(lambda: server.log().count("Disconnected from client") > before, "the server notices")


def test_closing_while_the_server_is_still_silent(remote: RemoteEngine) -> None:
    """It writes one answer at a time, so a second one waits; its reader hears heartbeats and may leave at any time."""
    with remote.stream(request(STORY, max_tokens=400)) as first:
        until_text(first)
        second = remote.stream(request("hi"))
        started = time.monotonic()
        assert next(second) == Chunk()
        assert time.monotonic() - started >= HEARTBEAT_S * 0.9
        second.close()
        second.close()
        assert list(second) == []
        assert until_text(first)
    eventually(lambda: remote.status().active == 0, "nothing is running")


def test_closing_from_another_thread(remote: RemoteEngine) -> None:
    stream = remote.stream(request(STORY, max_tokens=400))
    until_text(stream)
    threading.Timer(0.1, stream.close).start()
    list(stream)
    eventually(lambda: remote.status().active == 0, "nothing is running")


def test_closing_the_engine_ends_its_streams(server: Server) -> None:
    engine = RemoteEngine(server.url, key=KEY)
    written = engine.stream(request(STORY, max_tokens=400))
    until_text(written)
    waiting = engine.stream(request("hi"))
    engine.close()
    for stream in (written, waiting):
        with pytest.raises(EngineClosed, match="Ask again"):
            read(stream)
    assert engine.status().closed
    with pytest.raises(EngineClosed):
        engine.stream(request("hi"))


def test_a_wrong_key(server: Server) -> None:
    for key in ("", "wrong"):
        with pytest.raises(EngineFailure, match=r"refuses the key\. Set IRIS_ENGINE_KEY"):
            RemoteEngine(server.url, key=key)
    with pytest.raises(EngineFailure, match="IRIS_ENGINE_KEY"):
        RemoteEngine(server.url, key="schlüssel")


def test_a_wrong_address(server: Server) -> None:
    for url in ("http://127.0.0.1:9", "127.0.0.1:9", "nonsense"):
        with pytest.raises(EngineFailure, match=r"cannot be reached.*IRIS_ENGINE_URL"):
            RemoteEngine(url)
    with pytest.raises(EngineFailure, match=r"no OpenAI-compatible engine at .*/there/v1"):
        RemoteEngine(f"{server.url}/there", key=KEY)


def test_the_server_dies(gguf: Path, tmp_path: Path) -> None:
    server = Server(gguf, tmp_path / "log")
    engine = RemoteEngine(server.url, key=KEY)
    try:
        stream = engine.stream(request(STORY, max_tokens=400))
        until_text(stream)
        server.kill()
        with pytest.raises(EngineFailure, match=r"broke off|cannot be reached"):
            read(stream)
        with pytest.raises(EngineFailure, match="cannot be reached"):
            complete(engine, request("hi"))
        assert engine.status().active == 0
    finally:
        server.kill()
        engine.close()


# ---- Servers that answer oddly, as llama-cpp-python's cannot be made to.

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]
MODELS = b'{"object": "list", "data": [{"id": "m", "object": "model"}]}'


@pytest.fixture
def odd() -> Iterator[Callable[..., str]]:
    """Starts a server with the given replies; returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(models: bytes = MODELS, *, kind: str = "application/json", reply: Reply | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                send(self, 200, models, kind)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert reply is not None
                reply(self, body)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/json") -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def events(*texts: str, finish: str | None = "stop", usage: dict[str, Any] | None = None) -> bytes:
    rows: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    if finish:
        rows.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        rows.append({"choices": [], "usage": usage})
    lines = [json.dumps({"id": "1", "object": "chat.completion.chunk", "model": "m", **row}) for row in rows]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


def says(*texts: str, **options: Any) -> Reply:
    return lambda handler, _: send(handler, 200, events(*texts, **options), "text/event-stream")


def test_a_server_without_models(odd: Callable[..., str]) -> None:
    with pytest.raises(EngineFailure, match="serves no model"):
        RemoteEngine(odd(b'{"object": "list", "data": []}'))


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"<html>Welcome</html>", "text/html"), (b'{"hello": 1}', "application/json"), (b"{", "application/json")],
)
def test_a_web_page_that_is_no_engine(odd: Callable[..., str], body: bytes, kind: str) -> None:
    with pytest.raises(EngineFailure, match="no OpenAI-compatible engine"):
        RemoteEngine(odd(body, kind=kind))


def test_usage_that_the_server_counts(odd: Callable[..., str]) -> None:
    counted = {
        "prompt_tokens": 40,
        "completion_tokens": 7,
        "total_tokens": 47,
        "prompt_tokens_details": {"cached_tokens": 32},
    }
    engine = RemoteEngine(odd(reply=says("Hel", "lo", usage=counted)))
    text, usage = complete(engine, request("hi"))
    assert text == "Hello"
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (40, 32, 7)
    assert usage.finish_reason == "stop"
    engine.close()


def test_what_is_asked_of_the_server(odd: Callable[..., str]) -> None:
    seen: list[dict[str, Any]] = []

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        seen.append(body)
        says("x")(handler, body)

    engine = RemoteEngine(odd(reply=reply))
    complete(engine, request("hi", system="Be brief.", top_k=0, seed=3, stop=("END",), repeat_penalty=1.15))
    body = seen[0]
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    for name, value in {"model": "m", "stream": True, "max_tokens": 8, "seed": 3, "stop": ["END"], "top_k": 0}.items():
        assert body[name] == value
    assert body["repetition_penalty"] == body["repeat_penalty"] == 1.15
    assert body["stream_options"] == {"include_usage": True}
    engine.close()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, RequestError, "refuses this request: .*too hot"),
        (422, RequestError, "refuses this request: .*too hot"),
        (401, EngineFailure, "refuses the key"),
        (403, EngineFailure, "refuses the key"),
        (404, EngineFailure, "Check IRIS_ENGINE_URL"),
        (429, EngineFailure, "is busy"),
        (500, EngineFailure, "failed: .*too hot"),
    ],
)
def test_errors_of_the_server(odd: Callable[..., str], status: int, error: type[Exception], message: str) -> None:
    body = b'{"error": {"message": "It is too hot."}}'
    engine = RemoteEngine(odd(reply=lambda handler, _: send(handler, status, body)))
    with pytest.raises(error, match=message):
        complete(engine, request("hi"))
    engine.close()


def test_an_error_in_the_middle_of_the_answer(odd: Callable[..., str]) -> None:
    broken = events("Hel", finish=None).replace(b"[DONE]", b'{"error": {"message": "out of memory"}}')
    engine = RemoteEngine(odd(reply=lambda handler, _: send(handler, 200, broken, "text/event-stream")))
    stream = engine.stream(request("hi"))
    assert until_text(stream) == "Hel"
    with pytest.raises(EngineFailure, match="out of memory"):
        read(stream)
    engine.close()


def test_a_server_that_falls_silent(odd: Callable[..., str]) -> None:
    release = threading.Event()

    def reply(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(events("Hel", finish=None).removesuffix(b"data: [DONE]\n\n"))
        handler.wfile.flush()
        release.wait(PATIENCE_S)

    engine = RemoteEngine(odd(reply=reply), timeout_s=1.0)
    with pytest.raises(EngineFailure, match=r"in time|broke off"):
        complete(engine, request("hi"))
    release.set()
    engine.close()


@pytest.mark.parametrize("text", ["Sure! Here it is:", '{"name": "Ada"}', '{"name": "Ada", "age": "old"}', "[]"])
def test_a_server_that_ignores_the_schema_is_found_out(odd: Callable[..., str], text: str) -> None:
    engine = RemoteEngine(odd(reply=says(text)))
    with pytest.raises(SchemaError, match="Does its server support JSON schemas"):
        complete(engine, request("hi", schema=PERSON))
    engine.close()


SCHEMAS: list[tuple[Any, list[Any], list[Any]]] = [
    (PERSON, [{"name": "A", "age": 1}], [{"name": "A", "age": 1.5}, {"name": "A" * 13, "age": 1}, {"age": 1}, None]),
    (
        {"type": "object", "properties": {"a": {"type": "null"}}},
        [{}, {"a": None}],
        [{"a": 0}, {"b": None}],
    ),
    ({"type": "object"}, [{}, {"x": [1]}], [[], "x"]),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"x": 1}], [{"x": "1"}]),
    ({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}, [[True]], [[], [1], [True] * 3]),
    ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}]}, [["a", None]], [["a"], [None, "a"]]),
    ({"enum": [1, "a", None]}, [1, "a", None], [True, 1.0, "b", 0]),
    ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [2]}]),
    ({"anyOf": [{"type": "string", "minLength": 2}, {"type": "number"}]}, ["ab", 1, 1.5], ["a", True, None]),
    ({"type": ["integer", "null"]}, [1, None], [1.5, True, "1"]),
    (
        {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}},
        [[], [[], [[]]]],
        [[1], [[[""]]]],
    ),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), SCHEMAS)
def test_answers_are_checked_against_the_schema(
    odd: Callable[..., str], schema: Any, right: list[Any], wrong: list[Any]
) -> None:
    answers: list[Any] = []
    engine = RemoteEngine(odd(reply=lambda handler, body: says(json.dumps(answers[-1]))(handler, body)))
    for value in right:
        answers.append(value)
        assert json.loads(complete(engine, request("hi", schema=schema))[0]) == value
    for value in wrong:
        answers.append(value)
        with pytest.raises(SchemaError):
            complete(engine, request("hi", schema=schema))
    engine.close()
