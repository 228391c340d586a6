"""Downloads from a Hub: a real server on this machine that answers as huggingface.co does."""

from __future__ import annotations

import errno
import hashlib
import http.server
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from iris import catalog, hub
from iris.errors import DownloadError, ModelFileError, SettingsError, UnknownModel
from tests.unit.test_gguf_file import STRING, pair, text, tiny

REPO, NAME = "school/course-gguf", "course_q4_k_m.gguf"
ADDRESS = f"hf:{REPO}/{NAME}@main"


def big(size: int = 3 << 20, fill: bytes = b"a") -> bytes:
    """A GGUF of about ``size`` bytes: all of it in one metadata text."""
    return tiny("llama", *[pair(f"filler.{i}", STRING, text(fill * (1 << 20))) for i in range(size >> 20)])


@dataclass
class Hub:
    """What the server has and does; ``requests`` is what it was asked: (method, path, Range, Authorization)."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    announced: dict[str, str] = field(default_factory=dict)  # headers of the answer to HEAD that are not true
    large: bool = True  # kept in the large-file storage, whose etag is the sha256
    refuse: tuple[int, str] | None = None  # status and X-Error-Code
    body: Callable[[bytes], bytes] = bytes  # what is sent in place of the file
    break_after: list[int] = field(default_factory=list)  # bytes after which each of the next answers breaks off
    reset: bool = False  # break off rudely
    pace_s: float = 0.0  # between two pieces of 64 KB
    ignore_range: bool = False
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)

    def asked(self, method: str) -> list[tuple[str, str, str, str]]:
        return [request for request in self.requests if request[0] == method]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def _begin(self) -> bytes | None:
        """Note the request; the file it is about, or None when it was refused."""
        headers = self.headers
        self.hub.requests.append((self.command, self.path, headers.get("Range", ""), headers.get("Authorization", "")))
        repo, _, rest = self.path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        refusal = self.hub.refuse
        if self.path.startswith("/storage/"):
            return self.hub.files[self.path.rsplit("/", 1)[1]]
        elif not refusal and repo != REPO:
            refusal = (401, "RepoNotFound")
        elif not refusal and revision != "main":
            refusal = (404, "RevisionNotFound")
        elif not refusal and name not in self.hub.files:
            refusal = (404, "EntryNotFound")
        if not refusal:
            return self.hub.files[name]
        status, code = refusal
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code or "Invalid credentials in Authorization header")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def do_HEAD(self) -> None:
        data = self._begin()
        if data is None:
            return
        sha256 = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": "0" * 40, "ETag": f'"{sha256[:40]}"', "Content-Length": str(len(data))}
        if self.hub.large:
            headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{sha256}"', "Content-Length": "0"}
            headers["Location"] = (
                f"{self.hub.url.replace('127.0.0.1', 'localhost')}/storage/{self.path.rsplit('/', 1)[1]}"
            )
        self.send_response(302 if self.hub.large else 200)
        for name, value in {**headers, **self.hub.announced}.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        data = self._begin()
        if data is None:
            return
        data, start = self.hub.body(data), 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and not self.hub.ignore_range:
            start = int(wanted[1])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = start + self.hub.break_after.pop(0) if self.hub.break_after else len(data)
        try:
            for at in range(start, min(stop, len(data)), 1 << 16):
                self.wfile.write(data[at : min(at + (1 << 16), stop)])
                time.sleep(self.hub.pace_s)
            if stop < len(data):
                self._break_off()
        except OSError:  # the client left
            self.close_connection = True

    def _break_off(self) -> None:
        self.wfile.flush()
        if self.hub.reset:
            time.sleep(0.2)  # what was sent is to arrive before the reset throws it away
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        if not self.wfile.closed and not self.close_connection:
            super().finish()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    about = Hub(files={NAME: big()})
    handler = type("Bound", (Handler,), {"hub": about})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        about.url = f"http://127.0.0.1:{listening.server_address[1]}"
        monkeypatch.setenv("HF_ENDPOINT", about.url)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield about
        listening.shutdown()
        thread.join()


@pytest.fixture
def folder(home: Path) -> Path:
    """Where the file ends up."""
    return home / "models/school--course-gguf/main"


def fetch(**options: Any) -> Path:
    return hub.fetch(REPO, NAME, "main", **options)


def left(folder: Path) -> set[str]:
    """What lies in the folder, locks apart."""
    return {path.name for path in folder.glob("*") if path.suffix != ".lock"}


# A download that works.


def test_a_file_is_downloaded_once_and_then_used_offline(
    server: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = catalog.resolve(ADDRESS)
    assert files.path == folder / NAME
    assert files.path.read_bytes() == server.files[NAME]
    assert left(folder) == {NAME}
    asked = len(server.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert catalog.resolve(ADDRESS).path == files.path
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert catalog.resolve(ADDRESS).path == files.path
    assert len(server.requests) == asked


def test_progress_goes_from_nothing_to_all(server: Hub) -> None:
    seen: list[tuple[int, int | None]] = []
    server.files[NAME] = data = big(24 << 20)
    fetch(progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, len(data))
    assert seen[-1] == (len(data), len(data))
    assert seen == sorted(seen)
    assert len(seen) > 2, "it is told while the file arrives, not only at the end"


def test_a_small_file_that_the_hub_serves_itself(server: Hub, folder: Path) -> None:
    server.large = False
    assert fetch().read_bytes() == server.files[NAME]
    assert left(folder) == {NAME}


def test_two_revisions_and_two_repositories_do_not_mix(server: Hub) -> None:
    first = fetch()
    with pytest.raises(DownloadError, match="no revision 'refs/pr/1'"):
        hub.fetch(REPO, NAME, "refs/pr/1")
    assert first.read_bytes() == server.files[NAME]
    server.files["deep/other.gguf"] = server.files["other.gguf"] = tiny()
    other = hub.fetch(REPO, "deep/other.gguf", "main")
    assert other.read_bytes() == tiny()
    assert other.parent.parent == first.parent


def test_the_token_goes_to_the_hub_and_not_to_its_storage(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch()
    assert [request[3] for request in server.asked("HEAD")] == ["Bearer hf_secret"]
    assert [request[3] for request in server.asked("GET")] == [""]
    server.large = False
    server.files["small.gguf"] = tiny()
    hub.fetch(REPO, "small.gguf", "main")
    assert server.asked("GET")[-1][3] == "Bearer hf_secret"


# A download that breaks.

KEPT = 10 << 20  # huggingface_hub writes in pieces of this size; what it had of the next one is lost


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server: Hub, folder: Path) -> None:
    server.files[NAME] = big(24 << 20)
    server.break_after = [15 << 20]
    assert fetch().read_bytes() == server.files[NAME]
    assert [request[2] for request in server.asked("GET")] == ["", f"bytes={KEPT}-"]
    assert left(folder) == {NAME}


def test_a_download_that_failed_goes_on_in_the_next_run(server: Hub, folder: Path) -> None:
    server.files[NAME] = big(24 << 20)
    server.break_after, server.reset = [15 << 20], True
    refused(folder, DownloadError, r"broke off at 10\.5 MB .*it goes on where it stopped")
    assert (folder / f"{NAME}.partial").stat().st_size == KEPT
    seen: list[tuple[int, int | None]] = []
    assert fetch(progress=lambda *step: seen.append(step)).read_bytes() == server.files[NAME]
    assert server.asked("GET")[-1][2] == f"bytes={KEPT}-"
    assert seen[0] == (KEPT, len(server.files[NAME]))
    assert left(folder) == {NAME}


PROGRAM = "import sys; from iris import hub; print(hub.fetch(*sys.argv[1:]))"


def in_a_process(**variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, REPO, NAME, "main"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_a_killed_process_leaves_what_the_next_one_continues(server: Hub, folder: Path) -> None:
    server.files[NAME] = big(30 << 20)
    server.break_after, server.pace_s = [25 << 20], 0.005
    partial = folder / f"{NAME}.partial"
    killed = in_a_process()
    wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    have = partial.stat().st_size
    assert NAME not in left(folder)
    server.break_after, server.pace_s = [], 0.0
    assert fetch().read_bytes() == server.files[NAME]
    assert server.asked("GET")[-1][2] == f"bytes={have}-"


def test_a_server_that_knows_no_ranges_is_asked_from_the_start(server: Hub) -> None:
    server.files[NAME] = big(24 << 20)
    server.break_after, server.reset, server.ignore_range = [15 << 20], True, True
    with pytest.raises(DownloadError):
        fetch()
    seen: list[tuple[int, int | None]] = []
    assert fetch(progress=lambda *step: seen.append(step)).read_bytes() == server.files[NAME]
    assert seen[-1] == (len(server.files[NAME]), len(server.files[NAME]))


def test_a_file_that_changed_on_the_hub_is_started_anew(server: Hub) -> None:
    server.files[NAME] = big(24 << 20)
    server.break_after, server.reset = [15 << 20], True
    with pytest.raises(DownloadError):
        fetch()
    server.files[NAME] = changed = big(24 << 20, fill=b"b")
    assert fetch().read_bytes() == changed
    assert server.asked("GET")[-1][2] == ""


def test_two_processes_at_once_download_once(server: Hub, folder: Path) -> None:
    server.pace_s = 0.02
    both = [in_a_process(), in_a_process()]
    printed = [process.communicate(timeout=60) for process in both]
    assert [out.strip() for out, _ in printed] == [str(folder / NAME)] * 2, printed
    assert (folder / NAME).read_bytes() == server.files[NAME]
    assert len(server.asked("GET")) == 1


# A download of the wrong thing.


def refused(folder: Path, kind: type[Exception], complaint: str, **options: Any) -> str:
    """Fetch, which must fail in one line and leave nothing that would be served."""
    with pytest.raises(kind, match=complaint) as error:
        fetch(**options)
    assert NAME not in left(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_damaged_file_is_thrown_away(server: Hub, folder: Path) -> None:
    server.body = lambda data: data[:-1] + b"\xff"
    refused(folder, ModelFileError, f"{NAME} of {REPO} was damaged on the way")
    server.body = bytes
    assert fetch().read_bytes() == server.files[NAME]
    assert server.asked("GET")[-1][2] == "", "nothing of the damaged file is used"


def test_a_page_in_place_of_the_file(server: Hub, folder: Path) -> None:
    server.files[NAME] = b"<!DOCTYPE html><html><body>Log in to the campus network</body></html>"
    message = refused(folder, ModelFileError, "is not a GGUF file: it begins with b'<!DO'")
    assert message.startswith(f"{NAME} of {REPO}")
    assert ".partial" not in message
    assert left(folder) == set()


def test_a_portal_that_answers_for_the_hub(server: Hub, folder: Path) -> None:
    """It answers everything with its own page, so that no size or sha256 gives it away."""
    server.large = False
    server.files[NAME] = page = b"<html>Welcome to the campus network</html>"
    server.announced = {"Content-Length": str(len(page)), "ETag": "", "X-Repo-Commit": ""}
    refused(folder, ModelFileError, "is not a GGUF file")


def test_a_truncated_upload_is_refused(server: Hub, folder: Path) -> None:
    server.files[NAME] = big()[:-1]
    message = refused(folder, ModelFileError, "truncated")
    assert "ask the owner" in message
    assert left(folder) == set()


def test_a_file_shorter_than_announced(server: Hub, folder: Path) -> None:
    server.body = lambda data: data[: 1 << 20]
    refused(folder, DownloadError, "broke off at 1.0 MB")
    refused(folder, DownloadError, "416")
    server.body = bytes
    assert fetch().read_bytes() == server.files[NAME], "and it does not stay so for ever"


def test_a_file_longer_than_announced(server: Hub, folder: Path) -> None:
    server.body = lambda data: data + b"more"
    refused(folder, DownloadError, "broke off")
    server.body = bytes
    assert fetch().read_bytes() == server.files[NAME]


def test_an_empty_file(server: Hub, folder: Path) -> None:
    server.files[NAME] = b""
    refused(folder, ModelFileError, "is not a GGUF file")


def test_the_catalogs_sha256_is_checked(server: Hub, folder: Path) -> None:
    right = hashlib.sha256(server.files[NAME]).hexdigest()
    message = refused(folder, ModelFileError, "not the file that the catalog describes", sha256="0" * 64)
    assert right in message
    assert "models.toml" in message
    assert left(folder) == set()
    assert fetch(sha256=right.upper()).read_bytes() == server.files[NAME]


def test_a_new_sha256_in_the_catalog_brings_the_new_file(server: Hub) -> None:
    first, second = server.files[NAME], big(fill=b"b")
    for known in ("", hashlib.sha256(first).hexdigest()):
        assert fetch(sha256=known).read_bytes() == first
    server.files[NAME] = second
    assert fetch().read_bytes() == first, "a moved branch alone brings no surprise"
    assert fetch(sha256=hashlib.sha256(second).hexdigest()).read_bytes() == second
    assert len(server.asked("GET")) == 2


def test_a_file_deleted_by_hand_leaves_no_memory_of_its_sha256(server: Hub) -> None:
    first, second = server.files[NAME], big(fill=b"b")
    fetch(sha256=hashlib.sha256(first).hexdigest()).unlink()
    server.files[NAME] = second
    assert fetch().read_bytes() == second
    assert fetch(sha256=hashlib.sha256(second).hexdigest()).read_bytes() == second
    assert len(server.asked("GET")) == 2, "it is known to be the right one"


# A Hub that says no, or nothing.


@pytest.mark.parametrize(
    ("repo", "name", "revision", "complaint"),
    [
        ("school/other", NAME, "main", r"There is no repository school/other, or it is private.*HF_TOKEN"),
        (REPO, "other.gguf", "main", rf"{REPO} has no file other\.gguf at revision 'main'"),
        (REPO, NAME, "v2", rf"{REPO} has no revision 'v2'"),
    ],
)
def test_what_is_not_there_is_named(server: Hub, repo: str, name: str, revision: str, complaint: str) -> None:
    with pytest.raises(DownloadError, match=complaint):
        hub.fetch(repo, name, revision)
    assert server.asked("GET") == []


@pytest.mark.parametrize(
    ("status", "code", "complaint"),
    [
        (401, "GatedRepo", rf"{REPO} asks you to accept its licence first: open http://\S+/{REPO}, .*HF_TOKEN"),
        (403, "GatedRepo", "accept its licence"),
        (401, "", "does not accept HF_TOKEN"),
        (403, "Forbidden", "refused .* 403 Forbidden"),
        (429, "", r"busy \(status 429\)"),
        (503, "", r"busy \(status 503\)"),
        (400, "Odd", "refused"),
    ],
)
def test_what_the_hub_refuses_is_explained(server: Hub, folder: Path, status: int, code: str, complaint: str) -> None:
    server.refuse = (status, code)
    refused(folder, DownloadError, complaint)


def test_a_server_that_is_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    message = refused(folder, DownloadError, "cannot be reached")
    assert "http://127.0.0.1:9" in message
    assert "iris-id2223 works offline" in message


def test_a_name_that_does_not_resolve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    refused(folder, DownloadError, "cannot be reached")


def test_offline_mode_asks_nobody(server: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(folder, DownloadError, f"{NAME} of {REPO} is not on this machine and HF_HUB_OFFLINE forbids")
    assert server.requests == []


def test_a_malformed_address_asks_nobody(server: Hub) -> None:
    with pytest.raises(UnknownModel):
        catalog.resolve("hf:school/../../secret/x.gguf@main")
    assert server.requests == []


# A disk that is full.


def test_a_disk_that_is_too_small_is_found_before_the_download(
    server: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50_000_000))
    message = refused(folder, DownloadError, "Not enough disk space")
    assert "3.1 MB are missing and 50.0 MB are free" in message
    assert "IRIS_HOME" in message
    assert server.asked("GET") == []


def test_a_disk_that_fills_up_meanwhile(server: Hub, folder: Path) -> None:
    """/dev/full takes no byte: a real "No space left on device"."""
    folder.mkdir(parents=True)
    sha256 = hashlib.sha256(server.files[NAME]).hexdigest()
    (folder / f"{NAME}.partial").symlink_to("/dev/full")
    (folder / f"{NAME}.partial.etag").write_text(sha256)
    message = refused(folder, DownloadError, "The disk is full")
    assert "goes on where it stopped" in message


LIMITED = """
import resource, signal, sys
from iris import hub
from iris.errors import DownloadError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    hub.fetch(*sys.argv[1:])
except DownloadError as error:
    print(error)
"""


def test_a_file_larger_than_the_system_allows(server: Hub, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, REPO, NAME, "main"], capture_output=True, text=True, timeout=60
    )
    assert os.strerror(errno.EFBIG) in done.stdout, done.stderr
    assert NAME not in left(folder)
    assert server.asked("GET")


def test_a_state_folder_that_takes_no_folder(server: Hub, home: Path) -> None:
    home.mkdir()
    (home / "models").touch()
    with pytest.raises(DownloadError, match="cannot be stored"):
        fetch()
    (home / "models").unlink()
    home.rmdir()
    home.touch()
    with pytest.raises(SettingsError, match="IRIS_HOME"):
        fetch()
    assert server.asked("GET") == []
