"""A Hub on this machine: the routes of huggingface.co that deploying, publishing and downloading use, over real HTTP.

Repositories are kept in memory with their commits; large files come by the LFS routes (``HF_HUB_DISABLE_XET=1`` on the
client's side). ``trouble`` makes it fail: each entry is used for one matching request.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

LARGE = (".gguf", ".safetensors", ".bin")
TOKEN = "hf_teacher"


@dataclass
class Repo:
    """A repository: the files of its newest commit, its commits' messages, and what a Space has beside them."""

    kind: str
    private: bool = False
    gated: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)
    sent: list[set[str]] = field(default_factory=list)  # the files of each commit
    variables: dict[str, str] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    stages: list[str] = field(default_factory=lambda: ["RUNNING"])  # told one after the other; the last one stays
    runs: str = ""  # the commit that a running Space runs
    created_with: dict[str, Any] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        return hashlib.sha1("\n".join(self.commits).encode()).hexdigest()


@dataclass
class Trouble:
    """What a request meets whose method and path match: a status, a connection that breaks before anything was done
    (``"break"``), or after it was done, without an answer (``"lost"``)."""

    path: str
    what: int | Literal["break", "lost"]
    method: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""


@dataclass
class Hub:
    """The server's state and what it was asked: (method, path, body's size)."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)  # "spaces/owner/name"
    buckets: dict[str, bool] = field(default_factory=dict)  # whether it is private
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by sha256
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    trouble: list[Trouble] = field(default_factory=list)
    role: str = "write"
    orgs: tuple[str, ...] = ("school",)
    builds: list[str] = field(default_factory=lambda: ["BUILDING", "APP_STARTING", "RUNNING"])
    log: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.RLock)

    def requests(self, method: str, part: str) -> list[tuple[str, str, int]]:
        return [entry for entry in self.asked if entry[0] == method and part in entry[1]]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        trouble = self._trouble()
        if trouble and trouble.what == "break":
            # In the middle of what the client sends, if it sends anything.
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = self._body()
        with self.hub.lock:
            self.hub.asked.append((self.command, self.path, len(body)))
            if self.path.startswith("/lfs/"):  # another company's storage, with addresses that are enough
                assert "Authorization" not in self.headers
            else:
                self.hub.tokens.add(self.headers.get("Authorization", ""))
            if trouble and isinstance(trouble.what, int):
                self._refuse(trouble.what, trouble.message, **trouble.headers)
                return
            self._lost = bool(trouble)
            self._route(urllib.parse.urlsplit(self.path).path.split("/")[1:], body)

    def _trouble(self) -> Trouble | None:
        with self.hub.lock:
            for entry in self.hub.trouble:
                if entry.path in self.path and entry.method in ("", self.command):
                    self.hub.trouble.remove(entry)
                    return entry
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = b""
        while size := int(self.rfile.readline().strip(), 16):
            parts += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return parts

    def _answer(self, status: int, value: object, **headers: str) -> None:
        if self._lost:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        self.send_response(status)
        for name, text in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    _lost = False

    def _refuse(self, status: int, message: str = "", **headers: str) -> None:
        self._answer(status, {"error": message}, **({"X-Error-Message": message} if message else {}), **headers)

    def _route(self, path: list[str], body: bytes) -> None:
        match path:
            case ["api", "whoami-v2"]:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self._refuse(401, "Invalid user token.")
                    return
                token = {"displayName": "deploy", "role": self.hub.role}
                orgs = [{"name": name, "type": "org"} for name in self.hub.orgs]
                self._answer(200, {"name": "me", "type": "user", "orgs": orgs, "auth": {"accessToken": token}})
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "validate-yaml"]:
                content = json.loads(body)["content"]
                front = yaml.safe_load(content.split("---\n")[1])
                self._answer(200 if isinstance(front, dict) else 400, {"errors": [], "warnings": []})
            case ["api", "buckets", owner, name]:
                if f"{owner}/{name}" not in self.hub.buckets:
                    self._refuse(404, "Bucket not found", X_Error_Code="RepoNotFound")
                    return
                private = self.hub.buckets[f"{owner}/{name}"]
                about = {"id": f"{owner}/{name}", "private": private, "createdAt": "2026-11-01T00:00:00.000Z"}
                self._answer(200, {**about, "size": 0, "totalFiles": 0})
            case ["api", kind, owner, name, *rest]:
                repo = self.hub.repos.get(f"{kind}/{owner}/{name}")
                if repo is None:
                    self._refuse(404, "Repository not found", X_Error_Code="RepoNotFound")
                else:
                    self._repo(repo, f"{owner}/{name}", rest, body)
            case ["lfs", digest]:
                assert hashlib.sha256(body).hexdigest() == digest
                self.hub.objects[digest] = body
                self._answer(200, {})
            case [*_, "info", "lfs", "objects", "batch"]:
                self._batch(json.loads(body))
            case [*where, _] if "resolve" in where:
                at = path.index("resolve")
                kind = path[0] if at == 3 else "models"
                self._file(self.hub.repos.get("/".join([kind, *path[at - 2 : at]])), "/".join(path[at + 2 :]))
            case _:
                self._refuse(404, f"nothing at {self.path}")

    def _create(self, asked: dict[str, Any]) -> None:
        kind = f"{asked.get('type', 'model')}s"
        owner, name = asked.get("organization") or "me", asked["name"]
        key = f"{kind}/{owner}/{name}"
        prefix = "" if kind == "models" else f"{kind}/"
        known = key in self.hub.repos
        if not known:
            repo = Repo(kind, private=asked.get("visibility") == "private", created_with=asked)
            repo.files[".gitattributes"] = b"*.gguf filter=lfs\n"
            if kind == "spaces":
                repo.files["README.md"] = b"---\ntitle: x\nsdk: gradio\n---\n"
                repo.variables = {entry["key"]: entry["value"] for entry in asked.get("variables", [])}
                repo.volumes = asked.get("volumes", [])
            repo.commits.append("initial commit")
            repo.sent.append(set(repo.files))
            self.hub.repos[key] = repo
        self._answer(409 if known else 200, {"url": f"{self.hub.url}/{prefix}{owner}/{name}"})

    def _repo(self, repo: Repo, name: str, rest: list[str], body: bytes) -> None:
        match rest:
            case [] | ["revision", _]:
                self._answer(200, self._about(repo, name))
            case ["tree", _]:
                self._answer(200, [self._entry(repo, path) for path in sorted(repo.files)])
            case ["paths-info", _]:
                paths = urllib.parse.parse_qs(body.decode())["paths"]
                self._answer(200, [self._entry(repo, path) for path in paths if path in repo.files])
            case ["preupload", _]:
                self._answer(200, {"files": [self._mode(repo, entry) for entry in json.loads(body)["files"]]})
            case ["commit", _]:
                self._commit(repo, name, [json.loads(line) for line in body.splitlines()])
            case ["variables"]:
                asked = json.loads(body) if body else {}
                if self.command == "POST":
                    repo.variables[asked["key"]] = asked["value"]
                elif self.command == "DELETE":
                    del repo.variables[asked["key"]]
                if asked:
                    repo.stages = ["APP_STARTING", "RUNNING"]
                variables = {key: {"key": key, "value": value} for key, value in repo.variables.items()}
                self._answer(200, variables)
            case ["volumes"]:
                repo.volumes = json.loads(body)["volumes"]
                repo.stages = ["APP_STARTING", "RUNNING"]
                self._answer(200, self._runtime(repo))
            case ["settings"]:
                repo.private = json.loads(body).get("visibility") == "private" or bool(json.loads(body).get("private"))
                self._answer(200, {})
            case ["runtime"]:
                self._answer(200, self._runtime(repo))
                if len(repo.stages) > 1:
                    repo.stages.pop(0)
            case ["logs", _]:
                events = [
                    f"data: {json.dumps({'data': line, 'timestamp': '2026-11-26T00:00:00Z'})}\n\n"
                    for line in self.hub.log
                ]
                self._answer(200, "".join(events).encode(), Content_Type="text/event-stream")
            case _:
                self._refuse(404, f"nothing at {self.path}")

    def _about(self, repo: Repo, name: str) -> dict[str, Any]:
        parts = repo.files.get("README.md", b"").decode().split("---\n")
        front = (yaml.safe_load(parts[1]) if len(parts) > 2 else None) or {}
        return {
            "id": name,
            "sha": repo.sha,
            "private": repo.private,
            "gated": repo.gated,
            "tags": front.get("tags", []),
            "cardData": front,
            "siblings": [{"rfilename": path} for path in sorted(repo.files)],
        }

    def _runtime(self, repo: Repo) -> dict[str, Any]:
        hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
        return {"stage": repo.stages[0], "hardware": hardware, "volumes": repo.volumes}

    def _entry(self, repo: Repo, path: str) -> dict[str, Any]:
        data = repo.files[path]
        entry = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
        if path in repo.large:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def _mode(self, repo: Repo, asked: dict[str, Any]) -> dict[str, Any]:
        path = asked["path"]
        mode = "lfs" if path.endswith(LARGE) else "regular"
        oid = _blob(repo.files[path]) if path in repo.files and mode == "regular" else None
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for entry in asked["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}", "header": {}}}
            objects.append(entry if entry["oid"] in self.hub.objects else {**entry, "actions": action})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo: Repo, name: str, lines: list[dict[str, Any]]) -> None:
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.sha):
            self._refuse(412, "A commit has happened since. Please refresh and try again.")
            return
        sent = set()
        for line in lines[1:]:
            value = line["value"]
            match line["key"]:
                case "file":
                    repo.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    repo.files[value["path"]] = self.hub.objects[value["oid"]]
                    repo.large.add(value["path"])
                case "deletedFile":
                    del repo.files[value["path"]]
            sent.add(value["path"])
        repo.commits.append(header["summary"])
        repo.sent.append(sent)
        repo.stages = list(self.hub.builds)
        address = f"{self.hub.url}/{repo.kind}/{name}/commit/{repo.sha}"
        self._answer(200, {"success": True, "commitOid": repo.sha, "commitUrl": address, "hookOutput": ""})

    def _file(self, repo: Repo | None, path: str) -> None:
        if repo is None or path not in repo.files:
            self._refuse(404, "Entry not found", X_Error_Code="EntryNotFound" if repo else "RepoNotFound")
            return
        data = repo.files[path]
        self._answer(200, data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=repo.sha)


def _blob(data: bytes) -> str:
    """What git calls this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(hub: Hub | None = None) -> Iterator[Hub]:
    """The Hub, listening until the block ends."""
    hub = hub or Hub()
    handler = type("Bound", (Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        hub.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            listening.shutdown()
            thread.join()
