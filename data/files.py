"""Files of rows, read as streams; and files written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from iris.errors import IrisError

MAX_ROW = 16 << 20  # bytes of one row; more is a file of another kind, and would not fit in a model either
_CHUNK = 1 << 20
_HEADING = re.compile(r"= ([^=].*[^=]) =")  # of a WikiText article; == and === are its sections
_NO_ROWS = {"manifest.json", "dataset_info.json", "dataset_infos.json", "state.json"}  # beside rows, but not rows
_SPACE = re.compile(r"[ \t\r\n]*")


class DataError(IrisError):
    """Data cannot be read or built; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Broken:
    """In place of a row: why there is none."""

    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it stands in a file; ``line`` counts from 1 (rows, where a file has no lines)."""

    value: object
    file: str
    line: int


def records(path: Path, inputs: list[dict[str, Any]]) -> Iterator[Record]:
    """The rows of a file, or of all files of a known kind in a folder, in the order of their names.

    Raises:
        DataError: a file is missing, empty, of an unknown kind, or broken in a way that hides where its rows begin.
    """
    if path.is_dir():
        paths = [file for file in sorted(path.iterdir()) if file.suffix in READERS and file.name not in _NO_ROWS]
        if not paths:
            raise DataError(f"{path}: there are no {', '.join(READERS)} files in this folder.")
    else:
        paths = [path]
    for file in paths:
        reader = READERS.get(file.suffix.lower())
        if reader is None:
            raise DataError(f"{file}: files of kind {file.suffix!r} cannot be read; known are {', '.join(READERS)}.")
        try:
            size = file.stat().st_size
            if size == 0:
                raise DataError(f"{file}:1: the file is empty.")
            inputs.append({"path": str(file), "bytes": size, "sha256": sha256(file)})
            yield from reader(file)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error


def _lines(path: Path) -> Iterator[tuple[int, str | Broken]]:
    """The lines of a UTF-8 file without their ends, numbered from 1."""
    with path.open("rb") as file:
        start = file.read(4)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path}:1: the file is UTF-16 (or UTF-32), not UTF-8. Save it as UTF-8.")
        file.seek(3 if start.startswith(b"\xef\xbb\xbf") else 0)
        number = 0
        while line := file.readline(MAX_ROW):
            number += 1
            if len(line) == MAX_ROW and not line.endswith(b"\n"):
                raise DataError(
                    f"{path}:{number}: the line is longer than {MAX_ROW >> 20} MB; this is no file of rows."
                )
            try:
                yield number, line.rstrip(b"\r\n").decode()
            except UnicodeDecodeError as error:
                yield number, Broken(f"byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8")


def _jsonl(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        if isinstance(line, Broken):
            yield Record(line, str(path), number)
        elif line.strip():
            try:
                yield Record(json.loads(line), str(path), number)
            except (ValueError, RecursionError) as error:
                yield Record(Broken(f"this is not valid JSON: {error}"), str(path), number)


def _text(path: Path) -> Iterator[Record]:
    topic = ""
    for number, line in _lines(path):
        if isinstance(line, Broken):
            yield Record(line, str(path), number)
        elif heading := _HEADING.fullmatch(line.strip()):
            topic = heading[1]
        elif line.strip():
            yield Record({"text": line.strip(), "topic": topic}, str(path), number)


def _json(path: Path) -> Iterator[Record]:
    """A JSON array, one row at a time; a file of one object a line is read as JSONL."""
    with path.open("rb") as file:
        first = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first != b"[":
        yield from _jsonl(path)
        return
    with path.open(encoding="utf-8-sig", newline="") as text:
        yield from _Array(path, text).rows()


class _Array:
    """Cuts a JSON array in its elements while it is read."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._text = ""
        self._at = 0
        self._line = 1
        self._decode = json.JSONDecoder().raw_decode

    def rows(self) -> Iterator[Record]:
        self._take("[")
        if self._peek() == "]":
            return
        while True:
            self._peek()
            value, end = self._element()
            line = self._line
            self._move(end)
            if self._peek() not in (",", "]"):
                self._fail("there must be a comma or ] after a row")
            yield Record(value, str(self._path), line)
            if self._peek() == "]":
                return
            self._take(",")

    def _element(self) -> tuple[object, int]:
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # a number may go on in the next chunk
                    return value, end
            except RecursionError:
                self._fail("this row is nested too deeply")
            except ValueError as error:
                if len(self._text) - self._at > MAX_ROW or not self._more():
                    self._fail(f"this is not valid JSON: {error}")

    def _peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._move(space.end() if space else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            self._fail(f"expected {expected!r}")
        self._move(self._at + 1)

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        try:
            chunk = self._file.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise DataError(f"{self._path}:{self._line}: at or after this line {error}. Save it as UTF-8.") from error
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _fail(self, reason: str) -> None:
        raise DataError(f"{self._path}:{self._line}: {reason}.")


def _parquet(path: Path) -> Iterator[Record]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        broken: Any = importlib.import_module("pyarrow.lib").ArrowException
    except ImportError:
        raise DataError(f"{path}: parquet files need pyarrow. Install it: pip install datasets==5.2.0") from None
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(256):
            for value in batch.to_pylist():
                number += 1
                yield Record(value, str(path), number)
    except broken as error:
        raise DataError(f"{path}:{number + 1}: this parquet file is broken: {error}.") from error


READERS = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet, ".txt": _text, ".raw": _text}


