"""An OpenAI-compatible server on 127.0.0.1 whose answers are written beforehand.

For what a small model cannot be made to say on request: formulas, tables, HTML, an answer that never begins, an error
in the middle. Iris talks to it as to any remote engine, through IRIS_ENGINE_URL.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Script:
    """What the server says to every question, and what it was asked.

    ``pieces`` are streamed ``pause_s`` apart; a piece of None breaks the connection off. ``reply`` chooses the pieces
    by the messages instead.
    """

    pieces: list[str | None] = field(default_factory=lambda: ["An answer."])
    pause_s: float = 0.0
    asked: list[list[dict[str, str]]] = field(default_factory=list)
    reply: Callable[[list[dict[str, str]]], list[str | None]] | None = None
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a reader went away before the end."""


@contextmanager
def serve(script: Script) -> Iterator[str]:
    """Serve ``script`` and yield the address for IRIS_ENGINE_URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._json({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            script.asked.append(body["messages"])
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            try:
                for piece in script.reply(body["messages"]) if script.reply else script.pieces:
                    time.sleep(script.pause_s)
                    if piece is None:
                        return
                    self._event({"delta": {"content": piece}})
                self._event({"delta": {}, "finish_reason": "stop"})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                script.left.set()

        def _event(self, choice: dict[str, Any]) -> None:
            event = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
            data = json.dumps({**event, "choices": [{"index": 0, **choice}]})
            self.wfile.write(f"data: {data}\n\n".encode())
            self.wfile.flush()

        def _json(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
