"""The text of a PDF, read by pypdf in a process of its own with limits on memory, time and what it may unpack.

A PDF is a program's input from a stranger: a few kilobytes can unpack to gigabytes, or keep a parser busy for hours.
What is run here as ``python -m iris.notes.pdf FILE`` may do so; Iris itself only reads lines from it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

MAX_PAGES = 2_000
MAX_CHARACTERS = 6_000_000
"""Of a whole file: a page of a book has 2,000 to 3,000."""

MEMORY_BYTES = 1 << 30
CPU_S = 240
"""Processor time, so that a busy machine does not count; 500 pages of lecture notes take ten seconds of it."""

WALL_S = 1_200.0
UNPACKED_BYTES = 30_000_000
"""What one stream of a PDF may unpack to. The page descriptions that text is in are thousands of times smaller."""


def read(path: Path) -> Generator[tuple[int, int], None, dict[str, Any]]:
    """Read a PDF; yields (pages read, pages) and returns what was found. Closing the generator ends the process.

    Returns:
        ``{"pages": [texts], "headings": [headings], "title": str}``, or ``{"error": code}`` with one of the codes
        ``encrypted``, ``broken``, ``pages`` (too many; ``count`` has how many), ``unpacks``, ``text``, ``slow``.
    """
    command = [sys.executable, "-P", "-m", "iris.notes.pdf", str(path)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    expired = threading.Event()

    def end() -> None:
        expired.set()
        child.kill()

    watch = threading.Timer(WALL_S, end)
    watch.daemon = True
    watch.start()
    found: dict[str, Any] = {"pages": [], "headings": [], "title": ""}
    total, complete = 0, False
    try:
        for line in child.stdout:
            message = json.loads(line)
            if "error" in message:
                return dict(message)
            if "count" in message:
                total, found["title"] = message["count"], message["title"]
            elif "text" in message:
                found["pages"].append(message["text"])
                found["headings"].append(message["heading"])
            complete = "end" in message
            yield len(found["pages"]), total
    except ValueError:
        pass  # the last line of a process that was killed
    finally:
        watch.cancel()
        child.kill()
        child.stdout.close()
        code = child.wait()
    if complete:
        return found
    # Killed: for its time (by the kernel, or by the watch), else for its memory.
    return {"error": "slow" if expired.is_set() or -code in _OUT_OF_TIME else "unpacks"}


_OUT_OF_TIME = {24, 9}  # SIGXCPU; SIGKILL comes at the hard limit


def main(path: str) -> None:
    """Print the PDF's text, a page a line, as JSON."""
    _limit()
    from pypdf import PdfReader, overwrite_configuration
    from pypdf.errors import DependencyError, LimitReachedError

    overwrite_configuration(
        zlib_maximum_output_length=UNPACKED_BYTES,
        lzw_maximum_output_length=UNPACKED_BYTES,
        run_length_maximum_output_length=UNPACKED_BYTES,
        array_based_stream_maximum_output_length=UNPACKED_BYTES,
        jbig2dec_binary=None,
    )
    try:
        reader = PdfReader(path)
        # Many lecture notes are encrypted with an empty password, only to forbid printing.
        if reader.is_encrypted and not reader.decrypt(""):
            _fail("encrypted")
        count = len(reader.pages)
    except (DependencyError, NotImplementedError):
        _fail("encrypted")
    except (LimitReachedError, MemoryError):
        _fail("unpacks")
    except Exception:
        _fail("broken")
    if count > MAX_PAGES:
        _fail("pages", count=count)
    title = ""
    headings: dict[int, str] = {}
    with contextlib.suppress(Exception):
        title = str(reader.metadata.title or "") if reader.metadata else ""
    with contextlib.suppress(Exception):
        headings = _headings(reader)
    _say(count=count, title=title[:300])
    characters, failed, heading = 0, 0, ""
    for number in range(count):
        try:
            text = reader.pages[number].extract_text() or ""
        except (LimitReachedError, MemoryError):
            _fail("unpacks")
        except Exception:
            text, failed = "", failed + 1
        characters += len(text)
        if characters > MAX_CHARACTERS:
            _fail("text")
        heading = headings.get(number, heading)
        _say(text=text, heading=heading)
    if count == 0 or failed == count:
        _fail("broken")
    _say(end=True)


def _limit() -> None:
    """Bound this process; it also makes way for those who answer students."""
    import resource

    os.nice(10)
    for name, limit in (
        ("RLIMIT_AS", (MEMORY_BYTES, MEMORY_BYTES)),
        ("RLIMIT_CPU", (CPU_S, CPU_S + 5)),
        ("RLIMIT_FSIZE", (0, 0)),
        ("RLIMIT_CORE", (0, 0)),
    ):
        with contextlib.suppress(ValueError, OSError, AttributeError):  # where the system knows no such limit
            resource.setrlimit(getattr(resource, name), limit)


def _headings(reader: Any) -> dict[int, str]:
    """The title in the PDF's table of contents with which each page begins."""
    found: dict[int, str] = {}
    stack = list(reversed(reader.outline))
    while stack and len(found) < 5_000:
        item = stack.pop()
        if isinstance(item, list):
            stack += reversed(item)
            continue
        with contextlib.suppress(Exception):
            page = reader.get_destination_page_number(item)
            if page is not None:
                found.setdefault(page, str(item.title)[:200])
    return found


def _say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def _fail(code: str, **more: object) -> NoReturn:
    _say(error=code, **more)
    os._exit(0)  # at once: there may be no memory for anything else


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (MemoryError, RecursionError):
        _fail("unpacks")
