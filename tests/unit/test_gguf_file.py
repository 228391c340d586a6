"""The check that a model file passes before llama.cpp sees it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris import gguf_file
from iris.errors import ModelFileError

UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(pairs: list[bytes], tensors: list[bytes], version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs + tensors)


def padded(data: bytes, alignment: int = 32) -> bytes:
    return data + b"\0" * (-len(data) % alignment)


ARCHITECTURE = pair("general.architecture", STRING, text("llama"))


def tiny(architecture: str = "llama", *extra: bytes) -> bytes:
    """A whole GGUF of under a kilobyte: some metadata, two tensors. (No model: llama.cpp misses the rest.)"""
    strings = struct.pack("<IQ", STRING, 3) + text("a") + text("bé") + text("")
    pairs = [
        pair("general.architecture", STRING, text(architecture)),
        pair("general.alignment", UINT32, struct.pack("<I", 32)),
        pair("tokenizer.ggml.tokens", ARRAY, strings),
        pair("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ3f", FLOAT32, 3, 0.0, 1.0, 2.0)),
        *extra,
    ]
    tensors = [tensor("a", (4, 2), 0, 0), tensor("b", (32,), 2, 32)]  # 32 bytes of f32, 18 of q4_0
    return padded(header(pairs, tensors)) + b"\1" * 50


def check(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return gguf_file.check(path)


def test_a_whole_file_passes(tmp_path: Path, gguf: Path) -> None:
    assert gguf_file.check(gguf) == "llama"
    assert check(tmp_path / "x.gguf", tiny("qwen3")) == "qwen3"


def test_version_2_and_other_alignments_pass(tmp_path: Path) -> None:
    aligned = pair("general.alignment", UINT32, struct.pack("<I", 64))
    data = padded(header([ARCHITECTURE, aligned], [tensor("a", (3,), 0, 0)], version=2), 64) + b"\0" * 12
    assert check(tmp_path / "x.gguf", data) == "llama"
    with pytest.raises(ModelFileError, match="truncated"):
        check(tmp_path / "x.gguf", data[:-1])


def test_a_file_without_tensors_passes(tmp_path: Path) -> None:
    assert check(tmp_path / "x.gguf", header([ARCHITECTURE], [])) == "llama"


def test_the_message_names_file_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with pytest.raises(ModelFileError) as error:
        check(path, tiny()[:100])
    assert str(path) in str(error.value)
    assert "Delete it and download it again." in str(error.value)
    with pytest.raises(ModelFileError, match=r"The file is broken .*Ask\."):
        gguf_file.check(path, name="The file", remedy="Ask.")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is not a GGUF file: it begins with b''"),
        (b"GG", "is not a GGUF file"),
        (b"GGUF", "broken or truncated near byte 4"),
        (b"<!DOCTYPE html><html>", "is not a GGUF file: it begins with b'<!DO'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a GGUF file: it begins with b'vers'"),
        (b"PK\3\4 a zip", "is not a GGUF file"),
        (header([ARCHITECTURE], [], version=1), "is of GGUF version 1; Iris reads versions 2 and 3"),
        (header([ARCHITECTURE], [], version=99), "is of GGUF version 99"),
        (header([], []), "does not name its architecture"),
        (header([pair("general.architecture", UINT32, b"\0\0\0\0")], []), "does not name its architecture"),
        (header([ARCHITECTURE, pair("x", 13, b"")], []), "broken"),
        (header([ARCHITECTURE, pair("x", ARRAY, struct.pack("<IQ", 13, 0))], []), "broken"),
        (header([ARCHITECTURE, pair("x", ARRAY, struct.pack("<IQ", ARRAY, 1) * 3000)], []), "broken"),
        (header([ARCHITECTURE, pair("x", ARRAY, struct.pack("<IQ", UINT32, 1 << 60))], []), "broken"),
        (header([ARCHITECTURE, pair("x", ARRAY, struct.pack("<IQ", STRING, 1 << 20))], []), "broken"),
        (header([ARCHITECTURE, pair("x", STRING, struct.pack("<Q", 1 << 63))], []), "broken"),
        (header([ARCHITECTURE, pair("x", STRING, struct.pack("<Q", 100) + b"short")], []), "broken"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 0), "broken"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 62), "broken"),
        (header([ARCHITECTURE, pair("general.alignment", UINT32, b"\0\0\0\0")], []), "broken"),
        (header([ARCHITECTURE, pair("general.alignment", UINT32, b"\3\0\0\0")], []), "broken"),
        (padded(header([ARCHITECTURE], [tensor("a", (1,) * 5, 0, 0)])) + b"\0" * 99, "broken"),
        (padded(header([ARCHITECTURE], [tensor("a", (33,), 2, 0)])) + b"\0" * 99, "broken"),
        (padded(header([ARCHITECTURE], [tensor("a", (1 << 62, 1 << 62), 0, 0)])) + b"\0" * 99, "truncated"),
        (padded(header([ARCHITECTURE], [tensor("a", (4,), 0, 1 << 40)])) + b"\0" * 99, "truncated"),
        (padded(header([ARCHITECTURE], [tensor("a", (4,), 99, 99)])) + b"\0" * 99, "truncated"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(tmp_path: Path, data: bytes, complaint: str) -> None:
    with pytest.raises(ModelFileError) as error:
        check(tmp_path / "x.gguf", data)
    assert complaint in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        gguf_file.check(tmp_path / "nothing.gguf")
    with pytest.raises(ModelFileError, match="Is a directory"):
        gguf_file.check(tmp_path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    """Also one that takes a single byte of the last tensor."""
    whole, path = tiny(), tmp_path / "x.gguf"
    for size in range(len(whole)):
        with pytest.raises(ModelFileError):
            check(path, whole[:size])


def test_the_real_file_without_its_last_byte(tmp_path: Path, gguf: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf.read_bytes()[: 4 << 20])
    os.truncate(path, gguf.stat().st_size)
    assert gguf_file.check(path) == "llama"
    os.truncate(path, gguf.stat().st_size - 1)
    with pytest.raises(ModelFileError, match="truncated"):
        gguf_file.check(path)


@pytest.fixture(scope="session")
def real_header(gguf: Path) -> bytes:
    """The front of the real file: metadata, vocabulary, tensor list."""
    with gguf.open("rb") as file:
        return file.read(2 << 20)


REUSES_FOLDER = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@REUSES_FOLDER
@given(flips=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_never_crash_the_check(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(tiny())
    for at, value in flips:
        data[at % len(data)] = value
    accepts_or_refuses(tmp_path, bytes(data))


@settings(REUSES_FOLDER, max_examples=40)
@given(data=st.data())
def test_a_damaged_real_header_never_crashes_the_check(tmp_path: Path, real_header: bytes, data: st.DataObject) -> None:
    # Most of it is vocabulary; the ends, where numbers and kinds are, are hit as often as that.
    size = len(real_header)
    places = st.integers(4, 3000) | st.integers(size - 340_000, size - 300_000) | st.integers(4, size - 1)
    damaged = bytearray(real_header[: data.draw(st.just(size) | st.integers(0, size))])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(places)
        if at < len(damaged):
            damaged[at] = data.draw(st.integers(0, 255))
    accepts_or_refuses(tmp_path, bytes(damaged))


@settings(REUSES_FOLDER, max_examples=200)
@given(tail=st.binary(max_size=200), pairs=st.integers(0, 3), tensors=st.integers(0, 3))
def test_random_bytes_never_crash_the_check(tmp_path: Path, tail: bytes, pairs: int, tensors: int) -> None:
    accepts_or_refuses(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + tail)


def accepts_or_refuses(folder: Path, data: bytes) -> None:
    with contextlib.suppress(ModelFileError):
        assert isinstance(check(folder / "x.gguf", data), str)


def test_the_sizes_of_tensor_types_are_ggmls_own() -> None:
    import llama_cpp

    library = ctypes.CDLL(str(Path(str(llama_cpp.__file__)).parent / "lib/libggml-base.so"))
    library.ggml_type_size.restype, library.ggml_blck_size.restype = ctypes.c_size_t, ctypes.c_int64
    listed = gguf_file._TENSOR
    assert {kind: (library.ggml_blck_size(kind), library.ggml_type_size(kind)) for kind in listed} == listed
    every = [kind for kind in range(max(listed) + 1) if library.ggml_type_size(kind)]
    assert sorted(listed) == every, "a type that ggml knows is missing here"


PROBE = """
import json, sys
from pathlib import Path
from iris import settings
from iris.engine.pool import EnginePool
from iris.errors import ModelFileError

