"""Fine-tune Llama 3.2 3B for the course: general instructions first, then the course's questions.

    python training/train_3b_exam.py             the two stages (recipe llama32-3b-qlora-finetome-exam)
    python training/train_3b_exam.py --direct    the course alone (recipe llama32-3b-qlora-exam)

All other options are those of training/train.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from iris.errors import IrisError
from training import recipes, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="training/train_3b_exam.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--direct", action="store_true", help="train on the course alone")
    train.add_options(parser)
    options = parser.parse_args(arguments)
    name = "llama32-3b-qlora-exam" if options.direct else "llama32-3b-qlora-finetome-exam"
    try:
        return train.start(recipes.find(name), options)
    except IrisError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
