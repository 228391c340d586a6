"""What one model said and thought, an item a line: written as it comes, so that a run can go on where it was stopped.

The first line says what the lines belong to: the model's weights, the settings, the items. A line that a kill cut in
the middle is dropped, and done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from evaluation.errors import RunError

FORMAT = 1

Key = tuple[str, str, str]
"""Task, item, and what of it: "reference", "options" or "answer"."""


class Records:
    """The file of one model's records, read and continued.

    Raises:
        RunError: it belongs to another model, other settings or other items, is of another version, or cannot be used.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.found: dict[Key, dict[str, Any]] = {}
        self.speeds: list[dict[str, Any]] = []
        self._about = {"format": FORMAT, **about}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = self._read() if path.exists() else 0
            self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(kept)
            self._file.seek(kept)
            if not kept:
                self._write(self._about)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error

    def add(self, task: str, item: str, what: str, **values: Any) -> None:
        """Record one result."""
        record = {"task": task, "item": item, "what": what, **values}
        self.found[task, item, what] = record
        self._write(record)

    def add_speed(self, **values: Any) -> None:
        """Record how fast a part of the run was."""
        self.speeds.append(values)
        self._write({"speed": values})

    def close(self) -> None:
        self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written: {error.strerror or error}. The run can go on later."
            ) from error

    def _read(self) -> int:
        """Take in the whole lines; how many bytes they are."""
        kept = 0
        for number, (line, end) in enumerate(_lines(self.path), 1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise RunError(f"{self.path}:{number} is broken: {error}. Begin anew with --fresh.") from error
            if number == 1:
                self._check(record)
            elif "speed" in record:
                self.speeds.append(record["speed"])
            else:
                self.found[record["task"], record["item"], record["what"]] = record
            kept = end
        return kept

    def _check(self, header: Mapping[str, Any]) -> None:
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise RunError(f"{self.path} is of another version of the evaluation. Begin anew with --fresh.")
        other = [key for key in sorted({*header, *self._about}) if header.get(key) != self._about.get(key)]
        if other:
            raise RunError(
                f"{self.path} was begun with another {', '.join(other)}. Begin anew with --fresh, or name another "
                "folder with --out."
            )


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Complete lines, and where each ends."""
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line, end
