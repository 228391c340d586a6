"""``python -m iris``: the commands as a person at a keyboard meets them. Each test starts the real program."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import http.server
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from iris import __version__, catalog
from tests.unit.test_gguf_file import tiny

SECONDS = 90  # for anything a program is waited for: the machine may be busy


@pytest.fixture(autouse=True)
def base_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default model's adapter is worked into a copy first, for which a new state folder makes each test wait."""
    monkeypatch.setenv("IRIS_MODEL", "smollm2-135m")


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    variables = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.Popen(
        [sys.executable, "-m", "iris", *arguments],
        env={**variables, **options.pop("env", {})},
        stdin=options.pop("stdin", subprocess.PIPE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without job control lets its background programs ignore Ctrl-C, and tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def iris(*arguments: str, stdin: str = "", **variables: str) -> tuple[int, str, str]:
    """Run to the end: exit status, output, error output."""
    process = start(*arguments, env=variables)
    out, err = process.communicate(stdin, timeout=SECONDS)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def complaint(*arguments: str, **variables: str) -> str:
    """The one line with which a command is refused."""
    status, out, err = iris(*arguments, **variables)
    assert (status, out) == (2, ""), err
    assert err.startswith("iris: ")
    assert err.count("\n") == 1, err
    return err


# Short commands.


def test_version() -> None:
    assert iris("--version") == (0, f"iris {__version__}\n", "")


def test_help_names_the_commands() -> None:
    status, out, _ = iris("--help")
    assert status == 0
    for word in ("serve", "chat", "models", "--port", "--host", "--model", "IRIS_PORT"):
        assert word in out


def test_models_lists_every_row(home: Path) -> None:
    home.mkdir()
    (home / "models.toml").write_text('[[models]]\nid = "our-course"\ntitle = "Our course"\nsource = "x.gguf"\n')
    status, out, err = iris("models")
    assert (status, err) == (0, "")
    for spec in catalog.models().values():
        assert re.search(rf"^{re.escape(spec.id)} +{re.escape(spec.title)}$", out, re.MULTILINE)
        assert spec.source in out


def test_models_into_a_pipe_that_closes() -> None:
    process = start("models")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(SECONDS) in (0, 141)
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()


# What is refused, in one line and without a traceback.


@pytest.mark.parametrize("command", [["serve"], [], ["chat", "Hello?"]])
def test_an_unknown_model_lists_the_known_ones(command: list[str]) -> None:
    message = complaint("--model", "nope", *command)
    assert "There is no model 'nope'" in message
    for name in catalog.models():
        assert name in message
    assert complaint(*command, IRIS_MODEL="nope") == message


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"IRIS_PORT": "http"}, "IRIS_PORT must be a whole number, not 'http'."),
        ({"IRIS_PORT": "70000"}, "IRIS_PORT must be between 0 and 65535, not 70000."),
        ({"IRIS_SLOTS": "0"}, "IRIS_SLOTS must be between 1 and 64, not 0."),
        ({"IRIS_CONTEXT": "8192", "IRIS_CACHE": "4096"}, "IRIS_CACHE (4096) must be at least IRIS_CONTEXT (8192)"),
        ({"IRIS_HOST": "no.such.host.invalid"}, "'no.such.host.invalid' is no address of this machine"),
        ({"IRIS_HOST": "http://127.0.0.1"}, "is no address of this machine"),
        ({"IRIS_HOST": "192.0.2.1"}, "'192.0.2.1' is no address of this machine. Use --host 127.0.0.1"),
        ({"IRIS_HOME": "~no-such-user"}, "Set IRIS_HOME"),
        ({"IRIS_HOME": "/proc/iris"}, "Iris cannot write to its state folder /proc/iris"),
    ],
)
def test_a_setting_that_cannot_be_used(variables: dict[str, str], said: str) -> None:
    assert said in complaint(**variables)


