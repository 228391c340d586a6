"""Programs that tests start as processes of their own: to be killed, to have no room, to write at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from iris.store import Store
from iris.study import chats
from iris.study.chats import Message

store = Store(Path(sys.argv[1]))
store.student("student")
number = int(sys.argv[2])
while True:
    asked = [Message("user", f"Question {number}?")]
    chat = chats.save(store, "student", chats.new_id(), asked)
    chats.save(store, "student", chat, [*asked, Message("assistant", f"Answer {number}. " * 200)], asked)
    print(number, flush=True)
    number += 1
"""
"""Saves one chat after another; prints each one's number when it is saved."""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run a program of Python; its output can be read as it comes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(code: str, *arguments: object) -> str:
    """Run a program of Python to its end; what it printed."""
    child = start(code, *arguments)
    output, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors
    return output
