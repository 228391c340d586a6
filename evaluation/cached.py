"""Values that are dear to compute (likeness, verdicts), a line each as they come, found again by what they are of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from evaluation.errors import RunError


def key(*of: object) -> str:
    """What names a value: everything that it depends on."""
    return hashlib.sha256(json.dumps(of, ensure_ascii=False).encode()).hexdigest()[:32]


class Cached:
    """A file of such values. A line that a kill cut in the middle is left out.

    Raises:
        RunError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, Any] = {}
        whole = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                for line in path.read_bytes().splitlines(keepends=True):
                    try:
                        name, value = json.loads(line)
                    except ValueError:
                        break
                    if not line.endswith(b"\n"):
                        break
                    self.found[name] = value
                    whole += len(line)
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error

    def add(self, name: str, value: Any) -> None:
        """Keep a value."""
        self.found[name] = value
        try:
            self._file.write(json.dumps([name, value]).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise RunError(f"{self._path} cannot be written: {error.strerror or error}.") from error

    def close(self) -> None:
        self._file.close()
