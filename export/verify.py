"""Hold a GGUF against the model that was trained.

    python export/verify.py outputs/RECIPE/gguf/RECIPE_q4_k_m.gguf                # the gate; status 1 when it fails
    python export/verify.py MODEL.gguf --against RUN_OR_ADAPTER [--base BASE]
    python export/verify.py BASE.gguf --adapter ADAPTER.gguf --against RUN_OR_ADAPTER
    python export/verify.py FILE.gguf --lineage                                   # print where it comes from, check it

Token ids of 200 strings and 20 conversations must be equal, one BOS, the end of turn must stop generation, and the
logits on held-out course text must be those of transformers and peft, within what the file's kind rounds away.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tqdm import tqdm

from export import gate, lineage, sources, texts
from export.errors import ExportError
from export.gate import Verdict
from export.sources import Source
from iris import settings
from iris.errors import IrisError

TOKENS = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status: 0 passed, 1 failed, 2 for an error."""
    options = _parser().parse_args(arguments)
    try:
        if options.lineage:
            return max(_lineage(path, options.against) for path in options.files)
        return _gate(options)
    except IrisError as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.gguf")
    parser.add_argument(
        "--lineage", action="store_true", help="print and check where the files come from, nothing else"
    )
    parser.add_argument("--against", default="", help="the run, adapter or model (default: the folder above gguf/)")
    parser.add_argument("--base", default="", help="the adapter's base, if not the one it names")
    parser.add_argument("--adapter", type=Path, default=None, help="an adapter GGUF to put over the files")
    parser.add_argument("--data", type=Path, default=None, help="folder of splits; test.jsonl is compared on")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="places at which logits are compared")
    parser.add_argument("--report", type=Path, default=None, help="where the JSON report goes")
    parser.add_argument("--threads", type=int, default=settings.cpu_quota())
    return parser


def _gate(options: argparse.Namespace) -> int:
    missing = [path for path in [*options.files, *filter(None, [options.adapter])] if not path.is_file()]
    if missing:
        raise ExportError(f"There is no file {missing[0]}.")
    first: Path = options.files[0]
    target = options.against or str(first.resolve().parent.parent)
    source = sources.find(target, options.base)
    folder = texts.folder_of(source.run, options.data)
    found = texts.rows(folder, "test")
    verdicts = _verdicts(options, source, found)
    print(gate.table(verdicts))
    for verdict in verdicts:
        for failure in verdict.failures:
            print(f"{verdict.file}: {failure}")
    report = options.report or first.with_name(f"{source.name}.report.json")
    _write(report, _report(source, folder, verdicts))
    return int(any(verdict.failures for verdict in verdicts))


def _verdicts(options: argparse.Namespace, source: Source, found: Sequence[texts.Row]) -> list[Verdict]:
    from export.reference import Reference

    with gate.workspace() as workspace, tqdm(unit="token", desc="original", disable=None) as bar:
        wanted = gate.original(Reference(source), found, options.tokens, Path(workspace), bar.update)
        verdicts = []
        for path in options.files:
            bar.set_description(path.name)
            verdicts.append(gate.judge(path, wanted, adapter=options.adapter, threads=options.threads, step=bar.update))
    return verdicts


def _report(source: Source, folder: Path, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    import importlib.metadata

    return {
        "format": gate.FORMAT,
        "source": source.name,
        "base": {"source": source.base_id, "revision": source.base_revision},
        "held_out": {"data": folder.name, "split": "test", "tokens": verdicts[0].distance.tokens},
        "date": date.today().isoformat(),
        "packages": {
            name: importlib.metadata.version(name)
            for name in ("torch", "transformers", "peft", "gguf", "llama-cpp-python")
        },
        "machine": f"{platform.machine()}, {settings.cpu_quota()} CPUs",
        "passed": not any(verdict.failures for verdict in verdicts),
        "files": [verdict.as_json() for verdict in verdicts],
    }


def _write(path: Path, report: dict[str, Any]) -> None:
    beside = path.with_name(f"{path.name}.partial")
    try:
        beside.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ExportError(f"The report {path} cannot be written: {error.strerror or error}.") from error


def _lineage(path: Path, against: str) -> int:
    found = lineage.read(path)
    print(path.name)
    for key, value in sorted(found.items()):
        print(f"  {key} = {value}")
    findings = lineage.check(path, found, against)
    for finding in findings:
        mark = {True: "ok     ", False: "WRONG  ", None: "unknown"}[finding.ok]
        print(f"{mark} {finding.what}: {finding.detail}")
    return int(any(finding.ok is False for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
