"""The folder of a Space: iris/, one course, a two-line app.py, README.md with front matter, requirements.txt."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from iris import catalog, courses
from iris.catalog import ModelSpec
from iris.errors import IrisError

ROOT = Path(__file__).resolve().parents[1]

MARK = "iris-tutor"
"""The tag by which deploy.py knows a Space of its own making."""

PYTHON = "3.11"

WHEELS = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
"""llama-cpp-python compiled for any x86 processor with AVX2. Its source takes longer to compile than a Space may take
to start."""

OPEN = {"pydantic", "pydantic_core"}
"""Packages without a version on a Space. It installs gradio[oauth,mcp] together with the list, and that wants an older
pydantic than gradio alone."""

APP = """from iris.__main__ import main
raise SystemExit(main([]))
"""

_COURSE = ("course.toml", "notes/*.md", "qa/*.jsonl", "mcq/*.jsonl")
_HF = re.compile(r"hf:(?P<repo>[^/]+/[^/]+)/(?P<file>.+\.gguf)(?:@(?P<revision>.+))?")
_SECRET = re.compile(rb"\bhf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")


class SpaceError(IrisError):
    """A Space, model or data set cannot be put together or published; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A model's file on the Hub."""

    repo: str
    file: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a Space is made of.

    ``models`` are the names that it is to offer, as ``IRIS_MODELS`` takes them; empty: all of the catalog.
    ``preload`` are files that the Hub may fetch while it builds the Space; ``title`` and ``datasets`` are shown.
    """

    title: str
    course: Path
    models: tuple[str, ...] = ()
    files: tuple[HubFile, ...] = ()
    preload: tuple[HubFile, ...] = ()
    datasets: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        """The Space's variables, which everyone can read."""
        offered = {"IRIS_MODELS": ",".join(self.models)} if self.models else {}
        return {"IRIS_COURSE": self.course.name} | offered


def course(name: str) -> Path:
    """The folder of a course, read and checked.

    Raises:
        CourseError: there is none of this name, or it is broken.
    """
    courses.find(name)
    return courses.available()[name]


def model(name: str) -> tuple[str, HubFile | None]:
    """The name by which a Space can open a model, and where its file is if that is the Hub.

    Raises:
        UnknownModel: there is no such model.
        SpaceError: its file is on this machine only.
    """
    spec = catalog.find(name)
    if spec in catalog.MODELS:
        return spec.id, _on_hub(spec)
    found = _on_hub(spec)
    if found is None or spec.adapter:
        raise SpaceError(
            f"The model {name!r} is on this machine, where a Space cannot read it. Publish it first "
            "(python spaces/publish_model.py outputs/RECIPE), then name it as hf:owner/repo/file.gguf@revision."
        )
    return spec.source, found


def _on_hub(spec: ModelSpec) -> HubFile | None:
    match = _HF.fullmatch(spec.source)
    return HubFile(match["repo"], match["file"], match["revision"] or "main") if match else None


def write(folder: Path, plan: Plan) -> list[Path]:
    """Write the Space into ``folder``, which must be empty or missing; returns the files, relative to it.

    Raises:
        SpaceError: the folder has something in it or cannot be written, or a file holds what looks like a secret.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SpaceError(f"{folder} is not empty. Name a new folder.")
        for name, source in _sources(plan):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for name, text in (("app.py", APP), ("README.md", readme(plan)), ("requirements.txt", requirements())):
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpaceError(f"{folder} cannot be written: {error.strerror or error}.") from error
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        if _SECRET.search(path.read_bytes()):
            raise SpaceError(
                f"{path.relative_to(folder)} holds what looks like a token or a private key, and a Space is public. "
                "Take it out, and make it invalid if it was real."
            )
    return [path.relative_to(folder) for path in files]


def _sources(plan: Plan) -> Iterator[tuple[str, Path]]:
    """(name in the Space, file here) of what is copied: the app without its tests and leftovers, and one course."""
    for path in sorted((ROOT / "iris").rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and "__pycache__" not in parts and not any(part.startswith(".") for part in parts):
            yield "/".join(parts), path
    for pattern in _COURSE:
        for path in sorted(plan.course.glob(pattern)):
            yield f"data/courses/{plan.course.name}/{path.relative_to(plan.course).as_posix()}", path


def requirements() -> str:
    """What the Space installs: Iris' own pinned list, from ready-made wheels alone."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    kept = [name if (name := pin.partition("==")[0]) in OPEN else pin for pin in pins]
    return "\n".join(
        [
            "# Only ready-made wheels: what would have to be compiled ends the build at once, not after half an hour.",
            f"--extra-index-url {WHEELS}",
            "--only-binary :all:",
            *kept,
            "",
        ]
    )


def pinned(package: str) -> str:
    """The version of a package in requirements.txt."""
    found = re.search(rf"(?mi)^{re.escape(package)}==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    if not found:
        raise SpaceError(f"requirements.txt does not pin {package}.")
    return found[1]


def front_matter(plan: Plan) -> dict[str, object]:
    """The Space's configuration, as the Hub reads it from README.md."""
    about: dict[str, object] = {
        "title": plan.title,
        "emoji": "🪻",
        "colorFrom": "purple",
        "colorTo": "indigo",
        "sdk": "gradio",
        "sdk_version": pinned("gradio"),
        "python_version": PYTHON,
        "app_file": "app.py",
        "header": "mini",
        "short_description": "A tutor for one course, for a whole class",
        "startup_duration_timeout": "30m",
        "hf_oauth": True,  # signing in is optional; it keeps one's history together across browsers
        "tags": ["education", "tutoring", "gguf", "llama-cpp", MARK],
    }
    if plan.files:
        about["models"] = sorted({file.repo for file in plan.files})
    if plan.datasets:
        about["datasets"] = list(plan.datasets)
    if plan.preload:
        about["preload_from_hub"] = [
            " ".join([file.repo, file.file, *([file.revision] if file.revision != "main" else [])])
            for file in plan.preload
        ]
    return about


def readme(plan: Plan) -> str:
    """README.md of the Space."""
    front = yaml.safe_dump(front_matter(plan), sort_keys=False, allow_unicode=True, width=1000)
    read = courses.load(plan.course)
    offered = "\n".join(f"- `{name}`" for name in plan.models) or "All models of the catalog."
    return f"""---
{front}---

# {plan.title}

A tutor for the course **{read.title}** ({len(read.topics)} topics): a small language model on this Space's CPU answers
a whole class at once. It can be wrong; check what matters against the course's own notes.

## Models

{offered}

## What is kept

Without a storage bucket mounted at `/data`, nothing outlives a restart, and the page says so. With one, what students
keep is copied there. The page loads nothing from elsewhere, and what is asked is sent nowhere else.

This Space was written by `python spaces/deploy.py`, which also updates it: what is changed here by hand is replaced.
"""
