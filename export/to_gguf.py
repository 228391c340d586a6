"""From an adapter (or a model) to a proven GGUF.

    python export/to_gguf.py outputs/llama32-1b-qlora-finetome-exam --quantize Q4_K_M Q8_0
    python export/to_gguf.py outputs/llama32-1b-qlora-finetome-exam --adapter-only
    python export/to_gguf.py path/to/model-folder --quantize Q4_K_M --imatrix auto --f16

The base is read tensor by tensor and the adapter's change added on the way into one F16 file, which llama.cpp then
quantizes in this process. Every file is written beside its place, held against the original by export/verify.py, and
only then gets its name and a .sha256.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from export import adapter as adapters
from export import adapter_file, base, hf_folder, importance, lineage, model_file, outputs, quantized, sources, texts
from export.adapter import Adapter
from export.base import Base, Field, Weight
from export.errors import ExportError
from export.outputs import Staging
from export.sources import Source
from iris import settings
from iris.errors import IrisError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status: 0, 1 when the gate failed, 2 for an error."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be stopped politely is to be stopped cleanly
    try:
        return _run(options)
    except IrisError as error:
        print(f"to_gguf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("to_gguf: stopped; nothing was left behind.", file=sys.stderr)
        # llama.cpp may still be quantizing in its thread, into a file that has no name any more.
        sys.stderr.flush()
        os._exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", help="folder of a run, an adapter or a model; a GGUF; or owner/name on the Hub")
    parser.add_argument("--base", default="", help="the adapter's base, if not the one it names: folder, GGUF, id")
    parser.add_argument("--quantize", nargs="+", default=[], metavar="KIND", help=", ".join(quantized.KINDS))
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--f16", action="store_true", help="keep the F16 file too")
    kept.add_argument("--bf16", action="store_true", help="keep it as BF16, for values that F16 cannot hold")
    parser.add_argument("--imatrix", default="", metavar="auto|FILE", help="weigh inputs by importance when quantizing")
    parser.add_argument("--adapter-only", action="store_true", help="the adapter alone, for serving over its base")
    parser.add_argument("--hf", type=Path, default=None, metavar="DIR", help="also the merged Hugging Face folder")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results (default: gguf/ in the run)")
    parser.add_argument("--data", type=Path, default=None, help="folder of splits for the gate and --imatrix auto")
    parser.add_argument("--no-verify", action="store_true", help="skip the gate that holds the result to the original")
    parser.add_argument("--threads", type=int, default=settings.cpu_quota())
    return parser


def _run(options: argparse.Namespace) -> int:
    kinds = list(dict.fromkeys(quantized.check_kind(kind) for kind in options.quantize))
    if not (kinds or options.f16 or options.bf16 or options.adapter_only or options.hf):
        raise ExportError("Nothing was asked for. Add --quantize Q4_K_M, --f16, --bf16, --adapter-only or --hf DIR.")
    source = sources.find(options.source, options.base)
    if source.base_note:
        print(f"note: {source.base_note}", file=sys.stderr)
    adapter = adapters.read(source.adapter) if source.adapter else None
    if options.adapter_only and adapter is None:
        raise ExportError(f"{options.source} is no adapter, so --adapter-only has nothing to write.")
    if not options.no_verify:
        texts.folder_of(source.run, options.data)  # before the work, not after it
    opened = base.open_base(source.base)
    try:
        weights = opened.merged(adapter)
        metadata = opened.metadata | lineage.entries(source, adapter)
        _name(metadata, opened.architecture)
        if options.hf:
            _hf(options.hf, source, adapter, base.parameters(weights))
        folder = options.out or source.folder / "gguf"
        if options.adapter_only and adapter:
            return _adapter_only(options, folder, source, opened, adapter)
        if kinds or options.f16 or options.bf16:
            return _models(options, folder, source, opened, weights, metadata, kinds)
        return 0
    finally:
        opened.close()


def _name(metadata: dict[str, Field], architecture: str) -> None:
    """llama.cpp knows by the model's name that Phi-3's special tokens swallow the spaces after them."""
    name = str(metadata["general.name"].value)
    if architecture == "phi3" and not any(part in name.lower() for part in ("phi-3", "phi3")):
        metadata["general.name"] = base.field_of(f"{name} (phi-3)")


def _models(
    options: argparse.Namespace,
    folder: Path,
    source: Source,
    opened: Base,
    weights: list[Weight],
    metadata: dict[str, Field],
    kinds: list[str],
) -> int:
    kind = "BF16" if options.bf16 else "F16"
    numbers = base.parameters(weights)
    weighed = [k for k in kinds if options.imatrix and k not in quantized.WITHOUT_IMPORTANCE]
    plain = [] if options.no_verify else weighed  # the same without imatrix, to prove that it is not worse
    size = model_file.size_of(weights, kind)
    with Staging(folder, size + sum(quantized.size_of(numbers, k) for k in [*kinds, *plain])) as staging:
        full = _file(source, kind)
        _write(options, staging, full, opened, weights, metadata, kind)
        opened.close()
        matrix = _importance(options, source, staging, full, weights) if weighed else None
        about = _weighed_on(options, source) if weighed else ""
        files = {full: kind}
        for wanted in kinds:
            name = _file(source, wanted)
            files[name] = wanted
            _quantize(staging, full, name, wanted, options.threads, matrix, about)
            if wanted in plain:
                _quantize(staging, full, _without(name), wanted, options.threads, None)
                files[_without(name)] = wanted
        kept = [name for name in files if name != full or options.f16 or options.bf16]
        failed = set() if options.no_verify else _gate(options, staging, list(files), source)
        return _finish(staging, kept, failed)


def _importance(
    options: argparse.Namespace, source: Source, staging: Staging, full: str, weights: list[Weight]
) -> quantized.Importance:
    if options.imatrix != "auto":
        return importance.read(Path(options.imatrix), [(w.name, w.shape[-1]) for w in weights])
    folder = texts.folder_of(source.run, options.data)
    rows = texts.rows(folder, "train")
    rows = texts.spread(rows, max(1, importance.TOKENS // 64))
    with tqdm(total=importance.TOKENS, unit="token", desc="imatrix", disable=None) as bar:
        matrix = importance.collect(staging.path(full), rows, threads=options.threads, step=bar.update)
    name = f"{source.name}_imatrix.gguf"
    importance.write(staging.path(name), matrix, _weighed_on(options, source))
    print(f"{staging.accept(name)}  {staging.final / name}")
    return matrix


def _weighed_on(options: argparse.Namespace, source: Source) -> str:
    """Whose importance it is, without saying where this machine keeps it."""
    if options.imatrix != "auto":
        return importance.collected_on(Path(options.imatrix))
    return f"{texts.folder_of(source.run, options.data).name}, train split"


def _gate(
    options: argparse.Namespace, staging: Staging, names: list[str], source: Source, adapter: str = ""
) -> set[str]:
    """Run verify.py, in a process of its own, so that torch's memory is not there while this one works.

    Of each pair with and without imatrix the one nearer to the original keeps the name. Returns those that failed.
    """
    report = f"{source.name}{'_adapter' if adapter else ''}.report.json"
    command = [
        sys.executable,
        "-W",
        "ignore::FutureWarning",
        str(Path(__file__).with_name("verify.py")),
        *(str(staging.path(name)) for name in names),
    ]
    command += ["--against", options.source, "--report", str(staging.path(report)), "--threads", str(options.threads)]
    command += ["--base", options.base] if options.base else []
    command += ["--data", str(options.data)] if options.data else []
    command += ["--adapter", str(staging.path(adapter))] if adapter else []
    done = subprocess.run(command, check=False)
    if done.returncode not in (0, 1):
        raise ExportError("The gate could not be run, so nothing is kept. (--no-verify exports without it.)")
    about = json.loads(staging.path(report).read_text(encoding="utf-8"))
    found = {entry["file"]: entry for entry in about["files"]}
    for name in [name for name in names if _without(name) in found]:
        if found[_without(name)]["distance"]["kl"] < found[name]["distance"]["kl"]:
            print(f"{name}: the imatrix did not help, so the file without it is kept.")
            os.replace(staging.path(_without(name)), staging.path(name))
            found[name] = found[_without(name)]
        staging.path(_without(name)).unlink(missing_ok=True)
    staging.accept(report)
    if adapter:
        return {adapter} if done.returncode else set()
    return {name for name, entry in found.items() if not entry["passed"]}


def _adapter_only(options: argparse.Namespace, folder: Path, source: Source, opened: Base, adapter: Adapter) -> int:
    name = f"{source.name}_adapter_f16.gguf"
    size = sum(2 * (delta.a.size + delta.b.size) for delta in adapter.deltas.values())
    with Staging(folder, size + (0 if source.base.is_file() else model_file.size_of(opened.weights, "F16"))) as staging:
        adapter_file.write(staging.path(name), opened, adapter, lineage.entries(source, adapter))
        failed: set[str] = set()
        if not options.no_verify:
            under = "base_f16.gguf"
            if source.base.is_file():
                staging.path(under).symlink_to(source.base.resolve())
            else:
                _write(options, staging, under, opened, opened.weights, opened.metadata, "F16")
            failed = _gate(options, staging, [under], source, name)
        return _finish(staging, [name], failed)


def _hf(folder: Path, source: Source, adapter: Adapter | None, numbers: int) -> None:
    """The merged Hugging Face folder, which appears when it is complete."""
    if folder.exists():
        raise ExportError(f"{folder} exists already. Name a new folder with --hf.")
    with (
        Staging(folder.parent, 4 * numbers) as staging,
        tqdm(unit="B", unit_scale=True, desc=folder.name, disable=None) as bar,
    ):
        beside = staging.path(folder.name)
        beside.mkdir()
        hf_folder.write(beside, source.base, adapter, bar.update)
        for path in sorted(beside.glob("*.safetensors")):
            digest = outputs.sha256(path)
            path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
            print(f"{digest}  {folder / path.name}")
        os.replace(beside, folder)


def _write(
    options: argparse.Namespace,
    staging: Staging,
    name: str,
    opened: Base,
    weights: list[Weight],
    metadata: dict[str, Field],
    kind: str,
) -> None:
    """Write the file that is not quantized, with a progress bar."""
    total = model_file.size_of(weights, kind) - model_file.HEADER
    with tqdm(total=total, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        model_file.write(
            staging.path(name),
            opened.architecture,
            metadata,
            weights,
            kind=kind,
            threads=options.threads,
            advance=bar.update,
        )


def _finish(staging: Staging, names: list[str], failed: set[str]) -> int:
    """Give every file that passed its name. Of a pair with and without imatrix, one remains."""
    status = 0
    for name in names:
        if not staging.path(name).is_file():
            continue  # the worse of a pair, already removed
        if name in failed:
            print(f"rejected  {staging.reject(name)}")
            status = 1
        else:
            print(f"{staging.accept(name)}  {staging.final / name}")
    return status


def _file(source: Source, kind: str) -> str:
    return f"{source.name}_{kind.lower()}.gguf"


def _without(name: str) -> str:
    """The name of the same quantization without imatrix, made for the comparison."""
    return name.replace(".gguf", ".plain.gguf")


def _quantize(
    staging: Staging,
    full: str,
    name: str,
    kind: str,
    threads: int,
    matrix: quantized.Importance | None,
    weighed_on: str = "",
) -> None:
    with tqdm(unit="tensor", desc=name, disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        quantized.quantize(
            staging.path(full),
            staging.path(name),
            kind,
            threads=threads,
            importance=matrix,
            weighed_on=weighed_on,
            progress=progress,
        )


if __name__ == "__main__":
    sys.exit(main())
