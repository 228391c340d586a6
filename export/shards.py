"""The safetensors files of a folder, memory-mapped and read row by row as float32.

The format is a length (8 bytes, little-endian), a JSON header that names type, shape and place of every tensor, and the
data: https://github.com/huggingface/safetensors#format. The library's numpy reader has no bfloat16 and reads whole
tensors; here a block of rows is converted at a time, and its pages are given back.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import SourceError, UnsupportedError

Floats = npt.NDArray[np.float32]

_MAX_HEADER = 100 << 20  # bytes, as in the library
_TYPES: Mapping[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: ``start`` is its first byte in the file."""

    file: Path
    kind: str
    shape: tuple[int, ...]
    start: int


class Shards:
    """All tensors of one or several safetensors files by name.

    Raises:
        SourceError: a file is missing, truncated, or no safetensors file.
    """

    def __init__(self, files: list[Path]) -> None:
        self._maps: dict[Path, mmap.mmap] = {}
        self.places: dict[str, Place] = {}
        for path in files:
            for name, place in _header(path):
                if name in self.places:
                    raise SourceError(f"{path.name} and {self.places[name].file.name} both hold {name}.")
                self.places[name] = place

    @classmethod
    def of(cls, folder: Path) -> Shards:
        """The model in ``folder``: what its index names, or ``model.safetensors``."""
        index = folder / "model.safetensors.index.json"
        if not index.is_file():
            single = folder / "model.safetensors"
            if not single.is_file():
                raise SourceError(
                    f"{folder} holds no weights: there is neither model.safetensors nor {index.name}. Weights in other "
                    "formats (.bin, .pt) are not read; save the model with save_pretrained first."
                )
            return cls([single])
        try:
            wanted: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(wanted.values()))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise SourceError(f"{index} cannot be read: it is no index of safetensors files.") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise SourceError(
                f"{folder} lacks {', '.join(missing)} ({len(missing)} of {len(names)} files that {index.name} names). "
                "Download it again."
            )
        shards = cls([folder / name for name in names])
        lost = sorted(set(wanted) - set(shards.places))
        if lost:
            raise SourceError(f"{folder}: no file holds {lost[0]}, which {index.name} names. Download it again.")
        return shards

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Rows ``start`` to ``stop`` (along the first axis) of a tensor, as float32; a copy."""
        place = self.places[name]
        kind = np.dtype(_TYPES[place.kind])
        width = math.prod(place.shape[1:]) * kind.itemsize
        begin, length = place.start + start * width, (stop - start) * width
        if not length:
            return np.zeros((stop - start, *place.shape[1:]), np.float32)
        mapped = self._map(place.file)
        raw = np.frombuffer(mapped, kind, length // kind.itemsize, begin)
        if place.kind == "BF16":  # a bfloat16 is the upper half of a float32
            values = raw.astype(np.uint32)
            values <<= 16
            block = values.view(np.float32)
        else:
            block = raw.astype(np.float32)
        del raw
        page = begin // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, page, begin + length - page)  # else the whole file would count as ours
        return block.reshape(stop - start, *place.shape[1:])

    def _map(self, path: Path) -> mmap.mmap:
        if path not in self._maps:
            with path.open("rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[path]

    def close(self) -> None:
        """Unmap the files. Idempotent."""
        for mapped in self._maps.values():
            mapped.close()
        self._maps.clear()


def _header(path: Path) -> Iterator[tuple[str, Place]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 2 <= length <= min(_MAX_HEADER, size - 8) else None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise SourceError(f"{path} is no safetensors file, or its beginning is damaged. Download it again.")
    header.pop("__metadata__", None)
    end = 8 + length
    for name, about in header.items():
        try:
            kind, shape = about["dtype"], tuple(map(int, about["shape"]))
            first, last = about["data_offsets"]
            place = Place(path, kind, shape, 8 + length + first)
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{path}: the entry of {name} is damaged. Download it again.") from error
        if kind not in _TYPES:
            raise UnsupportedError(
                f"{path.name}: {name} is of type {kind}; only {', '.join(_TYPES)} can be exported. Quantized weights "
                "(4 or 8 bit) are no base to merge into: take the 16-bit model."
            )
        if last - first != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize or first < 0:
            raise SourceError(f"{path}: {name} does not have the size of its shape. Download it again.")
        end = max(end, 8 + length + last)
        yield name, place
    if end != size:
        raise SourceError(
            f"{path} is {'truncated' if size < end else 'damaged'}: it has {size:,} bytes, and its tensors end at "
            f"byte {end:,}. Download it again."
        )
