"""Is this file a whole GGUF? Read from its header alone, before llama.cpp sees it.

llama.cpp checks much itself, but not everything before it allocates, and an abort in C would take the app down.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from iris.errors import ModelFileError

_SCALAR = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MAX_COUNT = 1 << 24  # of metadata pairs, tensors or array items; a real model has far fewer
_MAX_STRING = 1 << 26


def check(path: Path) -> str:
    """Check magic, version, every metadata value, every tensor's place in the file; returns the architecture.

    Raises:
        ModelFileError: the file is no GGUF, of an unknown version, broken or truncated; the message says where.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Header(file, path.name, size).read()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}.") from error


class _Header:
    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        self._file = file
        self._name = name
        self._size = size

    def read(self) -> str:
        magic = self._file.read(4)
        if magic != b"GGUF":
            raise ModelFileError(f"{self._name} is not a GGUF file: it begins with {magic!r} instead of b'GGUF'.")
        version = self._number("<I")
        if version not in (2, 3):
            raise ModelFileError(f"{self._name} is of GGUF version {version}; Iris reads versions 2 and 3.")
        tensors, pairs = self._count("<Q"), self._count("<Q")
        architecture, alignment = "", 32
        for _ in range(pairs):
            key = self._string()
            kind = self._number("<I")
            if key == "general.architecture" and kind == _STRING:
                architecture = self._string()
            elif key == "general.alignment" and kind == 4:
                alignment = self._number("<I")
            else:
                self._skip(kind)
        if not architecture:
            raise ModelFileError(f"{self._name} does not name its architecture; it is not a language model.")
        last = 0
        for _ in range(tensors):
            self._string()
            dimensions = self._number("<I")
            if dimensions > 8:
                self._broken()
            self._file.read(8 * dimensions + 4)
            last = max(last, self._number("<Q"))
        if not alignment or alignment & (alignment - 1):
            self._broken()
        data = -(-self._file.tell() // alignment) * alignment
        if tensors and data + last >= self._size:
            raise ModelFileError(
                f"{self._name} is truncated: it has {self._size:,} bytes, and a tensor begins at byte {data + last:,}. "
                "Delete it and download it again."
            )
        return architecture

    def _skip(self, kind: int) -> None:
        if kind in _SCALAR:
            self._file.seek(_SCALAR[kind], 1)
        elif kind == _STRING:
            self._string()
        elif kind == _ARRAY:
            item = self._number("<I")
            count = self._count("<Q")
            if item in _SCALAR:
                self._file.seek(_SCALAR[item] * count, 1)
            elif item in (_STRING, _ARRAY):
                for _ in range(count):
                    self._skip(item)
            else:
                self._broken()
        else:
            self._broken()
        if self._file.tell() > self._size:
            self._broken()

    def _number(self, form: str) -> int:
        data = self._file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            self._broken()
        return int(struct.unpack(form, data)[0])

    def _count(self, form: str) -> int:
        value = self._number(form)
        if value > _MAX_COUNT:
            self._broken()
        return value

    def _string(self) -> str:
        size = self._number("<Q")
        if size > _MAX_STRING or self._file.tell() + size > self._size:
            self._broken()
        return self._file.read(size).decode("utf-8", "replace")

    def _broken(self) -> None:
        raise ModelFileError(
            f"{self._name} is broken or truncated near byte {self._file.tell():,} of {self._size:,}. "
            "Delete it and download it again."
        )
