"""What export raises on purpose.

IrisError
└── ExportError           the message says what was wrong and what to do
    ├── SourceError       base, adapter or tokenizer is missing, broken, or belongs to something else
    ├── UnsupportedError  a kind of model, tokenizer or adapter that cannot be expressed in what was asked for
    └── OutputError       the result could not be written
"""

from __future__ import annotations

from iris.errors import IrisError


class ExportError(IrisError):
    """Base of all errors of this folder."""


class SourceError(ExportError):
    """Base, adapter or tokenizer is missing, broken, or belongs to something else."""


class UnsupportedError(ExportError):
    """A kind of model, tokenizer or adapter that cannot be expressed in what was asked for."""


class OutputError(ExportError):
    """The result could not be written: no space, no permission, or llama.cpp refused."""
