"""Which way of training, and which size: LoRA against QLoRA, models and quantizations of several sizes.

    python evaluation/eval_models.py --models lora=outputs/R-lora qlora=outputs/R-qlora 3b=llama32-3b-qlora-exam
    python evaluation/eval_models.py --models q4=R_q4_k_m.gguf q8=R_q8_0.gguf --tasks general philosophy mcq

The ten general prompts, philosophy, the course's multiple choice, and texts that show what was forgotten; size, speed
and memory of each model. Results, report and plots go to outputs/evaluation/models.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from evaluation import commands

_RUN = "outputs/smollm2-135m-qlora-exam/gguf/smollm2-135m-qlora-exam_{}.gguf"
MODELS = (
    "base=smollm2-135m",
    "iris-id2223",
    f"exam-q4_k_m={_RUN.format('q4_k_m')}",
    f"exam-q8_0={_RUN.format('q8_0')}",
)
TASKS = ("general", "philosophy", "mcq", "dolly", "wikitext")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status."""
    return commands.run(
        "models", "Models of several kinds and sizes", __doc__ or "", arguments, models=MODELS, wanted=TASKS
    )


if __name__ == "__main__":
    sys.exit(main())
