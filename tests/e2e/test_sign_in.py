"""Sign-in as on a Hugging Face Space: the real flow, against a provider of its own that speaks OpenID Connect."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from iris.engine.pool import EnginePool
from iris.ui import student
from tests.apps import App
from tests.e2e.visitor import Visitor
from tests.scripted_engine import Script, serve

CLIENT, PASSWORD = "iris-space", "known to the Space and the provider only"


@dataclass
class Provider:
    """Who signs in next, and for how long."""

    name: str = "anna"
    expires_in: int = 3600
    nonces: dict[str, tuple[str, str]] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, parameters={"kid": "1", "alg": "RS256"}))
    url: str = ""

    def token(self, code: str) -> dict[str, Any]:
        nonce, name = self.nonces.pop(code)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": f"id-of-{name}",
            "nonce": nonce,
            "iat": now,
            "exp": now + 600,
            "name": name.title(),
            "preferred_username": name,
            "profile": f"{self.url}/{name}",
            "picture": f"{self.url}/{name}.png",
        }
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        return {"access_token": "t", "token_type": "bearer", "expires_in": self.expires_in, "id_token": signed}


@contextmanager
def provider() -> Iterator[Provider]:
    """An OpenID provider on 127.0.0.1 that lets in whoever its ``name`` says."""
    made = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path == "/authorize":
                code = f"code-{len(made.nonces)}-{time.time_ns()}"
                made.nonces[code] = (query["nonce"][0], made.name)
                target = query["redirect_uri"][0]
                self.send_response(302)
                self.send_header("location", f"{target}&code={code}&state={query['state'][0]}")
                self.end_headers()
            elif path == "/jwks":
                self._json({"keys": [made.key.as_dict(private=False)]})
            else:
                self._json(
                    {
                        "issuer": made.url,
                        "authorization_endpoint": f"{made.url}/authorize",
                        "token_endpoint": f"{made.url}/token",
                        "jwks_uri": f"{made.url}/jwks",
                        "id_token_signing_alg_values_supported": ["RS256"],
                    }
                )

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            wanted = base64.b64encode(f"{CLIENT}:{PASSWORD}".encode()).decode()
            assert self.headers["authorization"] == f"Basic {wanted}"
            self._json(made.token(form["code"][0]))

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
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class Space:
    """Iris as on a Space with sign-in."""

    app: App
    provider: Provider
    http: httpx.Client

    def sign_in(self, name: str) -> str:
        """Go through the provider; the session's cookie, as the browser sends it."""
        self.provider.name = name
        cookies: SimpleCookie = SimpleCookie()
        address = f"{self.app.url}/login/huggingface"
        while True:  # by hand: the cookie is for https alone, which only browsers grant to 127.0.0.1, too
            sent = "; ".join(f"{key}={morsel.value}" for key, morsel in cookies.items())
            answer = self.http.get(address, headers={"cookie": sent})
            for line in answer.headers.get_list("set-cookie"):
                cookies.load(line)
            if "location" not in answer.headers:
                raise AssertionError(answer.text)
            address = answer.headers["location"]
            if not urlsplit(address).netloc:
                return f"session={cookies['session'].value}"

    def visitor(self, cookie: str = "", identity: Any = None, **headers: str) -> Visitor:
        return Visitor(self.app, self.http, identity, {**({"cookie": cookie} if cookie else {}), **headers})


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    home = tmp_path_factory.mktemp("iris-home")
    with provider() as provided, serve(Script()) as engine, httpx.Client(timeout=120) as http:
        variables = {
            "IRIS_HOME": str(home),
            "IRIS_ENGINE_URL": engine,
            "IRIS_MODEL": "scripted",
            "SYSTEM": "spaces",
            "SPACE_ID": "school/iris",
            "OAUTH_CLIENT_ID": CLIENT,
            "OAUTH_CLIENT_SECRET": PASSWORD,
            "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": provided.url,
        }
        # Gradio takes this repository's folder `spaces` for the package of that name, which a Space may have.
        code = "import sys; sys.modules['spaces'] = None; from iris.__main__ import main; main(['--port', '0'])"
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            address = next(
                found[1] for line in process.stdout if (found := re.search(r"running at (http://\S+)", line))
            )
            pool = cast(EnginePool, None)  # the engine is another process's
            yield Space(App(address, pool, Path(home)), provided, http)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def titles(visitor: Visitor) -> list[str]:
    return [title for title, _ in visitor.call("chats_show", "", visitor.identity)["data"][1]["choices"]]


