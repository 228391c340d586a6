"""A copy of a small model in a format that llama.cpp computes fast.

llama.cpp's vector kernels for the older formats Q4_1, Q5_0 and Q5_1 handle one token at a time, so that reading a
prompt is hardly faster than writing. A small model is limited by arithmetic, not by memory: as Q8_0 it reads prompts
about twice as fast and writes a fifth faster. The step of Q8_0 is about a thirtieth of the step the weights already
went through, so the answers stay what they are; tests/unit/test_fastcopy.py measures the difference.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from iris.engine import llama

C = llama.library
log = logging.getLogger(__name__)

SLOW_TYPES = {C.LLAMA_FTYPE_MOSTLY_Q4_1, C.LLAMA_FTYPE_MOSTLY_Q5_0, C.LLAMA_FTYPE_MOSTLY_Q5_1}
if llama.AMX == "works":  # the matrix unit multiplies Q4_1, and faster than Q8_0
    SLOW_TYPES.remove(C.LLAMA_FTYPE_MOSTLY_Q4_1)

LARGEST = 400 << 20
"""Bytes. A larger file is limited by memory bandwidth, where fewer bits win."""


def needs_copy(path: Path) -> bool:
    """Whether a copy of this GGUF would be faster on this processor."""
    return path.stat().st_size <= LARGEST and _file_type(path) in SLOW_TYPES


def fast_copy(path: Path, folder: Path, *, threads: int) -> Path:
    """The path of a Q8_0 copy in ``folder``, made on first use; ``path`` itself where a copy brings nothing.

    A failure to make one (a full disk, say) is logged and costs only speed.
    """
    if not needs_copy(path):
        return path
    about = path.stat()
    copy = folder / f"{path.stem}-{about.st_size:x}-{about.st_mtime_ns:x}-q8_0.gguf"
    if copy.is_file():
        return copy
    try:
        with beside(copy) as fresh:
            quantize(path, fresh, threads=threads)
    except OSError as error:
        log.warning("no fast copy of %s could be made (%s); it is served as it is", path.name, error)
        return path
    return copy


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name in the folder of ``path``, made if need be, for a file that becomes ``path`` when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()


def quantize(source: Path, target: Path, *, threads: int) -> None:
    """Write a GGUF of any format to ``target`` as Q8_0.

    Raises:
        OSError: llama.cpp failed, as on a full disk.
    """
    params = C.llama_model_quantize_default_params()
    params.ftype = C.LLAMA_FTYPE_MOSTLY_Q8_0
    params.allow_requantize = True
    params.nthread = threads
    code = C.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    if code != 0:
        raise OSError(f"llama.cpp returned {code}")


def _file_type(path: Path) -> int:
    """llama.cpp's file type of a GGUF, -1 when it cannot be read (loading it will say why)."""
    params = C.llama_model_default_params()
    params.vocab_only = True
    model = C.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        return -1
    try:
        buffer = ctypes.create_string_buffer(16)
        size = C.llama_model_meta_val_str(model, b"general.file_type", buffer, len(buffer))
        return int(buffer.value) if size > 0 else -1
    finally:
        C.llama_model_free(model)
