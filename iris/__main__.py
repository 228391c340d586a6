"""``python -m iris`` serves the app; ``python -m iris chat`` is the chat in a terminal.

``… models`` lists models, ``… backup FILE`` copies what Iris remembers.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

from iris import __version__
from iris.errors import IrisError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the process's exit status. Errors that Iris raises on purpose become one line."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for stream in (sys.stdin, sys.stdout, sys.stderr):  # a character that cannot be read or shown ends no conversation
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        if options.command == "chat":
            from iris import terminal

            return terminal.run(options.question, model=options.model)
        if options.command == "models":
            return _models()
        if options.command == "backup":
            from iris import backup

            return backup.run(options.file)
        from iris import serve

        return serve.run(host=options.host, port=options.port, model=options.model)
    except IrisError as error:
        print(f"iris: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="iris", description="A course tutor that runs on two CPU cores.")
    parser.add_argument("--version", action="version", version=f"iris {__version__}")
    parser.set_defaults(host="", port=None, model="")
    commands = parser.add_subparsers(dest="command", metavar="command")
    serve = commands.add_parser("serve", help="serve the app (also without a command)")
    chat = commands.add_parser("chat", help="chat in the terminal, or answer one question and exit")
    chat.add_argument("question", nargs="?", help="answer this question and exit")
    commands.add_parser("models", help="list the models Iris knows")
    backup = commands.add_parser("backup", help="copy what Iris remembers to a file, also while it is running")
    backup.add_argument("file", help="where to; an earlier backup there is replaced")
    keep = argparse.SUPPRESS  # a value given before the command is not overwritten by the command's default
    for command in (parser, serve):
        command.add_argument("--host", default=keep, help="address to listen on (IRIS_HOST, 127.0.0.1)")
        command.add_argument("--port", type=int, default=keep, help="port to listen on (IRIS_PORT, 7860)")
    for command in (parser, serve, chat):
        command.add_argument(
            "--model", default=keep, help="catalog id, path of a .gguf, or hf:owner/repo/file.gguf@rev"
        )
    return parser


def _models() -> int:
    from iris import catalog

    for spec in catalog.models().values():
        print(f"{spec.id:34} {spec.title}\n{'':34} {spec.source}")
        if spec.description:
            print(f"{'':34} {spec.description}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