def test_what_a_signed_in_user_does_belongs_to_the_account(space: Space) -> None:
    home, school = space.visitor(space.sign_in("anna")), space.visitor(space.sign_in("anna"))
    for computer in (home, school):
        computer.meet()
    home.ask("Anna's?")
    assert titles(school) == ["Anna's?"]
    assert "You are signed in as anna." in school.call("my_data_kept", school.identity)["data"][0]
    # Signed out, the same browser is nobody but itself, and another user sees nothing.
    assert titles(space.visitor(identity=home.identity)) == []
    assert titles(space.visitor(space.sign_in("bo"), home.identity)) == []
    assert titles(home) == ["Anna's?"]


def test_a_cookie_that_the_server_did_not_sign_is_nobodys(space: Space) -> None:
    cookie = space.sign_in("cleo")
    space.visitor(cookie).ask("Cleo's?")
    assert titles(space.visitor(cookie)) == ["Cleo's?"]
    payload, rest = cookie.removeprefix("session=").split(".", 1)
    session = json.loads(base64.b64decode(payload + "=="))
    session["oauth_info"]["userinfo"]["sub"] = "id-of-cleo"
    session["oauth_info"]["access_token"] = "another"
    forged = base64.b64encode(json.dumps(session).encode()).decode()
    for value in (f"{forged}.{rest}", forged, f"{payload}.x.y", "cleo"):
        assert titles(space.visitor(f"session={value}")) == []


def test_another_sites_page_cannot_use_the_cookie(space: Space) -> None:
    """The cookie goes along with a call from anywhere, because a Space is shown in another site's frame."""
    cookie = space.sign_in("dora")
    space.visitor(cookie, origin=space.app.url).ask("Dora's?")
    assert titles(space.visitor(cookie, origin=space.app.url)) == ["Dora's?"]
    stranger = space.visitor(cookie, origin="https://elsewhere.example")
    assert titles(stranger) == []
    stranger.call("my_data_delete", None)
    assert titles(space.visitor(cookie)) == ["Dora's?"]


def test_a_signed_in_user_is_forgotten_and_may_begin_anew(space: Space) -> None:
    emil = space.visitor(space.sign_in("emil"))
    emil.ask("Before?")
    assert emil.call("my_data_delete", None)["data"][0] == "done"
    assert titles(emil) == []
    emil.ask("After?")
    assert titles(emil) == ["After?"]


def test_a_session_that_has_run_out_is_nobodys(space: Space) -> None:
    space.provider.expires_in = -1
    late = space.visitor(space.sign_in("fred"))
    space.provider.expires_in = 3600
    late.ask("Fred's?")
    assert titles(late) == []
    assert titles(space.visitor(space.sign_in("fred"))) == []


def test_elsewhere_than_on_a_space_there_is_no_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio would make everyone the user of the machine's own token."""
    for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"):
        monkeypatch.setenv(name, "x")
    assert not student.sign_in_enabled()
    monkeypatch.setenv("SPACE_ID", "school/iris")
    assert not student.sign_in_enabled()
    monkeypatch.setenv("SYSTEM", "spaces")
    assert student.sign_in_enabled()
    monkeypatch.delenv("OAUTH_CLIENT_SECRET")
    assert not student.sign_in_enabled()
