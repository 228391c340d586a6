"""What a visitor may send: so many requests a minute, and none that is larger than any real one."""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2 << 20
"""Bytes of a request that is no upload. The longest question has 50,000 characters; the rest is its conversation."""

SHARED = 10
"""How many visitors' requests one address may make: a whole class often has but one."""

REMEMBERED = 20_000
"""How many visitors are counted at the same time; the one seen the longest ago is forgotten first."""

_CALLS = ("/queue/join", "/call/", "/run/", "/api/", "/upload", "/login")
_HERE = ("127.", "::1", "::ffff:127.")


class Bucket:
    """Tokens that come back at a steady pace: ``per_minute`` of them, and at most half as many at once."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._pace = per_minute / 60
        self._full = max(1.0, per_minute / 2)
        self._tokens = self._full
        self._at = now

    def take(self, now: float) -> float:
        """Take one; returns 0, or the seconds until there is one."""
        self._tokens = min(self._full, self._tokens + (now - self._at) * self._pace)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._pace


class Limits:
    """ASGI middleware that answers 413 to what is too large and 429 to what comes too often.

    Args:
        rate: requests a minute of one visitor, a page of one address; the address gets ``SHARED`` times as many. 0: any
            number. The machine itself is not counted: behind a proxy that Iris was not told of, everyone is it.
        proxies: how many reverse proxies stand in front, each of which adds to ``X-Forwarded-For``. What a visitor
            writes there himself stands left of that and is not believed.
        upload: bytes of an upload.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rate: int,
        proxies: int,
        upload: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._rate = rate
        self._proxies = proxies
        self._upload = upload
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        uploading = path.rstrip("/").endswith("/upload")
        limit = self._upload if uploading else MAX_BODY
        length = Request(scope).headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        if uploading:
            if not await self._refused("", scope, receive, send):
                await self._counted(limit, scope, receive, send)
            return
        body = await _whole(receive, limit)
        if body is None:
            await _too_large(limit)(scope, receive, send)
            return
        counted = any(part in path for part in _CALLS)
        if not counted or not await self._refused(_session(body), scope, receive, send):
            await self._app(scope, _again(body, receive), send)

    async def _refused(self, session: str, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether this visitor has come too often, and was told so."""
        wait = self._wait(self._address(scope), session)
        if wait:
            seconds = math.ceil(wait)
            told = f"You are asking faster than Iris lets one visitor ask. Wait {seconds} s and try again."
            headers = {"Retry-After": str(seconds)}
            await JSONResponse({"error": told, "detail": told}, 429, headers)(scope, receive, send)
        return bool(wait)

    def _wait(self, address: str, session: str) -> float:
        if not self._rate or address.startswith(_HERE):
            return 0.0
        now = self._clock()
        wait = self._bucket((address, ""), self._rate * SHARED, now).take(now)
        if session and not wait:
            wait = self._bucket((address, session), self._rate, now).take(now)
        return wait

    def _bucket(self, key: tuple[str, str], rate: int, now: float) -> Bucket:
        bucket = self._buckets.pop(key, None) or Bucket(rate, now)
        self._buckets[key] = bucket
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket

    def _address(self, scope: Scope) -> str:
        peer = (scope.get("client") or ("",))[0]
        if not self._proxies:
            return str(peer)
        forwarded = ",".join(Request(scope).headers.getlist("x-forwarded-for"))
        chain = [part.strip() for part in forwarded.split(",") if part.strip()]
        return chain[-min(self._proxies, len(chain))] if chain else str(peer)

    async def _counted(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an upload through piece by piece, up to the limit."""
        seen = 0
        over = answered = False

        async def counting() -> Message:
            nonlocal seen, over
            message = await receive()
            seen += len(message.get("body", b""))
            over = over or seen > limit
            return {"type": "http.disconnect"} if over else message

        async def sending(message: Message) -> None:
            nonlocal answered
            if not over:
                answered = True
                await send(message)

        try:
            await self._app(scope, counting, sending)
        except Exception:
            if not over:
                raise
        if over and not answered:
            await _too_large(limit)(scope, receive, send)


async def _whole(receive: Receive, limit: int) -> bytes | None:
    """The body of a request, or None when it is longer than the limit."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(parts)
        parts += message.get("body", b"")
        if len(parts) > limit:
            return None
        if not message.get("more_body"):
            return bytes(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, for the app; then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _session(body: bytes) -> str:
    """The page that a request comes from, as Gradio names it."""
    try:
        about = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    name = about.get("session_hash") if isinstance(about, dict) else None
    return name[:64] if isinstance(name, str) else ""


def _too_large(limit: int) -> JSONResponse:
    told = f"This is too large: Iris takes at most {limit / 1e6:.1f} MB at once."
    return JSONResponse({"error": told, "detail": told}, 413, {"Connection": "close"})
