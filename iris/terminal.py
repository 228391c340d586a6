"""The study chat in a terminal: streaming, with history and commands. Ctrl-C stops an answer, not the program."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from iris import catalog, prompts, settings
from iris.engine import Engine, Message
from iris.engine.pool import EnginePool
from iris.errors import IrisError
from iris.prompts import Turn
from iris.tools import study_chat

HELP = """\
Type a question and press Enter.
  /model        list the models      /model ID   change the model
  /clear        forget the conversation
  /help         this help            /quit       leave (or Ctrl-D)
Ctrl-C stops an answer."""


def run(question: str | None, *, model: str = "") -> int:
    """Answer one question and return, or chat until the student leaves. Returns the exit status.

    Raises:
        IrisError: the model cannot be opened, or the one question cannot be answered.
    """
    config = settings.load()
    settings.writable_home()
    pool = EnginePool(config, warm=[Message("system", prompts.STUDY_CHAT_SYSTEM)] if question is None else [])
    try:
        chat = _Chat(pool, model or config.model)
        if question is not None:
            if question == "-":
                question = sys.stdin.read()
            chat.ask(question)
            return 130 if chat.stopped else 0
        return chat.loop()
    finally:
        pool.close()


class _Chat:
    """One conversation."""

    def __init__(self, pool: EnginePool, model: str) -> None:
        self._pool = pool
        self._engine: Engine = self._open(model)
        self._turns: list[Turn] = []
        self.stopped = False

    def loop(self) -> int:
        """Read questions and commands until the student leaves; from a pipe, until it ends."""
        shown = sys.stdin.isatty()
        if shown:
            _line_editing()
            print(f"Iris, with {self._engine.model_id}. /help shows the commands.")
        while True:
            # Ctrl-C ends what is being done, never the program: not even a second one, just after the first.
            try:
                line = input("\n› " if shown else "").strip()
                if line in ("/quit", "/exit"):
                    return 0
                if line.startswith("/"):
                    self._command(line)
                elif line:
                    self.ask(line)
            except EOFError:
                if shown:
                    print()
                return 0
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /quit leaves.)")
            except IrisError as error:
                print(f"! {error}", file=sys.stderr)

    def ask(self, question: str) -> None:
        """Print the answer as it is written and remember the turn; Ctrl-C keeps what was written so far."""
        written = ""
        place: int | None = None
        self.stopped = False
        stream = study_chat.stream(self._engine, question, self._turns)
        try:
            for answer in stream:
                print(answer.text[len(written) :], end="", flush=True)
                written = answer.text
                if answer.place and answer.place != place:
                    print(f"(number {answer.place} in line)", file=sys.stderr)
                place = answer.place
                if answer.usage:
                    cut = ("Stopped at the length limit.",) if answer.usage.finish_reason == "length" else ()
                    for notice in (*answer.notices, *cut):
                        print(f"\n({notice})", file=sys.stderr, end="", flush=True)
        except KeyboardInterrupt:
            self.stopped = True
            print(" … (stopped)", end="")
        finally:
            stream.close()
            print(flush=True)
        if written:
            self._turns.append(Turn(question, written))

    def _command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: print(HELP),
            "/clear": self._clear,
            "/model": self._model,
        }
        if name not in commands:
            print(f"There is no command {name}.\n{HELP}")
            return
        commands[name](argument.strip())

    def _clear(self, _: str) -> None:
        self._turns.clear()
        print("A new conversation.")

    def _model(self, name: str) -> None:
        if name:
            self._engine = self._open(name)
            print(f"Now with {self._engine.model_id}.")
            return
        for spec in catalog.models().values():
            mark = "*" if spec.id == self._engine.model_id else " "
            print(f" {mark} {spec.id:34} {spec.title}")

    def _open(self, name: str) -> Engine:
        # In a thread of its own: llama.cpp calls Python back while it loads, and a Ctrl-C that arrives in such a call
        # would be lost.
        opened: list[Engine] = []
        failed: list[BaseException] = []
        stopped = False
        shown = -1

        def progress(done: int, total: int | None) -> None:
            nonlocal shown
            if stopped:
                raise KeyboardInterrupt  # ends the download; what is there stays for the next attempt
            percent = 100 * done // total if total else -1
            if percent != shown:
                shown = percent
                print(f"\rDownloading {name}: {percent} %", end="", file=sys.stderr, flush=True)

        def work() -> None:
            try:
                opened.append(self._pool.get(name, progress))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work, name="iris-open", daemon=True)
        thread.start()
        try:
            thread.join()
        except KeyboardInterrupt:
            stopped = True
            raise
        if shown >= 0:
            print(file=sys.stderr)
        if failed:
            raise failed[0]
        return opened[0]


def _line_editing() -> None:
    """Arrow keys and earlier questions at the prompt, kept between runs."""
    import atexit
    import contextlib

    try:
        import readline
    except ImportError:  # no readline on this system: plain input works too
        return
    file = settings.home() / "chat_history"
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(500)
    atexit.register(_save_history, str(file))


def _save_history(file: str) -> None:
    import contextlib
    import readline

    with contextlib.suppress(OSError):
        readline.write_history_file(file)