@pytest.mark.parametrize("command", ["serve", "chat", "models"])
def test_a_file_in_place_of_the_state_folder(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    message = complaint(command, IRIS_HOME=str(tmp_path / "file"))
    assert str(tmp_path / "file") in message


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_is_none(port: str) -> None:
    assert f"The port must be between 0 and 65535, not {port}." in complaint("--port", port)


def test_arguments_that_are_none() -> None:
    for arguments in (["--port", "http"], ["bogus"], ["chat", "one", "two"], ["models", "--port", "1"]):
        status, out, err = iris(*arguments)
        assert (status, out) == (2, "")
        assert "usage: iris" in err


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = complaint("--port", str(port))
        assert f"Port {port} on 127.0.0.1 is in use" in message
        assert f"open http://127.0.0.1:{port};" in message
        assert "--port 0" in message
        assert f"Port {port} on 0.0.0.0 is in use" in complaint("--host", "0.0.0.0", IRIS_PORT=str(port))


def test_a_port_that_is_taken_while_the_model_loads() -> None:
    """Stood for by one that is free on this address, but not where Gradio looks."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"Port {port} on 127.0.0.2 is in use" in complaint("--host", "127.0.0.2", "--port", str(port))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("page.gguf", b"<html>", "is not a GGUF file: it begins with b'<htm'"),
        ("cut.gguf", tiny()[:-1], "is truncated: it has"),
        ("odd.gguf", tiny("wav2vec9"), "llama.cpp does not know the model architecture 'wav2vec9'."),
        ("bare.gguf", tiny(), "cannot be loaded:"),
    ],
)
def test_a_model_file_that_cannot_be_served(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    message = complaint("chat", "Hello?", "--model", str(tmp_path / name))
    assert name in message
    assert said in message


def test_the_app_does_not_start_on_a_broken_model(tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny()[:-1])
    assert "is truncated" in complaint("--port", "0", "--model", str(tmp_path / "cut.gguf"))


def test_a_hub_that_cannot_be_reached() -> None:
    message = complaint("chat", "Hello?", "--model", "hf:a/b/c.gguf", HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in message
    assert "iris-id2223 works offline" in message


def test_an_engine_that_cannot_be_reached() -> None:
    assert "Check IRIS_ENGINE_URL" in complaint("chat", "Hello?", IRIS_ENGINE_URL="http://127.0.0.1:9")


# One question, one answer.


def test_one_question_one_answer() -> None:
    status, out, err = iris("chat", "What is a neural network? Answer in one short sentence.")
    assert (status, err) == (0, "")
    assert re.search("network|learn|data", out), out
    assert out.endswith("\n")
    assert "›" not in out


def test_a_question_from_a_pipe() -> None:
    status, out, err = iris("chat", "-", stdin="Name one planet.\nOnly its name.\n")
    assert (status, err) == (0, "")
    assert out.strip()


@pytest.mark.parametrize("question", ["", " \n", "\x00\x1b"])
def test_an_empty_question(engine_server: EngineServer, question: str) -> None:
    status, out, err = iris("chat", "-", stdin=question, IRIS_ENGINE_URL=engine_server.url)
    assert (status, out.strip()) == (2, "")
    assert err == "iris: There is no question. Write one and send it again.\n"


def test_ctrl_c_while_one_question_is_answered() -> None:
    process = start("chat", "Count from one to a thousand, in words.")
    assert process.stdout is not None
    first = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert (first + out).endswith("(stopped)\n")
    assert err == ""


@pytest.mark.parametrize("after_s", [0.3, 0.6])
def test_ctrl_c_while_the_model_is_opened(after_s: float) -> None:
    process = start("chat", "Count from one to a thousand, in words.")
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    # On a busy machine it may meet Python before the program began, or the answer after it began.
    assert process.returncode in (130, 1, -signal.SIGINT), "it is never lost"
    assert not out or out.endswith(" … (stopped)\n")
    assert err == "" or process.returncode != 130


def test_a_reader_that_leaves() -> None:
    process = start("chat", "Count from one to a thousand, in words.")
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.wait(SECONDS) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()


# A conversation.


@dataclass
class EngineServer:
    """An OpenAI-compatible server that notes the conversations it is sent. ``endless``: it never stops answering."""

    url: str = ""
    conversations: list[list[tuple[str, str]]] = field(default_factory=list)
    endless: bool = False
    left: threading.Event = field(default_factory=threading.Event)  # a client broke off


class EngineHandler(http.server.BaseHTTPRequestHandler):
    server_state: EngineServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = json.dumps({"object": "list", "data": [{"id": "course-7b", "object": "model"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        state = self.server_state
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state.conversations.append([(m["role"], m["content"]) for m in request["messages"]])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self._say(f"Answer {len(state.conversations)}.")
            while state.endless:
                self._say(" more")
                time.sleep(0.02)
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            state.left.set()

    def _say(self, text: str) -> None:
        self._event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})

    def _event(self, data: dict[str, Any]) -> None:
        common = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "course-7b"}
        self.wfile.write(f"data: {json.dumps({**common, **data})}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def engine_server() -> Iterator[EngineServer]:
    state = EngineServer()
    handler = type("Bound", (EngineHandler,), {"server_state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        state.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        state.endless = False
        listening.shutdown()
        thread.join()


def test_a_conversation_from_a_pipe(engine_server: EngineServer) -> None:
    """No prompt, no banner: only the answers. Commands work."""
    lines = "What is A?\n\nAnd B?\n/nope\n/clear\nWhat is C?\n/quit\nnever asked\n"
    status, out, err = iris("chat", stdin=lines, IRIS_ENGINE_URL=engine_server.url)
    assert (status, err) == (0, "")
    assert out.startswith("Answer 1.\nAnswer 2.\nThere is no command /nope.\n")
    assert out.endswith("A new conversation.\nAnswer 3.\n")
    first, second, third = engine_server.conversations
    assert [role for role, _ in first] == ["system", "user"]
    assert second[1:] == [("user", "What is A?"), ("assistant", "Answer 1."), ("user", "And B?")]
    assert third[1:] == [("user", "What is C?")], "/clear forgets"


def test_a_pipe_that_is_not_utf8(engine_server: EngineServer) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "iris", "chat"],
        input=b"caf\xe9?\n",
        env={**os.environ, "IRIS_ENGINE_URL": engine_server.url},
        capture_output=True,
        timeout=SECONDS,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, b"Answer 1.\n", b"")
    assert engine_server.conversations[0][-1] == ("user", "caf\ufffd?")


def test_an_error_does_not_end_the_conversation(engine_server: EngineServer) -> None:
    status, out, err = iris("chat", stdin="x" * 60_000 + "\nHello?\n", IRIS_ENGINE_URL=engine_server.url)
    assert status == 0
    assert err.startswith("! This message is too long: it has 60,000 characters")
    assert out.strip() == "Answer 1."


class Terminal:
    """A program with a terminal of its own, and a person who types and reads."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.master, slave = pty.openpty()

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "iris", *arguments],
            env={**os.environ, "TERM": "dumb", **variables},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=own_terminal,
        )
        os.close(slave)
        self.screen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read(self, pattern: str) -> str:
        """Read until the pattern appears; what was read up to its end is returned and taken off the screen."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.screen, re.DOTALL)):
            assert time.monotonic() < deadline, f"waited for {pattern!r}, saw {self.screen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    data = os.read(self.master, 4096)
                except OSError:  # the program has ended
                    data = b""
                assert data, f"it ended; waited for {pattern!r}, saw {self.screen!r}"
                self.screen += self._decoder.decode(data).replace("\r", "")
        text, self.screen = self.screen[: found.end()], self.screen[found.end() :]
        return text

    def ends(self) -> int:
        """Its exit status, once it has ended; what it still printed stays on the screen."""
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 4096):
                self.screen += self._decoder.decode(data)
        status = self.process.wait(SECONDS)
        assert "Traceback" not in self.screen
        return status

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


CTRL_C, CTRL_D = "\x03", "\x04"


def test_a_conversation_at_the_keyboard(engine_server: EngineServer, home: Path) -> None:
    with Terminal("chat", IRIS_ENGINE_URL=engine_server.url) as terminal:
        terminal.read(r"Iris, with course-7b\. /help shows the commands\.\n\n› ")
        terminal.type("What is A?\n")
        terminal.read(r"Answer 1\.\n\n› ")
        terminal.type("And B?\n")
        terminal.read(r"Answer 2\.\n\n› ")
        terminal.type("/model\n")
        listed = terminal.read("\n\n› ")
        assert all(name in listed for name in catalog.models())
        terminal.type("/help\n")
        assert "/clear" in terminal.read("\n\n› ")
        terminal.type("/clear\n")
        terminal.read(r"A new conversation\.\n\n› ")
        terminal.type("What is C?\n")
        terminal.read(r"Answer 3\.\n\n› ")
        terminal.type(CTRL_D)
        assert terminal.ends() == 0
    assert [len(conversation) for conversation in engine_server.conversations] == [2, 4, 2]
    history = (home / "chat_history").read_text()
    assert "What is A?" in history, "and the next run offers it with the arrow keys"
    with Terminal("chat", IRIS_ENGINE_URL=engine_server.url, TERM="xterm") as terminal:
        terminal.read("› ")
        terminal.type("\x1b[A\x1b[A\n")  # up, up: past "What is C?"
        terminal.read("A new conversation")
        terminal.type("/quit\n")
        assert terminal.ends() == 0


def test_ctrl_c_stops_an_answer_and_not_the_program(engine_server: EngineServer) -> None:
    engine_server.endless = True
    with Terminal("chat", IRIS_ENGINE_URL=engine_server.url) as terminal:
        terminal.read("› ")
        terminal.type("Go on for ever.\n")
        terminal.read(r"Answer 1\. more more")
        terminal.type(CTRL_C)
        terminal.read(r"… \(stopped\)\n\n› ")
        assert engine_server.left.wait(SECONDS), "the server stops writing, too"
        terminal.type(CTRL_C)  # at the prompt
        terminal.read(r"\(Ctrl-D or /quit leaves\.\)\n\n› ")
        terminal.type(f"half a line{CTRL_C}")
        terminal.read(r"leaves\.\)\n\n› ")
        engine_server.endless = False
        terminal.type("And now?\n")
        terminal.read(r"Answer 2\.\n\n› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0
    role, answer = engine_server.conversations[1][2]
    assert (role, answer[:14]) == ("assistant", "Answer 1. more"), "what was written so far is remembered"


def test_ctrl_c_again_and_again(engine_server: EngineServer) -> None:
    engine_server.endless = True
    with Terminal("chat", IRIS_ENGINE_URL=engine_server.url) as terminal:
        terminal.read("› ")
        for _ in range(5):
            terminal.type("Go on.\n")
            terminal.read("more more")
            for _ in range(3):
                terminal.type(CTRL_C)
            terminal.read("› ")
        engine_server.endless = False
        time.sleep(0.3)  # a late one may still be on its way
        terminal.type("\nStill there?\n")
        terminal.read(r"Answer \d+\.\n\n› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0


def test_the_built_in_model_at_the_keyboard() -> None:
    with Terminal("chat", IRIS_MODEL="") as terminal:
        terminal.read(r"Iris, with iris-id2223.*› ")
        terminal.type("Count from one to a thousand, in words.\n")
        terminal.read(r"words\.\n.*[a-z]{3}")
        terminal.type(CTRL_C)
        terminal.read(r"… \(stopped\)\n\n› ")
        terminal.type("/model no-such-model\n")
        assert "There is no model 'no-such-model'. Known are: iris-id2223, smollm2-135m" in terminal.read("\n\n› ")
        terminal.type("/model smollm2-135m\n")
        terminal.read(r"Now with smollm2-135m\.\n\n› ")
        terminal.type("Name a planet.\n")
        terminal.read(r"planet\.\n.*[A-Za-z]{3}.*\n\n› ")
        terminal.type("/quit\n")
        assert terminal.ends() == 0


# The app, as far as starting and stopping it. What it does between is tested in e2e and browser.


@contextlib.contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running app and the address it printed."""
    process = start(*arguments, env=variables)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"Iris is running at (http://\S+)", line)
        assert found, f"{line!r} {process.communicate(timeout=5)}"
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def page(url: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=SECONDS) as answer:
        return str(answer.read().decode())


def test_port_0_finds_a_free_port_and_ctrl_c_ends_the_app() -> None:
    # A proxy that leads nowhere, as on many a campus, must not come between the app and itself.
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}
    with serving("--port", "0", **proxies) as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", url)
        assert "Iris" in page(url)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out.strip(), err) == (0, "Goodbye.", "")


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with serving("serve", "--port", "0", "--host", "0.0.0.0") as (process, url):
        assert url.startswith("http://127.0.0.1:"), "an address that a browser on this machine can open"
        assert "Iris" in page(url)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while "Goodbye" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
        assert process.returncode in (0, -signal.SIGINT)
        assert err == ""


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_an_ipv6_address_and_the_end_by_docker_stop() -> None:
    with serving("--host", "::1", IRIS_PORT="0") as (process, url):
        assert re.fullmatch(r"http://\[::1\]:\d+", url)
        assert "Iris" in page(url)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, out.strip(), err) == (0, "Goodbye.", "")
