"""What a GGUF's header says, and whether the file is whole: read from the header alone, before llama.cpp sees it.

llama.cpp checks much itself, but not everything before it allocates, and an abort in C would take the app down.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NoReturn

from iris.errors import ModelFileError

_SCALAR = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY = 4, 8, 9
_MAX_COUNT = 1 << 24  # of metadata pairs, tensors or array items; a real model has far fewer
_MAX_STRING = 1 << 26
_MAX_DIMENSIONS = 4
_READ = 1 << 20

_BYTES_OF_BLOCK = {
    1: {0: 4, 1: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2},
    32: {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 9: 36, 20: 18, 39: 17},
    64: {40: 36, 42: 18},
    128: {41: 18},
    256: {10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 15: 292, 16: 66, 17: 74, 18: 98, 19: 50}
    | {21: 110, 22: 82, 23: 136, 29: 56, 34: 54, 35: 66},
}
_TENSOR = {kind: (block, size) for block, kinds in _BYTES_OF_BLOCK.items() for kind, size in kinds.items()}
"""Tensor type -> (weights in a block, bytes of a block), from ggml's ``type_traits``. Of a type that is not listed only
the beginning is checked here; llama.cpp knows its size, or refuses it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor is: ``shape`` with the rows last, as the file has it; ``start``, from the beginning of the file,
    and ``size`` in bytes (0: of a type whose size is not known here)."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's architecture, its metadata as it stands there (so many pairs), alignment and tensors."""

    architecture: str
    pairs: int
    metadata: bytes
    alignment: int
    tensors: tuple[Tensor, ...]


def check(path: Path, *, name: str = "", remedy: str = "Delete it and download it again.") -> str:
    """Check magic, version, every metadata value, every tensor's place in the file; returns the architecture.

    See ``layout``.
    """
    return layout(path, name=name, remedy=remedy).architecture


def layout(path: Path, *, name: str = "", remedy: str = "Delete it and download it again.") -> Layout:
    """Check the file as far as its header tells, and say what is where.

    ``name`` and ``remedy`` replace the path and the advice in the messages.

    Raises:
        ModelFileError: the file is no GGUF, of an unknown version, broken or truncated; the message says where.
    """
    name = name or str(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _Header(file, size, name, remedy).read()
    except OSError as error:
        raise ModelFileError(f"{name} cannot be read: {error.strerror or error}.") from error


def padded(size: int, alignment: int) -> int:
    """The next multiple of ``alignment``: where a file goes on after ``size`` bytes."""
    return -(-size // alignment) * alignment


class _Header:
    """Reads a header from front to back. What was read stays in one buffer: a vocabulary is a hundred thousand small
    strings, and a call of ``read`` for each would take most of a second."""

    def __init__(self, file: BinaryIO, size: int, name: str, remedy: str) -> None:
        self._file = file
        self._size = size
        self._name = name
        self._remedy = remedy
        self._data = bytearray()
        self._at = 0

    def read(self) -> Layout:
        magic = self._file.read(4)
        if magic != b"GGUF":
            raise ModelFileError(f"{self._name} is not a GGUF file: it begins with {magic!r} instead of b'GGUF'.")
        self._data, self._at = bytearray(magic), 4
        version = self._number("<I")
        if version not in (2, 3):
            raise ModelFileError(f"{self._name} is of GGUF version {version}; Iris reads versions 2 and 3.")
        tensors, pairs = self._count(), self._count()
        architecture, alignment, begin = "", 32, self._at
        for _ in range(pairs):
            key = self._string()
            kind = self._number("<I")
            if key == b"general.architecture" and kind == _STRING:
                architecture = self._string().decode("utf-8", "replace")
            elif key == b"general.alignment" and kind == _UINT32:
                alignment = self._number("<I")
            else:
                self._skip(kind)
        if not architecture:
            raise ModelFileError(f"{self._name} does not name its architecture; it is not a language model.")
        metadata = bytes(self._data[begin : self._at])
        found = [self._tensor() for _ in range(tensors)]
        if not alignment or alignment & (alignment - 1):
            self._broken()
        data = padded(self._at, alignment)
        found = [replace(tensor, start=tensor.start + data) for tensor in found]
        end = max((tensor.start + (tensor.size or 1) for tensor in found), default=0)
        if end > self._size:
            raise ModelFileError(
                f"{self._name} is truncated: it has {self._size:,} bytes, and its tensors end at byte {end:,}. "
                f"{self._remedy}"
            )
        return Layout(architecture, pairs, metadata, alignment, tuple(found))

    def _tensor(self) -> Tensor:
        """The next tensor; its start is counted from the beginning of the data."""
        name = self._string().decode("utf-8", "replace")
        dimensions = self._number("<I")
        if dimensions > _MAX_DIMENSIONS:
            self._broken()
        shape = [self._number("<Q") for _ in range(dimensions)]
        kind, offset = self._number("<I"), self._number("<Q")
        block, size = _TENSOR.get(kind, (1, 0))
        if shape and shape[0] % block:
            self._broken()
        return Tensor(name, tuple(shape), kind, offset, math.prod(shape) // block * size)

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            self._string()
        elif kind == _ARRAY:
            item, count = self._number("<I"), self._count()
            if item == _STRING:
                self._skip_strings(count)
            else:
                self._skip_scalars(item, count)
        else:
            self._skip_scalars(kind, 1)

    def _skip_scalars(self, kind: int, count: int) -> None:
        if kind not in _SCALAR:  # an array in an array is none either: llama.cpp refuses it too
            self._broken()
        self._need(_SCALAR[kind] * count)
        self._at += _SCALAR[kind] * count

    def _skip_strings(self, count: int) -> None:
        length = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if self._at + 8 > len(self._data):
                self._need(8)
            (size,) = length(self._data, self._at)
            if size > _MAX_STRING:
                self._broken()
            self._at += 8 + size
            if self._at > len(self._data):
                self._at -= size
                self._need(size)
                self._at += size

    def _number(self, form: str) -> int:
        size = struct.calcsize(form)
        self._need(size)
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += size
        return int(value)

    def _count(self) -> int:
        value = self._number("<Q")
        if value > _MAX_COUNT:
            self._broken()
        return value

    def _string(self) -> bytes:
        size = self._number("<Q")
        if size > _MAX_STRING:
            self._broken()
        self._need(size)
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def _need(self, count: int) -> None:
        """Have ``count`` more bytes in the buffer, or say that the file is broken."""
        missing = self._at + count - len(self._data)
        if missing <= 0:
            return
        if self._at + count > self._size:
            self._broken()
        self._data += self._file.read(max(missing, _READ))
        if self._at + count > len(self._data):
            self._broken()

    def _broken(self) -> NoReturn:
        raise ModelFileError(
            f"{self._name} is broken or truncated near byte {self._at:,} of {self._size:,}. {self._remedy}"
        )
