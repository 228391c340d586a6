"""What a visitor may send, asked of the middleware as a web server asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from iris.ui.limits import MAX_BODY, SHARED, Bucket, Limits

UPLOAD = 5 << 20


class Echo:
    """An app that reads the whole body and answers with its size."""

    def __init__(self) -> None:
        self.read: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client is gone")
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        self.read.append(size)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})


class Visitor:
    """Asks a limited app, at the time that ``now`` says."""

    def __init__(self, **options: Any) -> None:
        self.app = Echo()
        self.now = 1000.0
        options = {"rate": 60, "proxies": 0, "upload": UPLOAD, **options}
        self.limits = Limits(self.app, clock=lambda: self.now, **options)

    def ask(
        self,
        path: str = "/gradio_api/queue/join",
        body: bytes | Iterable[bytes] = b"{}",
        *,
        address: str = "203.0.113.7",
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of the answer. A body in pieces is sent without saying how long it is."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        sent: list[Message] = []
        queue: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
            for number, piece in enumerate(pieces)
        ]

        async def receive() -> Message:
            return queue.pop(0) if queue else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        named = [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()]
        if isinstance(body, bytes):
            named.append((b"content-length", str(len(body)).encode()))
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": named,
            "client": (address, 1),
            "query_string": b"",
        }
        asyncio.run(self.limits(scope, receive, send))
        starts = [message for message in sent if message["type"] == "http.response.start"]
        assert len(starts) == 1, "exactly one answer"
        told = {key.decode(): value.decode() for key, value in starts[0]["headers"]}
        return starts[0]["status"], told, b"".join(message.get("body", b"") for message in sent)


def page(name: str) -> bytes:
    return json.dumps({"data": ["Why?"], "session_hash": name}).encode()


def test_a_page_that_asks_too_often_waits_and_others_do_not() -> None:
    visitor = Visitor()
    statuses = [visitor.ask(body=page("one"))[0] for _ in range(31)]
    assert statuses == [200] * 30 + [429]
    status, headers, body = visitor.ask(body=page("one"))
    assert (status, headers["retry-after"]) == (429, "1")
    assert b"Wait 1 s and try again" in body
    assert visitor.ask(body=page("two"))[0] == 200, "another page of the same class"
    visitor.now += 1
    assert visitor.ask(body=page("one"))[0] == 200
    assert visitor.ask(body=page("one"))[0] == 429


def test_a_program_that_changes_its_name_meets_the_limit_of_its_address() -> None:
    visitor = Visitor()
    statuses = [visitor.ask(body=page(str(number)))[0] for number in range(30 * SHARED + 5)]
    assert statuses == [200] * (30 * SHARED) + [429] * 5
    assert visitor.ask(body=page("x"), address="203.0.113.8")[0] == 200


def test_looking_at_the_page_is_not_counted() -> None:
    visitor = Visitor()
    assert {visitor.ask("/", b"", method="GET")[0] for _ in range(200)} == {200}
    assert {visitor.ask("/gradio_api/heartbeat/x", b"", method="GET")[0] for _ in range(200)} == {200}


def test_the_machine_itself_and_no_limit() -> None:
    assert {Visitor().ask(address="127.0.0.1", body=page("x"))[0] for _ in range(50)} == {200}
    visitor = Visitor(rate=0)
    assert {visitor.ask(body=page("x"))[0] for _ in range(500)} == {200}


def test_behind_a_proxy_the_visitor_is_who_the_proxy_saw() -> None:
    """What a visitor writes into the header stands left of what the proxy adds."""
    visitor = Visitor(proxies=1)
    statuses = [
        visitor.ask(address="127.0.0.1", body=page("x"), headers={"X-Forwarded-For": f"198.51.100.{n}, 203.0.113.9"})[0]
        for n in range(31)
    ]
    assert statuses == [200] * 30 + [429]
    other = {"X-Forwarded-For": "203.0.113.10"}
    assert visitor.ask(address="127.0.0.1", body=page("x"), headers=other)[0] == 200
    believed = Visitor(proxies=0)
    spoofed = [believed.ask(body=page("x"), headers={"X-Forwarded-For": f"198.51.100.{n}"})[0] for n in range(31)]
    assert spoofed[-1] == 429, "without a proxy the header is nobody's"


@pytest.mark.parametrize("said", [True, False], ids=["announced", "in pieces"])
@pytest.mark.parametrize(
    ("path", "limit"), [("/gradio_api/queue/join", MAX_BODY), ("/gradio_api/upload", UPLOAD), ("/login", MAX_BODY)]
)
def test_what_is_too_large_is_refused_and_what_fits_arrives_whole(path: str, limit: int, said: bool) -> None:
    visitor = Visitor()
    fits, over = b"x" * limit, b"x" * (limit + 1)
    halves = [fits[: limit // 2], fits[limit // 2 :]]
    assert visitor.ask(path, fits if said else halves)[2] == str(limit).encode()
    status, headers, body = visitor.ask(path, over if said else [*halves, b"x"])
    assert (status, headers["connection"]) == (413, "close")
    assert f"at most {limit / 1e6:.1f} MB".encode() in body
    assert visitor.app.read == [limit]


def test_a_length_that_is_none() -> None:
    assert Visitor().ask(headers={"Content-Length": "-5"})[0] == 413


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(str).map(str.encode))
def test_any_body_reaches_the_app_as_it_was(body: bytes) -> None:
    assert Visitor().ask(body=body)[2] == str(len(body)).encode()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(1, 10_000), st.lists(st.floats(0, 100), max_size=300))
def test_no_minute_lets_more_through_than_it_should(rate: float, pauses: list[float]) -> None:
    now, taken = 0.0, []
    bucket = Bucket(rate, now)
    for pause in pauses:
        now += pause
        if not bucket.take(now):
            taken.append(now)
    for start in taken:
        inside = sum(start <= moment <= start + 60 for moment in taken)
        assert inside <= max(1.0, rate / 2) + rate + 1
