"""What an adapter costs: the base alone, the adapter added at each step, and the adapter worked into a copy.

    python -m benchmarks.adapter [iris-id2223] [--threads 2] [--rounds 5] [--json results.json]

All forms are loaded in one process and measured in turn, round after round: a prompt of 512 tokens, and 32 steps of
writing for one and for eight sequences that hold 256 tokens each. Prints medians, and speeds as a share of the base's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from iris import catalog
from iris.engine import llama
from iris.engine.fastcopy import fast_copy
from iris.engine.llama import Context, Model
from iris.engine.merged import merged_copy
from iris.errors import IrisError

PROMPT, HELD, STEPS = 512, 256, 32
COUNTS = (1, 8)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model", nargs="?", default="iris-id2223", help="a catalog id with an adapter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        files = catalog.resolve(options.model)
    except IrisError as error:
        parser.error(str(error))
    if files.adapter is None:
        parser.error(f"{options.model} has no adapter.")
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        served = fast_copy(files.path, cache, threads=options.threads)
        merged = merged_copy(files.path, files.adapter, cache, threads=options.threads)
        if merged is None:
            parser.error("The adapter could not be worked into a copy; see the log.")
        forms = {
            "base": _Form(served, None, options.threads),
            "adapter at each step": _Form(served, files.adapter, options.threads),
            "worked into a copy": _Form(merged, None, options.threads),
        }
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in forms}
        for _ in range(options.rounds):
            for name, form in forms.items():
                rows[name].append(form.measure())
        for form in forms.values():
            form.close()
    results = {
        name: {what: median(row[what] for row in measured) for what in measured[0]} for name, measured in rows.items()
    }
    print(f"{'tokens/s':22}" + "".join(f"{what:>22}" for what in results["base"]))
    for name, speeds in results.items():
        cells = (f"{speed:,.0f} ({speed / results['base'][what]:.2f})" for what, speed in speeds.items())
        print(f"{name:22}" + "".join(f"{cell:>22}" for cell in cells))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


class _Form:
    """A model in memory, and how fast it reads and writes."""

    def __init__(self, path: Path, adapter: Path | None, threads: int) -> None:
        self._model = Model(path, adapter)
        cells = max(COUNTS) * (HELD + STEPS) + PROMPT
        self._context = Context(self._model, cells=cells, sequences=max(COUNTS), batch=PROMPT, threads=threads)
        self._tokens = [token for token in range(1000, 1000 + PROMPT) if token not in self._model.end_tokens]

    def measure(self) -> dict[str, float]:
        """Tokens a second: reading a prompt, and writing for each of ``COUNTS`` sequences at once."""
        batch = self._context.batch
        self._forget()
        batch.clear()
        batch.add(self._tokens, 0, 0, output_last=True)
        began = time.perf_counter()
        self._decode()
        speeds = {"reading": len(self._tokens) / (time.perf_counter() - began)}
        for count in COUNTS:
            self._forget()
            for sequence in range(count):
                batch.clear()
                batch.add(self._tokens[:HELD], 0, sequence, output_last=False)
                self._decode()
            began = time.perf_counter()
            for step in range(STEPS):
                batch.clear()
                for sequence in range(count):
                    batch.add(self._tokens[step : step + 1], HELD + step, sequence, output_last=True)
                self._decode()
            speeds[f"writing {count}"] = count * STEPS / (time.perf_counter() - began)
        return speeds

    def _decode(self) -> None:
        if self._context.decode():
            raise SystemExit("llama.cpp could not decode.")
        llama.library.llama_synchronize(self._context.handle)

    def _forget(self) -> None:
        for sequence in range(max(COUNTS)):
            self._context.truncate(sequence, 0)

    def close(self) -> None:
        self._context.close()
        self._model.close()


if __name__ == "__main__":
    sys.exit(main())
