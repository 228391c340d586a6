"""The commands of the runners, which differ in their default models and tasks only."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from evaluation import runner
from iris.errors import IrisError


def run(
    name: str,
    title: str,
    doc: str,
    arguments: Sequence[str] | None,
    *,
    models: Sequence[str],
    wanted: Sequence[str],
) -> int:
    """Parse, evaluate, and say where the report is. The process's exit status: 0, 2 for an error, 130 for Ctrl-C."""
    options = runner.parser(doc, models=models, wanted=wanted).parse_args(arguments)
    try:
        plan = runner.plan(options, name, title)
        runner.execute(plan)
        print((plan.out / "report.md").read_text(encoding="utf-8"))
        print(f"{plan.out / 'report.md'} and results.json are written.", file=sys.stderr)
        if options.publish:
            print(f"The Compare tab shows {runner.publish(plan.out / 'results.json')}.", file=sys.stderr)
    except IrisError as error:
        print(f"eval_{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; what is done is kept. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0