refused = {}
pool = EnginePool(settings.load())
for path in map(Path, sys.argv[1:]):
    try:
        pool.get(str(path))
    except ModelFileError as error:
        refused[path.name] = [str(error), "llama_cpp" in sys.modules]
print(json.dumps(refused))
"""


def open_in_a_process(*paths: Path) -> dict[str, Any]:
    """Each file's error, and whether llama.cpp was loaded by then."""
    done = subprocess.run([sys.executable, "-c", PROBE, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_llama_cpp_is_never_given_a_broken_file(tmp_path: Path, real_header: bytes, gguf: Path) -> None:
    broken = {
        "empty": b"",
        "page": b"<!DOCTYPE html><html><body>Not found</body></html>",
        "half": real_header[: len(real_header) // 2],
        "no-weights": real_header,
        "counts": real_header[:8] + b"\xff" * 16 + real_header[24:],
        "version": real_header[:4] + b"\7" + real_header[5:],
    }
    for name, data in broken.items():
        (tmp_path / f"{name}.gguf").write_bytes(data)
    (tmp_path / "cut.gguf").write_bytes(real_header)
    os.truncate(tmp_path / "cut.gguf", gguf.stat().st_size - 1)
    found = open_in_a_process(*tmp_path.glob("*.gguf"))
    assert len(found) == 7
    assert [name for name, (_, loaded) in found.items() if loaded] == []


def test_what_passes_the_check_llama_cpp_refuses_without_dying(tmp_path: Path, real_header: bytes, gguf: Path) -> None:
    """Files whole by their header, and yet no model: each gives a reason, and the process lives on to the next."""
    cases = {
        "unknown": tiny("wav2vec9"),
        "no-tensors": tiny(),
        "other-shape": real_header.replace(
            b"llama.embedding_length\x04\x00\x00\x00\x40", b"llama.embedding_length\x04\x00\x00\x00\x41"
        ),
        "no-tokenizer": real_header.replace(b"tokenizer.ggml.model", b"tokenizer.ggml.modeL"),
        "no-template": real_header.replace(b"tokenizer.chat_template", b"tokenizer.chat_templatE"),
        "bad-template": real_header.replace(b"{% for message in messages %}", b"{% for message of messages %}"),
    }
    for name, data in cases.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(data)
        if len(data) == len(real_header):
            assert data != real_header, name
            os.truncate(path, gguf.stat().st_size)
    found = open_in_a_process(*(tmp_path / f"{name}.gguf" for name in cases))
    reasons = {name: message for name, (message, _) in found.items()}
    assert list(reasons) == [f"{name}.gguf" for name in cases], "every one of them is refused"
    assert "does not know the model architecture 'wav2vec9'" in reasons["unknown.gguf"]
    assert "carries no chat template" in reasons["no-template.gguf"]
    assert "chat template cannot be used" in reasons["bad-template.gguf"]
    assert all("\n" not in message and "gave no reason" not in message for message in reasons.values()), reasons
