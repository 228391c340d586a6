"""Audit and build a hundred thousand conversations: wall time and peak memory, each command in its own process.

    python -m benchmarks.data --rows 100000 [--json results.json]

The rows are made up: words follow each other as in the course's own notes, about 300 tokens a row, one in fifty an
exact copy, one in twenty nearly one. Memory is the sum over the command and its worker processes, pages they share
counted for each. Where the CPU seconds are far below twice the wall time, other work held the machine up.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from iris import courses, settings
from iris.engine.tokenizer import Tokenizer

SECONDS, MEGABYTES = 180, 1536  # the limits for audit and build together, and for each
_ANSWER, _QUESTION = (120, 220), (8, 30)  # words
_OPENINGS = (
    "What is",
    "Why does",
    "How do you",
    "Explain",
    "When would one",
    "Compare",
    "I do not understand",
    "Is it true that",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=settings.cpu_quota(), help="worker processes of each command")
    parser.add_argument("--course", type=Path, default=None, help="a course folder (default: all that Iris finds)")
    parser.add_argument("--json", type=Path, default=None, help="write the results here too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "rows.jsonl"
        tokens = generate(path, options.rows, options.course)
        common = ["--processes", str(options.processes), "--out", str(folder / "out")]
        common += ["--courses", str(options.course)] if options.course else []
        audit = _run(["data.audit", str(path), "--json", *common])
        build = _run(["data.build", "--source", "benchmark", "--path", str(path), *common])
        found = json.loads(audit.pop("output"))
        print(build.pop("output"), file=sys.stderr)
    results = {
        "rows": options.rows,
        "megabytes": tokens["megabytes"],
        "tokens_per_row": tokens["tokens_per_row"],
        "date": date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, {settings.cpu_quota()} CPUs",
        "processes": options.processes,
        "audit": audit,
        "build": build,
        "seconds": round(audit["seconds"] + build["seconds"], 1),
        "within_limits": audit["seconds"] + build["seconds"] < SECONDS
        and max(audit["peak_megabytes"], build["peak_megabytes"]) < MEGABYTES,
        "found": {name: found[name] for name in ("distinct_pairs", "distinct_prompts", "distinct_answers")},
    }
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def generate(path: Path, rows: int, folder: Path | None) -> dict[str, float]:
    """Write ShareGPT rows to ``path``; returns its size in megabytes and the mean tokens of a row."""
    random_ = random.Random(1)
    chain = _chain(folder)
    recent: list[tuple[str, str]] = []
    sample: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            draw = random_.random()
            if recent and draw < 0.02:
                question, answer = random_.choice(recent)
            elif recent and draw < 0.07:
                question, answer = random_.choice(recent)
                words = answer.split(" ")
                words[random_.randrange(len(words))] = random_.choice(chain[""])
                answer = " ".join(words)
            else:
                question = f"{random_.choice(_OPENINGS)} {_text(chain, random_, *_QUESTION)}?"
                answer = _text(chain, random_, *_ANSWER) + "."
            if len(recent) < 1000:
                recent.append((question, answer))
            else:
                recent[number % 1000] = question, answer
            if number % 100 == 0:
                sample += question, answer
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            file.write(json.dumps({"conversations": turns, "source": "made up", "score": 5.0}) + "\n")
    counts = Tokenizer().count_many(sample)
    return {"megabytes": round(path.stat().st_size / 1e6, 1), "tokens_per_row": round(2 * sum(counts) / len(counts), 1)}


def _chain(folder: Path | None) -> dict[str, list[str]]:
    """Which words follow a word in the courses; all words under the empty one."""
    words: list[str] = []
    found = [folder] if folder else list(courses.available().values())
    for course in map(courses.load, found):
        for text in (*(note.text for note in course.notes), *(question.answer for question in course.questions)):
            words += text.split()
    words = words or ["the", "loss", "of", "a", "model", "falls", "when", "it", "learns"]
    chain: dict[str, list[str]] = defaultdict(list)
    for first, second in pairwise(words):
        chain[first].append(second)
    chain[""] = words
    return chain


def _text(chain: dict[str, list[str]], random_: random.Random, shortest: int, longest: int) -> str:
    def walk() -> Iterator[str]:
        word = random_.choice(chain[""])
        for _ in range(random_.randint(shortest, longest)):
            yield word
            # Two steps in three follow the text; always doing so would make all rows alike.
            word = random_.choice(chain.get(word, chain[""]) if random_.random() < 0.67 else chain[""])

    return " ".join(walk())


def _run(command: Sequence[str]) -> dict[str, Any]:
    """Run ``python -m`` command; its output, wall time, and peak memory with all its children."""
    print(f"{command[0]} …", file=sys.stderr, flush=True)
    with tempfile.TemporaryFile("w+") as output:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=output)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        output.seek(0)
        if process.returncode:
            raise SystemExit(f"{command[0]} failed with status {process.returncode}.")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "peak_megabytes": round(peak / 2**20),
            "output": output.read(),
        }


def _memory(pid: int) -> int:
    """Resident bytes of a process and all below it (Linux)."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * 4096
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):  # it ended meanwhile
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())