def hub_records(name: str, inputs: list[dict[str, Any]]) -> Iterator[Record]:
    """The rows of the training split of a Hub data set ``owner/name`` or ``owner/name:config``, streamed.

    Raises:
        DataError: the Hub cannot be reached, has no such data set, or the package ``datasets`` is missing.
    """
    repo, _, config = name.partition(":")
    try:
        datasets: Any = importlib.import_module("datasets")
        from huggingface_hub import HfApi
    except ImportError:
        raise DataError(f"{name} is on the Hub, which needs: pip install datasets==5.2.0") from None
    try:
        revision = HfApi().dataset_info(repo).sha or "main"
        inputs.append({"hub": name, "revision": revision})
        rows = datasets.load_dataset(repo, config or None, split="train", streaming=True, revision=revision)
        for number, value in enumerate(rows, 1):
            yield Record(value, f"{repo}@{revision[:8]}", number)
    except DataError:
        raise
    except Exception as error:  # whatever the network, the Hub or one of its many formats comes up with
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise DataError(
            f"{name} is no path here, and cannot be read from the Hub: {reason}. Use a local copy."
        ) from error


def sha256(path: Path) -> str:
    """The sha256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Writer:
    """Files that appear under their names only when all of them are complete.

    They are written beside their places as ``.partial`` and renamed by ``commit``; without it nothing remains. An
    OSError inside the ``with`` block (a full disk) leaves it as a DataError that names the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, tuple[Path, BinaryIO]] = {}
        self._tag = uuid.uuid4().hex[:8]
        self._done = False

    def __enter__(self) -> Writer:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder} cannot be made: {error.strerror or error}.") from error
        return self

    def open(self, name: str) -> BinaryIO:
        """The file called ``name``, created on first use."""
        if name not in self._open:
            path = self.folder / f"{name}.{self._tag}.partial"
            self._open[name] = path, path.open("w+b")
        return self._open[name][1]

    def write(self, name: str, value: object) -> None:
        """Append a JSON line."""
        self.open(name).write(json.dumps(value, ensure_ascii=False).encode() + b"\n")

    def describe(self, name: str) -> dict[str, Any]:
        """Size and sha256 of what was written so far."""
        self.open(name).flush()
        path = self._open[name][0]
        return {"file": name, "bytes": path.stat().st_size, "sha256": sha256(path)}

    def commit(self, last: str, stale: tuple[str, ...] = ()) -> None:
        """Rename all files, ``last`` at the very end: where it exists, the others are complete and belong to it.

        ``stale`` are names that an earlier run may have left and this one did not write; they are removed.
        """
        for _, file in self._open.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        (self.folder / last).unlink(missing_ok=True)
        for name in stale:
            if name not in self._open:
                (self.folder / name).unlink(missing_ok=True)
        for name in sorted(self._open, key=lambda name: name == last):
            os.replace(self._open[name][0], self.folder / name)
        self._open.clear()
        self._done = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for path, file in self._open.values():
            with contextlib.suppress(OSError):
                file.close()  # writes what is buffered, which fails once more on a full disk
            with contextlib.suppress(OSError):
                path.unlink()
        if not self._done:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if it was made for this and is empty
        if isinstance(error, OSError):
            raise DataError(f"{self.folder} cannot be written: {error.strerror or error}.") from error
