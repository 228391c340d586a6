"""Serve a class: Iris against plain llama-cpp-python, llama.cpp's server engine, and bare decoding, in one run.

    python -m benchmarks.serve MODEL.gguf --users 1,4,8 [--tokens 64] [--rounds 3] [--json results.json]

MODEL is a path or a catalog id. Each measurement is a process of its own; the backends take turns, round by round, so
that a slow minute of the machine hits all of them; medians over the rounds are printed. xllamacpp is optional:
pip install -e '.[bench]'.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from iris import catalog, settings

COLUMNS = ("tokens_per_s", "first_turn_s", "follow_up_s", "gap_p95_s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("--users", default="1,4,8")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=settings.cpu_quota())
    parser.add_argument("--json", type=Path, default=None, help="write the results here too")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    model = catalog.resolve(options.model).path
    users = [int(n) for n in options.users.split(",")]
    if options.one:
        print(json.dumps(_measure(options.one, model, users[0], options.tokens, options.threads)))
        return 0

    # Asked in a process of its own, too: loading llama.cpp sets OpenMP up for Iris, and peers would inherit that.
    copied = _apart("copied", model, 1, options)["copied"]
    names = [
        "iris",
        *(["iris, same file"] if copied else []),
        "plain",
        *(["xllamacpp"] if importlib.util.find_spec("xllamacpp") else []),
    ]
    results: dict[str, Any] = {
        "model": model.name,
        "date": date.today().isoformat(),
        "machine": f"{processor()}, {options.threads} threads",
        "tokens": options.tokens,
        "rounds": options.rounds,
        "classes": {},
    }
    for students in users:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in [*names, "decode"]}
        for number in range(options.rounds):
            for name in rounds:
                print(f"{students} students, round {number + 1}: {name} …", file=sys.stderr, flush=True)
                rounds[name].append(_apart(name, model, students, options))
        results["classes"][students] = {
            name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in rounds.items()
        }
    print(_table(results))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _apart(name: str, model: Path, students: int, options: argparse.Namespace) -> dict[str, float]:
    """One measurement in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.serve", str(model), "--users", str(students), "--one", name]
    command += ["--tokens", str(options.tokens), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def _measure(name: str, model: Path, students: int, tokens: int, threads: int) -> dict[str, float]:
    from benchmarks import backends, classroom

    sys.setswitchinterval(0.001)  # as Iris serves
    if name == "copied":
        from iris.engine.fastcopy import needs_copy

        return {"copied": needs_copy(model)}
    if name == "decode":
        return backends.decode_pace(model, students, threads, tokens)
    chat = backends.BACKENDS[name](model, students, threads)
    for _ in chat([{"role": "user", "content": "Hello"}], 8):  # page in the weights; caches none of the workload
        pass
    return classroom.run(chat, students, tokens).row()


def _table(results: dict[str, Any]) -> str:
    lines = [
        f"{results['model']}, {results['machine']}, {results['date']}; medians of {results['rounds']} rounds",
        "",
        "| students | engine | tokens/s | first token, 1st turn | first token, follow-up | p95 gap |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for students, rows in results["classes"].items():
        for name, row in rows.items():
            if name != "decode":
                lines.append(
                    f"| {students} | {name} | {row['tokens_per_s']:.0f} | {row['first_turn_s']:.2f} s "
                    f"| {row['follow_up_s']:.2f} s | {1000 * row['gap_p95_s']:.0f} ms |"
                )
    lines += ["", "| students | decode, Iris | decode, ceiling | share |", "|---:|---:|---:|---:|"]
    for students, rows in results["classes"].items():
        row = rows["decode"]
        lines.append(
            f"| {students} | {row['iris_tokens_per_s']:.0f} tokens/s | {row['ceiling_tokens_per_s']:.0f} tokens/s "
            f"| {100 * row['ratio']:.0f} % |"
        )
    lines.append("")
    for students, rows in results["classes"].items():
        for peer in ("plain", "xllamacpp"):
            if peer in rows:
                ours, theirs = rows["iris"], rows[peer]
                lines.append(
                    f"{students} students, Iris / {peer}: "
                    f"{ours['tokens_per_s'] / theirs['tokens_per_s']:.2f} × tokens/s, "
                    f"{ours['first_token_s'] / theirs['first_token_s']:.2f} × time to first token"
                )
    return "\n".join(lines)


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
