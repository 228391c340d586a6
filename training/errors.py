"""What training raises on purpose.

IrisError
└── TrainingError     a run cannot start or go on; the message says what was wrong and what to do
    ├── RecipeError   no such recipe or field, or a value that cannot be
    ├── BaseError     the base model cannot be had, or the adapter belongs to another one
    ├── RowsError     the rows cannot be trained on
    └── RunError      the run's folder: another recipe began it, a full disk, a loss that is no number
"""

from __future__ import annotations

from iris.errors import IrisError


class TrainingError(IrisError):
    """A training run cannot start or go on."""


class RecipeError(TrainingError):
    """There is no such recipe or field, or its value cannot be."""


class BaseError(TrainingError):
    """The base model cannot be had, or does not fit."""


class RowsError(TrainingError):
    """The rows cannot be trained on."""


class RunError(TrainingError):
    """The folder of the run cannot be used, or the run broke off."""
