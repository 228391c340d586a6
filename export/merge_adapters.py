"""One adapter from several over the same base.

    python export/merge_adapters.py RUN_A RUN_B --weights 0.7 0.3 --out outputs/merged              # exact (cat)
    python export/merge_adapters.py A B C --method ties --density 0.3 --rank 32 --out outputs/merged

    cat               exact; the ranks add up
    linear, svd       the best approximation of the weighted sum; of the adapters' own rank, or of --rank
    ties, dare_ties, dare_linear, magnitude_prune    sparse task arithmetic, on the changes themselves, then --rank

Reports how far the result is from the true weighted sum of the changes, in merge.json too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import adapter as adapters
from export import deltas, outputs, sources
from export.adapter import Adapter
from export.errors import ExportError, SourceError, UnsupportedError
from export.outputs import Staging
from iris.errors import IrisError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the process's exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except IrisError as error:
        print(f"merge_adapters: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("adapters", nargs="+", help="folders of runs or adapters")
    parser.add_argument("--method", choices=deltas.METHODS, default="cat")
    parser.add_argument("--weights", type=float, nargs="+", default=None, help="one for each adapter (default: equal)")
    parser.add_argument("--density", type=float, default=0.5, help="share of each change that sparse methods keep")
    parser.add_argument("--rank", type=int, default=0, help="of the result (default: see above)")
    parser.add_argument("--seed", type=int, default=2223)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    return parser


def _run(options: argparse.Namespace) -> int:
    if len(options.adapters) < 2:
        raise ExportError("Name at least two adapters.")
    weights = options.weights or [1 / len(options.adapters)] * len(options.adapters)
    if len(weights) != len(options.adapters):
        raise ExportError(
            f"There are {len(options.adapters)} adapters and {len(weights)} weights. Give each its weight."
        )
    if not 0 < options.density <= 1:
        raise ExportError(f"--density is the share that is kept: above 0, at most 1, not {options.density:g}.")
    if options.out.exists():
        raise ExportError(f"{options.out} exists already. Name a new folder with --out.")
    found = [adapters.read(_folder(name)) for name in options.adapters]
    rank = _check(found, options.method, options.rank)
    return _merge(options, found, weights, rank)


def _folder(name: str) -> Path:
    path = Path(name)
    if (path / adapters.CONFIG).is_file():
        return path
    if (path / "adapter" / adapters.CONFIG).is_file():
        return path / "adapter"
    found = sources.find(name).adapter
    if found is None:
        raise SourceError(f"{name} is no adapter.")
    return found


def _check(found: Sequence[Adapter], method: str, rank: int) -> int:
    """The rank of the result; refuses what the method would get wrong.

    Raises:
        SourceError: the adapters are of different bases.
        UnsupportedError: the method does not fit them; the message says which one does.
    """
    first = found[0]
    for other in found[1:]:
        if (first.base, first.revision) != (other.base, other.revision):
            raise SourceError(
                f"{first.folder} was trained on {first.base} and {other.folder} on {other.base}. Changes of different "
                "bases do not add up to anything."
            )
        for module in first.deltas.keys() & other.deltas.keys():
            if first.deltas[module].shape != other.deltas[module].shape:
                raise SourceError(f"{module} has another shape in {other.folder} than in {first.folder}.")
        if first.deltas.keys() != other.deltas.keys():
            missing = sorted(first.deltas.keys() ^ other.deltas.keys())[0]
            raise UnsupportedError(f"Only some of the adapters change {missing}. Train them on the same modules.")
    if any(adapter.dora for adapter in found):
        raise UnsupportedError("A DoRA adapter also rescales the base, which no sum expresses. Merge it into its base.")
    ranks = [next(iter(adapter.deltas.values())).rank for adapter in found]
    if method == "cat":
        if rank:
            raise UnsupportedError(
                "cat keeps everything; its rank is the sum of the ranks. For a smaller one take svd."
            )
        return sum(ranks)
    if not rank and len(set(ranks)) > 1:
        raise UnsupportedError(
            f"The adapters have ranks {', '.join(map(str, ranks))}, so {method} has no rank of its own. Take cat, "
            "which is exact, or say --rank."
        )
    if method != "svd" and not rank and len({adapter.rslora for adapter in found}) > 1:
        raise UnsupportedError(
            f"Some of the adapters are rsLoRA and some are not, so their weights do not compare under {method}. Take "
            "cat or svd, which sum the scaled changes."
        )
    return rank or ranks[0]


def _merge(options: argparse.Namespace, found: Sequence[Adapter], weights: Sequence[float], rank: int) -> int:
    import torch
    from safetensors.numpy import save_file
    from tqdm import tqdm

    torch.manual_seed(options.seed)
    tensors: dict[str, Any] = {}
    norm = error = 0.0
    apart: float | None = 0.0
    for module in tqdm(found[0].deltas, unit="module", desc=options.method, disable=None):
        merged = deltas.merge(
            [adapter.deltas[module] for adapter in found], weights, options.method, rank=rank, density=options.density
        )
        tensors[f"base_model.model.{module}.lora_A.weight"] = np.ascontiguousarray(merged.a)
        tensors[f"base_model.model.{module}.lora_B.weight"] = np.ascontiguousarray(merged.b)
        norm, error = norm + merged.norm, error + merged.error
        apart = None if merged.peft_error is None or apart is None else apart + merged.peft_error
    report = {
        "method": options.method,
        "weights": list(weights),
        "density": options.density if options.method in deltas.SPARSE else None,
        "rank": rank,
        "seed": options.seed,
        "relative_error": _relative(error, norm),
        "relative_error_of_peft": None if apart is None or np.isnan(apart) else _relative(apart, norm),
        "adapters": [
            {"name": name, "sha256": outputs.sha256(adapter.folder / adapters.WEIGHTS)}
            for name, adapter in zip(map(_short, options.adapters), found, strict=True)
        ],
    }
    with Staging(options.out.parent, 2 * sum(values.nbytes for values in tensors.values())) as staging:
        beside = staging.path(options.out.name)
        beside.mkdir()
        save_file(tensors, beside / adapters.WEIGHTS, metadata={"format": "pt"})
        _write(beside / adapters.CONFIG, _config(found[0], rank))
        _write(beside / "merge.json", report)
        digest = outputs.sha256(beside / adapters.WEIGHTS)
        (beside / f"{adapters.WEIGHTS}.sha256").write_text(f"{digest}  {adapters.WEIGHTS}\n", encoding="utf-8")
        os.replace(beside, options.out)
    print(f"{options.out}: rank {rank}, {100 * report['relative_error']:.2f} % off the true weighted sum")
    if report["relative_error_of_peft"] is not None:
        print(f"(summing A and B apart, as peft does, would be {100 * report['relative_error_of_peft']:.0f} % off)")
    return 0


def _config(first: Adapter, rank: int) -> dict[str, Any]:
    """The first adapter's configuration with the result's rank; the scalings are in the matrices, so it has 1."""
    about = adapters.config(first.folder)
    return about | {
        "r": rank,
        "lora_alpha": rank,
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "inference_mode": True,
    }


def _relative(error: float, norm: float) -> float:
    return float(np.sqrt(error / norm)) if norm else 0.0


def _short(name: str) -> str:
    path = Path(name).resolve()
    return path.parent.name if path.name == "adapter" else path.name


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
