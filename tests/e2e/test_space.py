"""The folder that deploy.py sends, started as a Space starts it.

A Space installs requirements.txt and runs app.py in a container. Here the environment is a fresh virtual environment
without pip's index: llama-cpp-python is installed from the wheel that `make` keeps, in place of the ready-made one, and
of every other package that the folder's requirements.txt names, exactly the files are linked in, in the version that it
pins. So what is missing there is missing here, and Iris itself can come from nowhere but the folder. The folder is
read-only, two CPUs and 16 GB are set where the system can.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from iris.store import Store

ROOT = Path(__file__).parents[2]
LLAMA = "llama-cpp-python"
NODE = shutil.which("node")
RENDERED = "__sveltekit"
"""Stands in a page that was rendered on the server."""


@dataclass(frozen=True)
class Space:
    """A folder as it would be on a Space, and the Python to run it with."""

    folder: Path
    python: Path


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    root = tmp_path_factory.mktemp("space")
    folder = root / "code"
    command = [sys.executable, "spaces/deploy.py", "me/iris", "--dry-run", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=120)
    python = environment(root / "venv", (folder / "requirements.txt").read_text())
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield Space(folder, python)
    for path in everything:
        path.chmod(0o755)


def environment(folder: Path, requirements: str) -> Path:
    """A fresh virtual environment with the packages that ``requirements`` names, and no others; returns its python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    owners: dict[str, set[str]] = defaultdict(set)
    installed = {}
    for found in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        installed[name] = found
        for file in found.files or []:
            owners[file.parts[0]].add(name)
    for line in requirements.splitlines():
        if not line or line.startswith(("#", "-")):
            continue
        wanted, _, version = line.partition("==")
        name = re.sub(r"[-_.]+", "-", wanted).lower()
        if name == LLAMA:
            _install_llama(folder)
            continue
        assert name in installed, f"{wanted} is not installed: run make test"
        assert not version or installed[name].version == version, (
            f"{wanted} is not at hand in the version of requirements.txt"
        )
        for file in installed[name].files or []:
            top = file.parts[0]
            if top in ("..", "__pycache__"):
                continue  # commands, which nothing here calls
            # A folder of this package alone is linked whole, one that it shares (a namespace) file by file.
            part = Path(top) if owners[top] == {name} else Path(*file.parts)
            target = site / part
            if not target.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(Path(str(installed[name].locate_file(part))).resolve())
    return folder / "bin" / "python"


def _install_llama(folder: Path) -> None:
    """Install the wheel where the Makefile keeps it; of one that is not there, the installed package's own files."""
    show = ["make", "-s", "--no-print-directory", "--eval", "wheels:\n\t@echo $(WHEELS)", "wheels"]
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    asked = subprocess.run(show, cwd=ROOT, env=quiet, capture_output=True, text=True, check=True, timeout=120)
    wheels = sorted(Path(asked.stdout.strip()).glob("*.whl"))
    if wheels:
        install = ["-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([sys.executable, *install, str(wheels[0])], check=True, timeout=240)
        return
    (site,) = folder.glob("lib/python*/site-packages")
    found = importlib.metadata.distribution(LLAMA)
    for top in {file.parts[0] for file in found.files or [] if file.parts[0].startswith("llama_cpp")}:
        (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    _two_cpus()


def _two_cpus() -> None:
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def _without_rights() -> list[str]:
    """Root writes into read-only folders too, unless that right is taken away."""
    rights = "-dac_override,-dac_read_search,-fowner"
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or not setpriv:
        return []
    return [setpriv, f"--inh-caps={rights}", f"--bounding-set={rights}"]


@contextmanager
def running(space: Space, home: Path, **variables: str) -> Iterator[str]:
    """Start app.py as a Space does, and end it as a Space does; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home.parent / f"{home.name}-{port}.log"
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "SYSTEM": "spaces",
        "SPACE_ID": "me/iris",
        "CPU_CORES": "2",
        "MEMORY": "16Gi",
        "IRIS_PORT": str(port),
        "IRIS_THREADS": "1",  # see tests/conftest.py
        "NO_PROXY": "127.0.0.1",
        **variables,
    }
    home.mkdir(exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*_without_rights(), str(space.python), "app.py"],
            cwd=space.folder,
            env=settings,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Node maps more memory than it uses: with it, only the CPUs are limited.
            preexec_fn=_two_cpus if variables.get("IRIS_SSR") == "1" else _limits,
        )
    try:
        while "Iris is running" not in log.read_text():
            assert process.poll() is None, f"it ended with status {process.returncode}:\n{log.read_text()}"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(600)
        finally:
            process.kill()
    assert process.returncode == 0, log.read_text()
    # A Space's image brings along the package with which Gradio reloads changed code; Iris does without.
    trouble = log.read_text().count("Traceback") - log.read_text().count("`spaces` package is required")
    assert trouble == 0, log.read_text()


def answer(url: str) -> str:
    client = Client(url, verbose=False)
    try:
        return str(client.predict("Say hello.", api_name="/study_chat"))
    finally:
        client.close()


def contents(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_folder_boots_answers_and_keeps_its_state(space: Space, tmp_path: Path) -> None:
    bucket, before = tmp_path / "bucket", contents(space.folder)
    with running(space, tmp_path / "first", IRIS_KEEP=str(bucket)) as url:
        assert answer(url).strip()
        page = httpx.get(url, timeout=60)
        assert page.status_code == 200
        assert RENDERED not in page.text
        store = Store(tmp_path / "first/.iris/iris.db")
        store.student("somebody")
        store.close()
    shutil.rmtree(tmp_path / "first")  # the disk of a Space does not outlive it; its bucket does
    with running(space, tmp_path / "second", IRIS_KEEP=str(bucket)) as url:
        assert answer(url).strip()
        store = Store(tmp_path / "second/.iris/iris.db")
        with store.read() as connection:
            assert connection.execute("SELECT 1 FROM students WHERE id = 'somebody'").fetchone()
        store.close()
    assert contents(space.folder) == before, "nothing is written into the code"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not NODE, reason="server-side rendering needs Node")
def test_it_also_runs_with_server_side_rendering(space: Space, tmp_path: Path) -> None:
    try:
        with running(space, tmp_path / "home", IRIS_SSR="1") as url:
            assert RENDERED in httpx.get(url, timeout=60).text
            assert answer(url).strip()
    except AssertionError as error:
        if "Cannot start Node server" not in str(error):
            raise
        pytest.skip("the Node that is installed does not start Gradio's renderer, or not within its 30 s")


@pytest.mark.slow
def test_what_requirements_do_not_name_is_not_there(space: Space) -> None:
    """The proof would be none if the environment could see the one that the tests run in."""
    for module in ("torch", "pytest", "hypothesis"):
        done = subprocess.run([space.python, "-c", f"import {module}"], capture_output=True, text=True, timeout=60)
        assert "ModuleNotFoundError" in done.stderr, module
    where = "import iris; print(iris.__file__)"
    done = subprocess.run([space.python, "-c", where], cwd=space.folder, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(space.folder / "iris/__init__.py")
