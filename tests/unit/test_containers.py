"""Dockerfile and compose file, as far as they can be checked without an engine: what they name exists and is right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """(instruction, its text) of the Dockerfile, continued lines joined and comments left out."""
    lines = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE)
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return found


def test_what_is_copied_exists_and_is_let_through() -> None:
    """.dockerignore leaves out everything that it does not name."""
    allowed = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [
        source.rstrip("/")
        for name, text in instructions()
        if name == "COPY" and "--from=" not in text
        for source in text.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in allowed, source


def test_the_image_runs_iris_without_rights_of_root() -> None:
    found = dict(instructions())
    assert found["CMD"] == '["/venv/bin/python", "-m", "iris"]'
    assert found["USER"] == "iris"
    order = [name for name, _ in instructions()]
    assert order.index("USER") < order.index("CMD")
    assert re.search(r"python:3\.11", DOCKERFILE)


def test_llama_cpp_is_compiled_as_by_make() -> None:
    """The same header; without it, GCC's AMX code ends the process at the first prompt."""
    make = (ROOT / "Makefile").read_text()
    header = "native/amx_tile_config.h"
    assert header in make
    assert f"-include /build/{header}" in DOCKERFILE
    assert "--no-deps" in DOCKERFILE


def variables(text: str) -> set[str]:
    return set(re.findall(r"\bIRIS_[A-Z_]+\b", text))


def test_every_setting_is_one_that_iris_knows(services: dict[str, Any]) -> None:
    known = variables((ROOT / "iris/settings.py").read_text())
    assert set(services["iris"]["environment"]) <= known
    env = " ".join(text for name, text in instructions() if name == "ENV")
    assert variables(env) <= known
    assert {pair.split("=")[0] for pair in shlex.split(env)} >= {"IRIS_HOST", "IRIS_HOME"}


def test_iris_finds_the_engine_of_either_profile(services: dict[str, Any]) -> None:
    iris = services["iris"]
    host, port = re.fullmatch(r"http://(\w+):(\d+)/v1", iris["environment"]["IRIS_ENGINE_URL"]).groups()  # type: ignore[union-attr]
    for profile in ("cpu", "gpu"):
        (engine,) = [s for name, s in services.items() if name != "iris" and profile in s["profiles"]]
        assert profile in iris["profiles"]
        assert host in engine["networks"]["default"]["aliases"]
        assert f"--port={port}" in engine["command"]
        # The name that Iris asks for is the one that the engine serves under.
        name = iris["environment"]["IRIS_MODEL"]
        assert any(part.endswith(f"={name}") for part in engine["command"]), profile
        assert any(value == iris["environment"]["IRIS_ENGINE_KEY"] for value in engine["environment"].values())


def test_iris_is_read_only_but_for_its_state(services: dict[str, Any]) -> None:
    iris = services["iris"]
    assert iris["read_only"] is True
    assert iris["volumes"] == ["state:/state"]
    assert iris["cap_drop"] == ["ALL"]
    env = " ".join(text for name, text in instructions() if name == "ENV")
    assert "IRIS_HOME=/state" in env
