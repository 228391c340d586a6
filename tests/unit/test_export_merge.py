"""Several adapters as one: exact where it is promised, with an honest error where it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import adapter as adapters
from export import deltas, merge_adapters
from tests.unit import tiny_models
from tests.unit.exporting import left_over

Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def pair(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("pair")
    options: dict[str, Any] = {"target_modules": ["q_proj", "down_proj"]}
    return (
        tiny_models.adapt(tiny("llama3"), root / "a", seed=1, **options),
        tiny_models.adapt(tiny("llama3"), root / "b", seed=2, **options),
    )


def change(folder: Path, module: str) -> Any:
    delta = adapters.read(folder).deltas[module]
    return delta.scaling * (delta.b @ delta.a)


MODULES = ["model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj"]


@pytest.mark.parametrize("module", MODULES)
def test_cat_is_the_weighted_sum(pair: tuple[Path, Path], tmp_path: Path, module: str) -> None:
    out = tmp_path / "out"
    assert merge_adapters.main([*map(str, pair), "--weights", "0.7", "-0.2", "--out", str(out)]) == 0
    wanted = 0.7 * change(pair[0], module) - 0.2 * change(pair[1], module)
    assert np.allclose(change(out, module), wanted, atol=1e-5)
    report = json.loads((out / "merge.json").read_text())
    assert report["relative_error"] < 1e-5
    assert len(report["adapters"]) == 2
    assert left_over(tmp_path) == []


def test_full_rank_svd_is_exact_and_half_of_it_the_best_there_is(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for rank in (16, 8):
        out = tmp_path / str(rank)
        assert merge_adapters.main([*map(str, pair), "--method", "svd", "--rank", str(rank), "--out", str(out)]) == 0
        wanted = (change(pair[0], MODULES[0]) + change(pair[1], MODULES[0])) / 2
        left = np.linalg.svd(wanted, compute_uv=False)[rank:]
        error = np.linalg.norm(change(out, MODULES[0]) - wanted)
        assert error == pytest.approx(np.linalg.norm(left), rel=1e-3, abs=1e-4)


def test_the_result_loads_in_peft(tiny: Tiny, pair: tuple[Path, Path], tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out = tmp_path / "out"
    assert merge_adapters.main([*map(str, pair), "--out", str(out)]) == 0
    base: Any = AutoModelForCausalLM.from_pretrained(tiny("llama3"), dtype=torch.float32)
    before = base.get_submodule(MODULES[0]).weight.detach().clone()
    merged = PeftModel.from_pretrained(base, str(out)).merge_and_unload()
    after = merged.get_submodule(MODULES[0]).weight.detach()
    assert np.allclose((after - before).numpy(), change(out, MODULES[0]), atol=1e-5)


def test_linear_says_how_far_peft_would_be_off(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge_adapters.main([*map(str, pair), "--method", "linear", "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/merge.json").read_text())
    assert report["relative_error"] < 0.8 < report["relative_error_of_peft"]
    assert "% off the true weighted sum" in capsys.readouterr().out


@pytest.mark.parametrize("method", deltas.SPARSE)
def test_sparse_methods_are_those_of_peft_on_whole_changes_and_seeded(
    method: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    import torch
    from peft.utils import merge_utils

    results = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        options = ["--method", method, "--density", "0.4", "--rank", "256", "--seed", str(seed), "--out", str(out)]
        assert merge_adapters.main([*map(str, pair), *options]) == 0
        results.append(change(out, MODULES[0]))
    assert np.array_equal(results[0], results[1])
    if method.startswith("dare"):
        assert not np.allclose(results[0], results[2])
        assert np.linalg.norm(results[0]) > 0
        return
    parts = [torch.from_numpy(change(folder, MODULES[0])) for folder in pair]
    wanted = getattr(merge_utils, method)(parts, torch.tensor([0.5, 0.5]), 0.4).numpy()
    assert np.allclose(results[0], wanted, atol=1e-3 * np.abs(wanted).max())


def test_what_does_not_fit_is_refused_with_what_does(
    tiny: Tiny, pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"target_modules": ["q_proj", "down_proj"]}
    wide = tiny_models.adapt(tiny("llama3"), tmp_path / "wide", r=12, **options)
    root_scaled = tiny_models.adapt(tiny("llama3"), tmp_path / "rs", use_rslora=True, **options)
    other = tiny_models.adapt(tiny("smollm2"), tmp_path / "other", **options)
    fewer = tiny_models.adapt(tiny("llama3"), tmp_path / "fewer", target_modules=["q_proj"])
    dora = tiny_models.adapt(tiny("llama3"), tmp_path / "dora", use_dora=True, **options)

    def refused(*arguments: object) -> str:
        assert merge_adapters.main([*map(str, arguments), "--out", str(tmp_path / "out")]) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "have ranks 8, 12, so linear has no rank of its own. Take cat" in refused(
        pair[0], wide, "--method", "linear"
    )
    assert "Take cat or svd" in refused(pair[0], root_scaled, "--method", "ties")
    assert "Changes of different bases" in refused(pair[0], other)
    assert "Only some of the adapters change" in refused(pair[0], fewer)
    assert "DoRA" in refused(pair[0], dora)
    assert "2 adapters and 3 weights" in refused(*pair, "--weights", 1, 2, 3)
    assert "at least two" in refused(pair[0])
    assert merge_adapters.main([str(pair[0]), str(root_scaled), "--out", str(tmp_path / "out")]) == 0
    wanted = (change(pair[0], MODULES[0]) + change(root_scaled, MODULES[0])) / 2
    assert np.allclose(change(tmp_path / "out", MODULES[0]), wanted, atol=1e-5)
    shutil.rmtree(tmp_path / "out")
