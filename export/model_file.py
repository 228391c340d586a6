"""A model written as F16 or BF16 GGUF with the official writer: one block of rows in memory at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from export.base import Field, Weight
from export.errors import OutputError, SourceError

BLOCK = 4 << 20
"""Numbers converted at a time: 16 MB as float32."""

# What the writer sets itself, and what a base that is a GGUF says of its own quantization.
_OWN = {"general.architecture", "general.file_type", "general.quantization_version"}
_FILE_TYPE = {"F16": 1, "BF16": 32}  # llama.cpp's LLAMA_FTYPE_MOSTLY_*
HEADER = 64 << 20  # bytes that a vocabulary and the tensors' entries take at most, for the estimates of sizes

Advance = Callable[[int], None]
"""Called with the number of bytes written since the last call."""


def kind_of(weight: Weight, kind: str) -> str:
    """F32 for vectors (norms, which llama.cpp wants exact), ``kind`` for matrices."""
    return "F32" if len(weight.shape) == 1 else kind


def size_of(weights: list[Weight], kind: str) -> int:
    """Bytes of the file that ``write`` makes, at most."""
    return HEADER + sum(math.prod(w.shape) * (4 if kind_of(w, kind) == "F32" else 2) for w in weights)


def write(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Field],
    weights: list[Weight],
    *,
    kind: str,
    threads: int,
    advance: Advance = lambda count: None,
) -> None:
    """Write the GGUF to ``path``.

    Raises:
        SourceError: a value is not finite, or too large for F16.
        OutputError: the file cannot be written.
    """
    import gguf

    writer: Any = gguf.GGUFWriter(None, architecture)
    for key, entry in metadata.items():
        if key not in _OWN:
            writer.add_key_value(
                key, entry.value, gguf.GGUFValueType(entry.kind), entry.item and gguf.GGUFValueType(entry.item)
            )
    writer.add_key_value("general.file_type", _FILE_TYPE[kind], gguf.GGUFValueType.UINT32)
    for weight in weights:
        stored = kind_of(weight, kind)
        size = math.prod(weight.shape) * (4 if stored == "F32" else 2)
        writer.add_tensor_info(weight.name, weight.shape, np.dtype(np.float32), size, gguf.GGMLQuantizationType[stored])
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for weight in weights:
                writer.write_tensor_data(_Stream(weight, kind_of(weight, kind), pool, threads, advance))
        for file in writer.fout:
            file.flush()
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror or error}.") from error
    finally:
        for file in writer.fout or ():
            file.close()


class _Stream:
    """What the writer takes for an array: its size, and a ``tofile`` that converts block by block.

    The next blocks are read and converted by the pool while one is written; a block holds whole rows.
    """

    def __init__(self, weight: Weight, kind: str, pool: ThreadPoolExecutor, ahead: int, advance: Advance) -> None:
        self.nbytes = math.prod(weight.shape) * (4 if kind == "F32" else 2)
        self._weight = weight
        self._kind = kind
        self._pool = pool
        self._ahead = ahead
        self._advance = advance

    def tofile(self, file: IO[bytes]) -> None:
        waiting: deque[Future[npt.NDArray[Any]]] = deque()
        for start, stop in self._blocks():
            waiting.append(self._pool.submit(self._block, start, stop))
            if len(waiting) > self._ahead:
                self._put(file, waiting.popleft().result())
        while waiting:
            self._put(file, waiting.popleft().result())

    def _blocks(self) -> Iterator[tuple[int, int]]:
        rows = self._weight.shape[0]
        width = math.prod(self._weight.shape[1:])
        step = rows if self._weight.whole else max(1, BLOCK // max(1, width))
        for start in range(0, rows, step):
            yield start, min(rows, start + step)

    def _block(self, start: int, stop: int) -> npt.NDArray[Any]:
        rows = self._weight.read(start, stop)
        largest = np.abs(rows).max(initial=0.0)
        if not np.isfinite(largest):
            raise SourceError(
                f"{self._weight.name} holds values that are not finite: the base or the adapter is broken."
            )
        if self._kind == "F32":
            return rows
        if self._kind == "BF16":
            return bfloat16(rows)
        if largest > np.finfo(np.float16).max:
            raise SourceError(
                f"{self._weight.name} holds {largest:.3g}, which F16 cannot. Export with --bf16, whose range is larger."
            )
        return rows.astype(np.float16)

    def _put(self, file: IO[bytes], block: npt.NDArray[Any]) -> None:
        file.write(block.data)
        self._advance(block.nbytes)


def bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 numbers, ties to even, as their bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
