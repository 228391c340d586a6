"""From `make run` with everything installed to the first word of the first answer.

    python -m benchmarks.startup [--rounds 5]

Each round starts `make run` on a free port with an empty state folder, waits for the address it prints, and asks one
question through the API. Prints the median of both spans.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    import gradio_client  # noqa: F401 - the client's own import is not part of what is measured

    rows = [_round() for _ in range(options.rounds)]
    for name, values in (("address printed", [r[0] for r in rows]), ("first word", [r[1] for r in rows])):
        print(f"{name}: median {median(values):.2f} s, min {min(values):.2f} s, max {max(values):.2f} s")
    return 0


def _round() -> tuple[float, float]:
    """Seconds until the address is printed, and until the first word."""
    from gradio_client import Client

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "IRIS_HOME": home, "IRIS_PORT": str(port)}
        began = time.perf_counter()
        process = subprocess.Popen(
            ["make", "--silent", "run"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "running at" in line:
                    break
            ready = time.perf_counter() - began
            job = Client(f"http://127.0.0.1:{port}", verbose=False).submit(
                "What is a feature store?", api_name="/study_chat"
            )
            for partial in job:
                if partial:
                    break
            first = time.perf_counter() - began
            job.cancel()
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=30)
    return ready, first


if __name__ == "__main__":
    sys.exit(main())
