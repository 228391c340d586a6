"""What did training on the course bring: base, general stage, general stage then course, course alone.

    python evaluation/eval_domain.py
    python evaluation/eval_domain.py --models base=smollm2-135m exam=outputs/smollm2-135m-qlora-exam/gguf/X.gguf
    python evaluation/eval_domain.py --system study_chat --judge judge.gguf

Free answers and multiple choice on held-out questions of the course, the ten course prompts, and texts that show what
was forgotten. Results, report and plots go to outputs/evaluation/domain; the same command goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation import commands

_RUN = "outputs/smollm2-135m-qlora-{}"
TASKS = ("domain", "course", "mcq", "dolly", "wikitext")


def models() -> list[str]:
    """The four models of the built-in base: GGUFs of the runs where they were exported, else the adapters themselves.

    The general stage may be a run of its own, or the first stage of the two-stage run.
    """
    both = _RUN.format("finetome-exam")
    return [
        "base=smollm2-135m",
        f"finetome={_exported(_RUN.format('finetome'), f'{both}/stages/finetome')}",
        f"finetome-exam={_exported(both)}",
        f"exam={_exported(_RUN.format('exam'))}",
    ]


def _exported(*folders: str) -> str:
    for folder in map(Path, folders):
        for kind in ("q8_0", "q4_k_m", "f16"):
            if found := sorted(folder.glob(f"gguf/*_{kind}.gguf")):
                return str(found[0])
        for place in (folder, folder / "adapter"):
            if (place / "run.json").is_file() or (place / "adapter_config.json").is_file():
                return str(place)
    return folders[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status."""
    return commands.run(
        "domain", "What training on the course brought", __doc__ or "", arguments, models=models(), wanted=TASKS
    )


if __name__ == "__main__":
    sys.exit(main())
