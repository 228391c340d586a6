"""Quantizing with llama.cpp, in this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import ExportError, OutputError
from iris.engine import llama

C = llama.library

KINDS = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"),
    *("IQ4_NL", "IQ4_XS"),
)
"""What can be asked for, by llama.cpp's names."""

WITHOUT_IMPORTANCE = frozenset({"Q8_0"})
"""Kinds that round every weight alike, whatever its importance."""

LARGEST_BUFFER = 64 << 20
"""Bytes of tensor rows that llama.cpp holds at a time. Its default holds whole tensors: 1 GB for an embedding."""

_STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
_BITS = {
    "Q2_K": 3.4,
    "Q3_K_S": 3.7,
    "Q3_K_M": 4.1,
    "Q3_K_L": 4.5,
    "Q4_0": 4.8,
    "IQ4_NL": 4.8,
    "IQ4_XS": 4.6,
    "Q8_0": 8.6,
}

Importance = Mapping[str, npt.NDArray[np.float32]]
"""The mean square of each input of a matrix, by tensor name."""

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all)."""


def size_of(numbers: int, kind: str) -> int:
    """About the bytes of a file of that kind (an upper estimate, for models of 1B and more)."""
    return int(numbers * _BITS.get(kind, 7.0 if kind == "Q6_K" else 6.0) / 8)


def quantize(
    source: Path,
    target: Path,
    kind: str,
    *,
    threads: int,
    importance: Importance | None = None,
    weighed_on: str = "",
    progress: Progress = lambda done, total: None,
) -> None:
    """Write ``source`` (F16 or BF16) to ``target`` as ``kind``; ``weighed_on`` tells later whose importance it was.

    The work is done in a thread, so that Ctrl-C ends it at once; llama.cpp has no way to stop half-way.

    Raises:
        OutputError: llama.cpp failed; the message carries its reason.
    """
    parameters = C.llama_model_quantize_default_params()
    parameters.ftype = getattr(C, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.nthread = threads
    parameters.max_buf_size = LARGEST_BUFFER
    kept = _rows(importance) if importance and kind not in WITHOUT_IMPORTANCE else None
    if kept:
        parameters.imatrix = kept[0]
        notes = _notes(weighed_on, len(kept[1]))
        parameters.kv_overrides = notes
    lines: list[str] = []

    def hear(line: str) -> None:
        step = _STEP.search(line)
        if step:
            progress(int(step[1]), int(step[2]))
        elif line.strip():
            lines.append(line.strip())

    result: list[int] = []
    work = threading.Thread(
        target=lambda: result.append(
            C.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
        ),
        daemon=True,
    )
    with _listening(hear):
        work.start()
        while work.is_alive():
            work.join(0.2)
    if result != [0]:
        reason = next(
            (line for line in reversed(lines) if "fail" in line or "error" in line.lower()), "no reason given"
        )
        raise OutputError(f"llama.cpp could not quantize to {kind}: {reason}. Is there enough room on the disk?")


@contextlib.contextmanager
def _listening(hear: Callable[[str], None]) -> Iterator[None]:
    """Give llama.cpp's log to ``hear`` meanwhile."""

    def heard(level: int, text: bytes, _: object) -> None:
        hear(text.decode("utf-8", "replace"))

    with llama.log_to(C.llama_log_callback(heard)):
        yield


def _rows(importance: Importance) -> tuple[Any, list[npt.NDArray[np.float32]]]:
    """llama.cpp's array of (name, values, count), ended by a row without a name; and what it points to."""
    rows = (C.llama_model_imatrix_data * (len(importance) + 1))()
    kept = [np.ascontiguousarray(values, np.float32) for values in importance.values()]
    for row, name, values in zip(rows, importance, kept, strict=False):
        row.name, row.size = name.encode(), values.size
        row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return rows, kept


def _notes(weighed_on: str, count: int) -> Any:
    """What llama.cpp's own tool writes of an importance matrix into the file, as overrides ended by an empty key."""
    notes = (C.llama_model_kv_override * 3)()
    notes[0].tag, notes[0].key = C.LLAMA_KV_OVERRIDE_TYPE_STR, b"quantize.imatrix.dataset"
    notes[0].value.val_str = weighed_on.encode()[:127]
    notes[1].tag, notes[1].key = C.LLAMA_KV_OVERRIDE_TYPE_INT, b"quantize.imatrix.entries_count"
    notes[1].value.val_i64 = count
    return notes


def check_kind(kind: str) -> str:
    """``kind`` in llama.cpp's spelling.

    Raises:
        ExportError: there is no such kind.
    """
    found = kind.upper()
    if found not in KINDS:
        raise ExportError(f"There is no quantization {kind!r}; known are {', '.join(KINDS)}.")
    return found
