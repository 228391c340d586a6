"""What the tests of export share: rows to compare on, and the two commands run in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from export import to_gguf, verify
from tests.unit.tiny_models import corpus


def write_rows(folder: Path, count: int = 12) -> Path:
    """A folder of splits with ``count`` rows each, made of the course's notes."""
    folder.mkdir(parents=True)
    lines = [line for line in corpus() if len(line) > 60]
    for number, split in enumerate(("train", "test")):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for line in lines[number * count : (number + 1) * count]:
                row = {
                    "prompt": [{"role": "user", "content": f"Continue: {line[:30]}"}],
                    "completion": [{"role": "assistant", "content": line[30:200]}],
                }
                file.write(json.dumps(row) + "\n")
    return folder


@dataclass
class Outcome:
    status: int
    out: str
    err: str


class Commands:
    """``to_gguf`` and ``verify`` as functions."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.data = data
        self._capsys = capsys

    def to_gguf(self, *arguments: object) -> Outcome:
        """Without the gate, which is a process of its own and takes seconds; ``verify`` is the same in this one."""
        return self._run(to_gguf.main, [*map(str, arguments), "--no-verify", "--threads", "1"])

    def verify(self, *arguments: object, report: Path | None = None) -> Outcome:
        chosen = [*map(str, arguments), "--data", str(self.data), "--threads", "1", "--tokens", "400"]
        return self._run(verify.main, chosen + (["--report", str(report)] if report else []))

    def _run(self, main: Any, arguments: list[str]) -> Outcome:
        self._capsys.readouterr()
        status = main(arguments)
        said = self._capsys.readouterr()
        return Outcome(status, said.out, said.err)


def left_over(folder: Path) -> list[Path]:
    """Files and folders that an export should not leave."""
    return [path for path in folder.rglob("*") if ".partial" in path.name]


def tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and data of a GGUF's tensors."""
    import gguf

    for tensor in gguf.GGUFReader(path).tensors:
        yield tensor.name, tensor.data
