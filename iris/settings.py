"""Settings from ``IRIS_*`` environment variables, read when called and never at import."""

from __future__ import annotations

import contextlib
import math
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from iris.errors import SettingsError

DEFAULT_MODEL = "iris-id2223"
DEFAULT_COURSE = "id2223"


def home() -> Path:
    """The state folder: ``IRIS_HOME``, or ``~/.iris``. Not created here.

    Raises:
        SettingsError: the path begins with ``~`` and this user, or the one it names, has no home folder.
    """
    value = os.environ.get("IRIS_HOME", "").strip() or "~/.iris"
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise SettingsError(
            f"No home folder is known for {value}. Set IRIS_HOME to a folder you may write to."
        ) from error


def writable_home() -> Path:
    """Create the state folder if needed and prove that a file can be written in it.

    Raises:
        SettingsError: it cannot be created or written; the message names the folder and the remedy.
    """
    folder = home()
    probe = folder / f".write-test-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"Iris cannot write to its state folder {folder} ({error.strerror or error}). "
            "Set IRIS_HOME to a folder you may write to."
        ) from error
    return folder


def on_space() -> bool:
    """Whether this is a Hugging Face Space."""
    return bool(os.environ.get("SPACE_ID", "").strip())


def keep_folder(root: Path = Path("/")) -> Path | None:
    """Where a copy of the state outlives this machine: ``IRIS_KEEP``, or a Space's storage bucket, or nowhere.

    A bucket is mounted at ``/data``, which without one may exist as a folder that the next restart empties.
    """
    value = os.environ.get("IRIS_KEEP", "").strip()
    if value:
        return Path(value)
    data = root / "data"
    return data / "iris" if on_space() and os.path.ismount(data) and os.access(data, os.W_OK) else None


