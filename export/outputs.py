"""Files that get their names when they are complete, checked, and known by their sha256."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from pathlib import Path

from export.errors import OutputError


class Staging:
    """A folder beside the final files, on the same disk; whatever is left in it at the end is removed.

    Raises:
        OutputError: the folder cannot be made, or has not ``needed`` bytes left.
    """

    def __init__(self, folder: Path, needed: int = 0) -> None:
        self.final = folder
        self.folder = folder / f".export-{uuid.uuid4().hex[:8]}.partial"
        self._needed = needed

    def __enter__(self) -> Staging:
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"{self.final} cannot be made or written: {error.strerror or error}.") from error
        free = shutil.disk_usage(self.folder).free
        if free < self._needed:
            self.__exit__()
            raise OutputError(
                f"{self.final} has {free / 1e9:.1f} GB left, and this export needs about {self._needed / 1e9:.1f} GB "
                "at its peak. Make room, or choose another disk with --out."
            )
        return self

    def path(self, name: str) -> Path:
        """Where the file ``name`` is written until it is accepted."""
        return self.folder / name

    def accept(self, name: str) -> str:
        """Give a file its final name, with its sha256 in a file beside it, which is also returned."""
        path = self.path(name)
        digest = sha256(path)
        beside = self.path(f"{name}.sha256")
        try:
            beside.write_text(f"{digest}  {name}\n", encoding="utf-8")
            with path.open("rb") as file:
                os.fsync(file.fileno())
            (self.final / beside.name).unlink(missing_ok=True)  # an earlier one vouches for another file
            os.replace(path, self.final / name)
            os.replace(beside, self.final / beside.name)
        except OSError as error:
            raise OutputError(f"{self.final / name} cannot be written: {error.strerror or error}.") from error
        return digest

    def reject(self, name: str) -> Path:
        """Keep a file that failed the gate for looking into, under a name that nobody serves by mistake."""
        path = self.final / f"{Path(name).stem}.rejected{Path(name).suffix}"
        os.replace(self.path(name), path)
        return path

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.final.rmdir()  # if it was made for this and is empty


def sha256(path: Path) -> str:
    """The sha256 of a file as hexadecimal digits.

    Raises:
        OutputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}.") from error
