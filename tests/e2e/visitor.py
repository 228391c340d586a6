"""Somebody who talks to the app's endpoints over plain HTTP, also to those that are only meant for its page."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
from gradio_client.utils import apply_diff

from tests.apps import App

Identity = Any
"""What the browser keeps of a student: ``{"id": …, "proof": …}``. Or anything that somebody sends in its place."""


@dataclass
class Visitor:
    """One session with the app; ``identity`` is what it says who it is."""

    app: App
    http: httpx.Client
    identity: Identity = None
    headers: dict[str, str] = field(default_factory=dict)
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    page: list[Any] = field(default_factory=list)
    """What the outputs of the last queued call show in the end."""

    def __post_init__(self) -> None:
        self._config = self.http.get(f"{self.app.url}/config").json()
        keys = {c["props"].get("storage_key"): c["id"] for c in self._config["components"]}
        self.student_component = keys["iris-student"]

    def meet(self) -> Identity:
        """Come as a new browser: the identity that the app gives it, and that is used from now on."""
        self.identity = self.call("meet", {})["data"][0]
        return self.identity

    def endpoints(self) -> list[dict[str, Any]]:
        """All that run on the server and take an identity."""
        return [
            endpoint
            for endpoint in self._config["dependencies"]
            if endpoint["backend_fn"] and self.student_component in endpoint["inputs"]
        ]

    def filled(self, endpoint: dict[str, Any], chat: str, current: Any) -> list[Any]:
        """Data for any endpoint: this session's identity, and the chat wherever one can be named."""
        kinds = {c["id"]: (c["type"], c["props"].get("storage_key")) for c in self._config["components"]}
        values = {"radio": chat, "chatbot": [], "textbox": "", "browserstate": current}
        return [self.identity if i == self.student_component else values.get(kinds[i][0]) for i in endpoint["inputs"]]

    def call(self, name: str, *data: Any) -> dict[str, Any]:
        """Call an endpoint by its name; the identity stands in ``data`` where the endpoint wants it."""
        index = next(d["id"] for d in self._config["dependencies"] if d["api_name"] == name)
        return self.send(index, list(data))

    def send(self, index: int, data: list[Any], event: Any = None, trigger: int | None = None) -> dict[str, Any]:
        """The last thing that an endpoint answers, or what it says is wrong."""
        endpoint = next(d for d in self._config["dependencies"] if d["id"] == index)
        session = uuid.uuid4().hex if endpoint["queue"] else self.session
        body = {"data": data, "fn_index": index, "session_hash": session, "event_data": event, "trigger_id": trigger}
        if not endpoint["queue"]:
            answer: dict[str, Any] = self._post("run/predict", body)
            return answer
        self._post("queue/join", body)
        last: dict[str, Any] = {}
        values: list[Any] = []
        self.page = [None] * len(endpoint["outputs"])
        address = f"{self.app.url}/gradio_api/queue/data"
        with self.http.stream("GET", address, params={"session_hash": session}, timeout=60) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") in ("process_generating", "process_completed") and message["output"].get("data"):
                    last = message["output"]
                    # While an answer is written only what changes is sent, from the second time on.
                    grows = message["msg"] == "process_generating" and values
                    values = list(map(apply_diff, values, last["data"])) if grows else last["data"]
                    skipped = [isinstance(value, dict) and value == {"__type__": "update"} for value in values]
                    self.page = [a if skip else b for a, b, skip in zip(self.page, values, skipped, strict=True)]
                if message.get("msg") == "process_completed":
                    return last or dict(message["output"])
        return last

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        # Written in ASCII: a client may send half a character, which is not to be had in UTF-8.
        headers = {"content-type": "application/json", **self.headers}
        url = f"{self.app.url}/gradio_api/{path}"
        return self.http.post(url, content=json.dumps(body), headers=headers, timeout=60).json()

    def ask(self, question: str, current: Any = None, history: Any = None) -> dict[str, Any]:
        """Ask in Study Chat as the page does."""
        boxes = {c["props"].get("elem_id"): c["id"] for c in self._config["components"]}
        box, chat = boxes["iris-question"], boxes["iris-chat"]
        endpoint = next(d for d in self._config["dependencies"] if [box, "submit"] in d["targets"])
        wanted = {box: question, chat: history or [], self.student_component: self.identity}
        keys = {c["id"]: c["props"].get("storage_key") for c in self._config["components"]}
        data = [wanted.get(i, current if keys.get(i) == "iris-chat" else None) for i in endpoint["inputs"]]
        return self.send(endpoint["id"], data, trigger=box)
