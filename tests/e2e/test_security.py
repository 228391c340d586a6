"""The running app against those who want more than it gives: path tricks, floods, requests that are too large."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from gradio import utils

from iris.ui import app as page
from iris.ui.limits import MAX_BODY
from tests.apps import App, served
from tests.scripted_engine import Script, serve

ROOT = Path(__file__).parents[2]
VISITOR = {"X-Forwarded-For": "203.0.113.7"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app behind one proxy, with a slow rate, over an engine whose answers are written beforehand."""
    home = tmp_path_factory.mktemp("iris-home")
    with serve(Script()) as url, served(home, engine_url=url, model="scripted", proxies=1, rate=2) as running:
        yield running


@pytest.fixture(scope="module")
def secret(app: App) -> bytes:
    """Something in the state folder that must not be seen; also in a file of its own."""
    (app.home / "secret.txt").write_bytes(b"kept-from-visitors")
    return b"kept-from-visitors"


def raw(app: App, target: str) -> bytes:
    """GET exactly this target: HTTP libraries tidy paths up before they send them."""
    at = urlsplit(app.url)
    assert at.hostname
    assert at.port
    with socket.create_connection((at.hostname, at.port), timeout=60) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("utf-8", "surrogateescape"))
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


DOORS = (
    "/gradio_api/file={path}",
    "/file={path}",
    "/gradio_api/file/{path}",
    "/gradio_api/file={up}{path}",
    "/static/{up}{path}",
    "/assets/{up}{path}",
    "/svelte/{up}{path}",
    "/{up}{path}",
    "/gradio_api/custom_component/x/client/component/{up}{path}",
    "/gradio_api/stream/x/1/1/{up}{path}.ts",
    "/gradio_api/proxy=file://{path}",
    "/gradio_api/file=file://{path}",
    "/pwa_icon/{up}{path}",
)
UPS = ("../" * 12, "..%2f" * 12, "%2e%2e/" * 12, "..%252f" * 12, "....//" * 12, "..\\" * 12, "%2e%2e%5c" * 12)


@pytest.mark.parametrize("door", DOORS)
def test_no_file_is_read_by_a_path_trick(app: App, secret: bytes, door: str) -> None:
    inside = [app.home / "secret.txt", app.home / "iris.db", ROOT / "iris/settings.py", Path("/etc/passwd")]
    signs = (secret, b"SQLite format 3", b"def cpu_quota", b"root:x:0", b"root:*:")
    for path in inside if "{up}" not in door else (inside[0], inside[-1]):
        for up in UPS if "{up}" in door else ("",):
            for spelled in (str(path), str(path).lstrip("/"), str(path).replace("/", "%2f")):
                target = door.format(path=spelled, up=up)
                answer = raw(app, target)
                assert not any(sign in answer for sign in signs), target
                status = answer.split(b" ", 2)[1]
                assert status != b"500", target


def test_a_files_place_in_a_call_is_not_believed(app: App, secret: bytes) -> None:
    """Where a value is expected, a program sends what Gradio itself sends for an uploaded file."""
    stolen = str(app.home / "secret.txt")
    file = {"path": stolen, "orig_name": "x", "meta": {"_type": "gradio.FileData"}, "url": f"{app.url}/file={stolen}"}
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=60) as http:
        names = http.get("/info").json()["named_endpoints"]
        assert "/study_chat" in names
        for name, about in names.items():
            data = [file for _ in about["parameters"]]
            started = http.post(
                f"/call{name}", json={"data": data}, headers={"X-Forwarded-For": f"198.51.100.{len(name)}"}
            )
            if started.status_code == 200:
                with http.stream("GET", f"/call{name}/{started.json()['event_id']}") as events:
                    text = "".join(events.iter_text())
                assert secret.decode() not in text, name


def test_an_uploads_name_leads_nowhere(app: App) -> None:
    trick = "../../../../../../../../iris-was-here"
    with httpx.Client(base_url=f"{app.url}/gradio_api", timeout=60) as http:
        done = http.post("/upload", files={"files": (trick, b"hello")}, headers={"X-Forwarded-For": "198.51.100.77"})
        if done.status_code == 200:
            (path,) = done.json()
            assert ".." not in Path(path).parts
            assert not Path("/iris-was-here").exists()
            assert not (app.home / "iris-was-here").exists()


def join(app: App, http: httpx.Client, session: str, **more: Any) -> httpx.Response:
    config = http.get("/config").json()
    index = next(entry["id"] for entry in config["dependencies"] if entry["api_name"] == "study_chat")
    about = http.get("/gradio_api/info").json()["named_endpoints"]["/study_chat"]["parameters"]
    data = ["Why?", *(parameter.get("parameter_default") for parameter in about[1:])]
    payload = {"data": data, "session_hash": session, "fn_index": index, **more}
    return http.post("/gradio_api/queue/join", json=payload, headers=VISITOR)


def test_a_visitor_who_floods_is_told_and_others_are_served(app: App) -> None:
    with httpx.Client(base_url=app.url, timeout=60) as http:
        assert join(app, http, "flood").status_code == 200
        # At two a minute the second one is early, also where everything takes its time.
        refused = next((answer for _ in range(8) if (answer := join(app, http, "flood")).status_code == 429), None)
        assert refused
        assert int(refused.headers["Retry-After"]) >= 1
        assert "Wait" in refused.json()["error"]
        assert "Content-Security-Policy" in refused.headers
        assert join(app, http, "somebody else").status_code == 200


def test_a_request_that_is_too_large_is_refused(app: App) -> None:
    with httpx.Client(base_url=app.url, timeout=60) as http:
        headers = {"X-Forwarded-For": "198.51.100.9"}
        body = b'{"data": ["' + b"x" * MAX_BODY + b'"]}'
        for sent in (body, (body[at : at + 65536] for at in range(0, len(body), 65536))):
            refused = http.post(
                "/gradio_api/call/study_chat", content=sent, headers={**headers, "Content-Type": "application/json"}
            )
            assert refused.status_code == 413
            assert "too large" in refused.json()["error"]


def test_an_upload_that_is_too_large_is_refused(app: App) -> None:
    size = utils._parse_file_size(page.MAX_FILE_SIZE)
    assert size
    with httpx.Client(base_url=app.url, timeout=120) as http:
        headers = {"X-Forwarded-For": "198.51.100.10"}
        refused = http.post("/gradio_api/upload", files={"files": ("x.txt", b"x" * (size + 1))}, headers=headers)
        assert refused.status_code == 413
        many = [("files", (f"{n}.txt", b"x" * (size - 1000))) for n in range(page.FILES_AT_ONCE + 2)]
        assert http.post("/gradio_api/upload", files=many, headers=headers).status_code == 413


def test_there_is_no_administrator(app: App) -> None:
    """Neither a login nor a page or call that shows or changes more than a visitor's own."""
    with httpx.Client(base_url=app.url, timeout=60) as http:
        for path in ("/monitoring", "/monitoring/summary", "/gradio_api/runs", "/gradio_api/token"):
            answer = http.get(path)
            assert answer.status_code in (401, 403, 404) or not any((answer.json() or {}).values()), path
        assert http.get("/gradio_api/vibe-code").status_code != 200
        assert http.post("/gradio_api/vibe-edit", json={"prompt": "x"}).status_code != 200
        for entry in http.get("/gradio_api/info").json()["named_endpoints"]:
            assert not any(word in entry for word in ("admin", "setting", "config", "shell", "exec")), entry
