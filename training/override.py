"""Changes to a recipe from the command line: ``--set lora_r=8 --set exam.learning_rate=1e-4``."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from training.errors import RecipeError
from training.recipes import Recipe, Stage

_FIXED = {"name", "stages"}
_MAY_BE_ZERO = {"rows", "warmup", "max_steps", "patience", "lora_dropout", "weight_decay", "max_grad_norm", "seed"}
_SHARES = {"warmup", "lora_dropout"}


def apply(recipe: Recipe, changes: Iterable[str]) -> Recipe:
    """The recipe with ``key=value`` changes; a key is a field of the recipe, or ``stage.field``.

    Raises:
        RecipeError: a key is unknown, or a value is not of the field's type or out of its range.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals:
            raise RecipeError(f"--set {change}: write it as key=value, for example --set max_length=1024.")
        types_ = _keys(recipe)
        if key not in types_:
            near = difflib.get_close_matches(key, types_, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(types_)}."
            raise RecipeError(f"--set {key}: {recipe.name} has no such field; {hint}")
        value = _value(key, types_[key], text.strip())
        stage, dot, field = key.rpartition(".")
        if dot:
            stages = tuple(replace(row, **{field: value}) if row.name == stage else row for row in recipe.stages)
            recipe = replace(recipe, stages=stages)
        else:
            recipe = replace(recipe, **{field: value})
    if recipe.micro_batches > recipe.batch_rows:
        raise RecipeError(
            f"micro_batches ({recipe.micro_batches}) is more than batch_rows ({recipe.batch_rows}): each part of a "
            "step needs a row."
        )
    return recipe


def _keys(recipe: Recipe) -> dict[str, Any]:
    """Every key that can be set, with its type."""
    own, of_stage = get_type_hints(Recipe), get_type_hints(Stage)
    keys = {field.name: own[field.name] for field in fields(Recipe) if field.name not in _FIXED}
    for stage in recipe.stages:
        keys |= {f"{stage.name}.{field.name}": of_stage[field.name] for field in fields(Stage) if field.name != "name"}
    return keys


def _value(key: str, kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            known = ", ".join(repr(choice) for choice in get_args(kind))
            raise RecipeError(f"--set {key}={text}: must be one of {known}.")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise RecipeError(f"--set {key}={text}: must be true or false.")
        return text.lower() == "true"
    if kind is str:
        if not text:
            raise RecipeError(f"--set {key}=: a value is missing.")
        return text
    if kind not in (int, float) or isinstance(kind, types.UnionType):
        raise TypeError(f"{key}: fields of type {kind} cannot be set from a command line")
    try:
        number = kind(text.replace("_", ""))
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise RecipeError(f"--set {key}={text}: must be {wanted}.") from None
    name = key.rpartition(".")[2]
    low_is_wrong = number < 0 or (number == 0 and name not in _MAY_BE_ZERO)
    if not math.isfinite(number) or low_is_wrong or (name in _SHARES and number >= 1):
        bound = "at least 0" if name in _MAY_BE_ZERO else "more than 0"
        raise RecipeError(f"--set {key}={text}: must be {bound}{' and below 1' if name in _SHARES else ''}.")
    return number