def memory_quota(root: Path = Path("/")) -> int:
    """Bytes of memory this process may use, 0 if nothing says so.

    The smallest of: the machine's memory, the control groups' limits, and ``MEMORY`` (such as ``16Gi``), which a
    Hugging Face Space sets.
    """
    limits: list[int] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        limits.append(1024 * int((root / "proc/meminfo").read_text().split("MemTotal:")[1].split()[0]))
    for folder in _group_folders(root):
        for name in (
            root / "sys/fs/cgroup" / folder / "memory.max",
            root / "sys/fs/cgroup/memory" / folder / "memory.limit_in_bytes",
        ):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int(name.read_text()))  # "max" is no number: no limit
    said = re.fullmatch(r"\s*(\d+)([KMGT]?)i?B?\s*", os.environ.get("MEMORY", ""))
    if said:
        limits.append(int(said[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[said[2]])
    return min((limit for limit in limits if limit > 0), default=0)


def cpu_quota(root: Path = Path("/")) -> int:
    """How many CPUs this process may really use, at least 1.

    The smallest of: the affinity mask, the control-group quotas, and ``CPU_CORES``, which a Hugging Face Space sets.
    ``os.cpu_count()`` alone is the host's count inside a container. ``root`` is where ``/proc`` and ``/sys`` are.
    """
    limits: list[float] = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    limits += _group_quotas(root)
    with contextlib.suppress(KeyError, ValueError):
        limits.append(float(os.environ["CPU_CORES"]))
    return max(1, math.floor(min(limit for limit in limits if limit > 0) + 0.01))


def _group_quotas(root: Path) -> list[float]:
    """CPUs that control groups leave this process: version 2 ``cpu.max`` and version 1 ``cpu.cfs_quota_us``.

    A group's quota holds for the groups inside it, so all from the process's own up to the mount are read. In a
    container the mount is its own group, and the path that ``/proc/self/cgroup`` names may not exist there.
    """
    quotas: list[float] = []
    for folder in _group_folders(root):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (root / "sys/fs/cgroup" / folder / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))  # "max" is no number: no limit
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            v1 = root / "sys/fs/cgroup/cpu" / folder
            quotas.append(int((v1 / "cpu.cfs_quota_us").read_text()) / int((v1 / "cpu.cfs_period_us").read_text()))
    return quotas


def _group_folders(root: Path) -> set[Path]:
    """The control groups of this process, from its own up to the mount."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    paths = [Path(line.split(":", 2)[2].lstrip("/")) for line in lines if line.count(":") >= 2]
    return {folder for path in [*paths, Path()] for folder in (path, *path.parents)}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of Iris is configured with; see ``load`` for the variable behind each field."""

    host: str = "127.0.0.1"
    port: int = 7860
    model: str = DEFAULT_MODEL
    course: str = DEFAULT_COURSE
    engine_url: str = ""
    engine_key: str = ""
    threads: int = 1
    slots: int = 8
    queue: int = 64
    context: int = 4096
    cache: int = 16384
    loaded_models: int = 2
    fast_copy: bool = True
    models: tuple[str, ...] = ()
    memory: int = 0
    rate: int = 120
    proxies: int = 0
    ssr: bool = False
    forgets: bool = False
    mcp: bool = False


def load() -> Settings:
    """Read the environment.

    ``IRIS_HOST``, ``IRIS_PORT``, ``IRIS_MODEL``, ``IRIS_COURSE`` (the course to start with); ``IRIS_ENGINE_URL`` and
    ``IRIS_ENGINE_KEY`` send questions to an OpenAI-compatible server instead; ``IRIS_THREADS`` (default: the CPU
    quota), ``IRIS_SLOTS`` (answers written at the same time), ``IRIS_QUEUE`` (students who may wait), ``IRIS_CONTEXT``
    (tokens one conversation may hold), ``IRIS_CACHE`` (tokens kept in memory over all conversations),
    ``IRIS_LOADED_MODELS``; ``IRIS_MODELS`` (the only models to offer, with commas between), ``IRIS_RATE`` (requests a
    minute of one visitor, 0: any number), ``IRIS_PROXIES`` (reverse proxies in front), ``IRIS_SSR``. On a Hugging Face
    Space Iris listens for everyone, behind one proxy, and ``forgets`` is true when nothing would outlive a restart.

    Raises:
        SettingsError: a number is not one, or out of range.
    """
    context = _integer("IRIS_CONTEXT", 4096, low=256)
    cache = _integer("IRIS_CACHE", max(16384, context), low=256)
    if cache < context:
        raise SettingsError(
            f"IRIS_CACHE ({cache}) must be at least IRIS_CONTEXT ({context}): one conversation must fit."
        )
    offered = tuple(filter(None, (name.strip() for name in os.environ.get("IRIS_MODELS", "").split(","))))
    return Settings(
        host=os.environ.get("IRIS_HOST", "").strip() or ("0.0.0.0" if on_space() else "127.0.0.1"),
        port=_integer("IRIS_PORT", 7860, low=0, high=65535),
        model=os.environ.get("IRIS_MODEL", "").strip() or next(iter(offered), DEFAULT_MODEL),
        course=os.environ.get("IRIS_COURSE", "").strip() or DEFAULT_COURSE,
        engine_url=os.environ.get("IRIS_ENGINE_URL", "").strip(),
        engine_key=os.environ.get("IRIS_ENGINE_KEY", "").strip(),
        threads=_integer("IRIS_THREADS", cpu_quota(), low=1, high=512),
        slots=_integer("IRIS_SLOTS", 8, low=1, high=64),
        queue=_integer("IRIS_QUEUE", 64, low=0, high=10_000),
        context=context,
        cache=cache,
        loaded_models=_integer("IRIS_LOADED_MODELS", 2, low=1, high=16),
        fast_copy=bool(_integer("IRIS_FAST_COPY", 1, low=0, high=1)),
        models=offered,
        memory=memory_quota(),
        rate=_integer("IRIS_RATE", 120, low=0),
        proxies=_integer("IRIS_PROXIES", int(on_space()), low=0, high=16),
        ssr=bool(_integer("IRIS_SSR", 0, low=0, high=1)),
        forgets=on_space() and keep_folder() is None,
        mcp=bool(_integer("IRIS_MCP", 0, low=0, high=1)),
    )


def _integer(name: str, default: int, *, low: int, high: int = 1 << 24) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, not {text!r}.") from None
    if not low <= value <= high:
        raise SettingsError(f"{name} must be between {low} and {high}, not {value}.")
    return value
