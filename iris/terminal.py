"""The study chat in a terminal: streaming, with history and commands. Ctrl-C stops an answer, not the program."""

from __future__ import annotations

import sys
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
        _line_editing()
        print(f"Iris, with {self._engine.model_id}. /help shows the commands.")
        while True:
            try:
                line = input("\n› ").strip()
            except EOFError:
                print()
                return 0
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /quit leaves.)")
                continue
            if not line:
                continue
            try:
                if line in ("/quit", "/exit"):
                    return 0
                self._command(line) if line.startswith("/") else self.ask(line)
            except IrisError as error:
                print(f"! {error}")

    def ask(self, question: str) -> None:
        """Print the answer as it is written and remember the turn; Ctrl-C keeps what was written so far."""
        written = ""
        self.stopped = False
        stream = study_chat.stream(self._engine, question, self._turns)
        try:
            for answer in stream:
                print(answer.text[len(written) :], end="", flush=True)
                written = answer.text
                if answer.place:
                    print(f"(number {answer.place} in line)", file=sys.stderr)
                if answer.usage:
                    for notice in answer.notices:
                        print(f"\n({notice})", file=sys.stderr, end="")
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
        shown = -1

        def progress(done: int, total: int | None) -> None:
            nonlocal shown
            percent = 100 * done // total if total else -1
            if percent != shown:
                shown = percent
                print(f"\rDownloading {name}: {percent} %", end="", file=sys.stderr, flush=True)

        engine = self._pool.get(name, progress)
        if shown >= 0:
            print(file=sys.stderr)
        return engine


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
