"""The methods: what of a base model is trained, and how an adapter is begun, continued and written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from training.base import BaseFiles
from training.errors import BaseError, RecipeError
from training.recipes import Recipe

_PARTS = ("lora_", "ia3_", "ranknum")
"""What names of adapter parameters contain."""

_FAMILY = {"lora": "LORA", "qlora": "LORA", "dora": "LORA", "rslora": "LORA", "ia3": "IA3", "adalora": "ADALORA"}


def attach(model: Any, recipe: Recipe, found: BaseFiles, *, steps: int, start: Path | None) -> Any:
    """``model`` with the adapter of the recipe: that in the folder ``start``, or a new one that changes nothing yet.

    ``steps`` is the length of the stage, which AdaLoRA's schedule needs.

    Raises:
        BaseError: the adapter in ``start`` belongs to another base, or is of another kind or rank.
    """
    import peft

    if recipe.method == "full":
        return model
    if start is None:
        try:
            return peft.get_peft_model(model, _config(recipe, found, steps))
        except ValueError as error:  # no layer of these names, or none that peft knows for this architecture
            raise BaseError(f"{recipe.method} cannot be put on {found.base.id}: {error}") from error
    _check(start, recipe, found)
    try:
        continued = peft.PeftModel.from_pretrained(model, str(start), is_trainable=True)
    except (RuntimeError, ValueError) as error:
        raise BaseError(f"The adapter in {start} does not fit {found.base.id}: {str(error).splitlines()[0]}") from error
    # When it saves, peft looks there for the size of the vocabulary: in the folder at hand, not on the Hub.
    continued.peft_config["default"].base_model_name_or_path = found.location
    return continued


def _config(recipe: Recipe, found: BaseFiles, steps: int) -> Any:
    import peft

    layers = list(found.base.projections)
    if recipe.method == "ia3":
        # Liu et al. (2022) rescale keys, values and the feed-forward's inner activations; where peft does not know
        # the architecture it says so.
        return peft.IA3Config(task_type="CAUSAL_LM")
    shared = {"lora_alpha": recipe.lora_alpha, "lora_dropout": recipe.lora_dropout, "target_modules": layers}
    if recipe.method == "adalora":
        warm, cool = steps // 10, steps // 3
        if steps - warm - cool < 2:
            raise RecipeError(f"AdaLoRA needs some steps to move ranks about; this stage has {steps}.")
        # It starts with half as much rank again and prunes down to lora_r on average.
        return peft.AdaLoraConfig(
            init_r=recipe.lora_r * 3 // 2,
            target_r=recipe.lora_r,
            tinit=warm,
            tfinal=cool,
            deltaT=max(1, steps // 100),
            total_step=steps,
            task_type="CAUSAL_LM",
            **shared,
        )
    return peft.LoraConfig(
        r=recipe.lora_r,
        use_dora=recipe.method == "dora",
        use_rslora=recipe.method == "rslora",
        task_type="CAUSAL_LM",
        **shared,
    )


def _check(folder: Path, recipe: Recipe, found: BaseFiles) -> None:
    about = read_config(folder)
    if about["peft_type"] != _FAMILY[recipe.method]:
        raise BaseError(f"The adapter in {folder} is {about['peft_type']}; {recipe.name} trains {recipe.method}.")
    named = about.get("base_model_name_or_path") or ""
    if named != found.base.source:
        raise BaseError(
            f"The adapter in {folder} was trained on {named or 'an unnamed base'}, not on {found.base.source}. "
            f"Take that base with --base, or another adapter."
        )
    if about["peft_type"] == "LORA":
        switches = {"use_dora": recipe.method == "dora", "use_rslora": recipe.method == "rslora"}
        wanted = {"r": recipe.lora_r, "lora_alpha": recipe.lora_alpha, **switches}
        wrong = [f"{key} {about.get(key)}, not {value}" for key, value in wanted.items() if about.get(key) != value]
        if wrong:
            raise BaseError(f"The adapter in {folder} has {'; '.join(wrong)}, as {recipe.name} would have it.")


def read_config(folder: Path) -> dict[str, Any]:
    """The adapter_config.json of a folder.

    Raises:
        BaseError: it has none.
    """
    path = folder / "adapter_config.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseError(f"{folder} holds no adapter: {path.name} is missing or broken.") from error
    return about


def check_trainable(model: Any, recipe: Recipe) -> int:
    """How many parameters get gradients.

    Raises:
        BaseError: something of the base would be trained with an adapter method.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    stray = [name for name in trained if not any(part in name for part in _PARTS)]
    if recipe.method != "full" and stray:
        raise BaseError(f"{recipe.method} would train {stray[0]} of the base itself. This is a mistake in training/.")
    return sum(weight.numel() for weight in trained.values())


def save(model: Any, tokenizer: Any, folder: Path, found: BaseFiles) -> None:
    """Write the adapter (or, for full fine-tuning, the model) to ``folder``, which appears when it is complete.

    The adapter names its base as the recipe does, not by where this machine keeps it.
    """
    beside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.save_pretrained(beside, save_embedding_layers=False)
        path = beside / "adapter_config.json"
        about = json.loads(path.read_text(encoding="utf-8"))
        about["base_model_name_or_path"] = found.base.source
        about["revision"] = found.revision
        about["target_modules"] = sorted(about["target_modules"])  # peft's order is that of a set
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        (beside / "README.md").unlink(missing_ok=True)  # peft's empty card; run.json says more
    else:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def orthogonality(model: Any) -> Any:
    """AdaLoRA's regularizer, the mean over all factors of ‖PᵀP − I‖ (Zhang et al., 2023, equation 4), weighted.

    peft adds it to the loss that the model itself computes, which is not the one used here.
    """
    import torch

    terms = []
    for name, weight in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = weight @ weight.T if "lora_A" in name else weight.T @ weight
            terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
    return model.peft_config["default"].orth_reg_weight * torch.stack(terms).mean()
