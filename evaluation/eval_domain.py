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

from evaluation import commands

_RUN = "outputs/smollm2-135m-qlora-{0}/gguf/smollm2-135m-qlora-{0}_q8_0.gguf"
MODELS = (
    "base=smollm2-135m",
    f"finetome={_RUN.format('finetome')}",
    f"finetome-exam={_RUN.format('finetome-exam')}",
    f"exam={_RUN.format('exam')}",
)
TASKS = ("domain", "course", "mcq", "dolly", "wikitext")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status."""
    return commands.run(
        "domain", "What training on the course brought", __doc__ or "", arguments, models=MODELS, wanted=TASKS
    )


if __name__ == "__main__":
    sys.exit(main())
