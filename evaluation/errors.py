"""What evaluation raises on purpose.

IrisError
└── EvaluationError   the message says what was wrong and what to do
    ├── TaskError     prompts, questions or texts to evaluate on are missing, empty or broken
    ├── TargetError   a model that cannot be evaluated as it is named
    ├── RunError      the folder of results belongs to another run, or cannot be written
    └── JudgeError    the judge cannot be asked at all, or is the model under test
"""

from __future__ import annotations

from iris.errors import IrisError


class EvaluationError(IrisError):
    """Base of all errors of this folder."""


class TaskError(EvaluationError):
    """Prompts, questions or texts to evaluate on are missing, empty or broken."""


class TargetError(EvaluationError):
    """A model that cannot be evaluated as it is named."""


class RunError(EvaluationError):
    """The folder of results belongs to another run, or cannot be written."""


class JudgeError(EvaluationError):
    """The judge cannot be asked at all, or is the model under test."""
