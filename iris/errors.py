"""Everything Iris raises on purpose.

The message of each error is written for the person who reads it: it says what was wrong and what to do.

    IrisError
    ├── SettingsError       an IRIS_* variable or the state folder is unusable
    ├── CourseError         a course folder is missing or broken; the message names file and line
    ├── StoreError          what Iris remembers cannot be opened or written
    ├── NoteError           a file cannot become a note, or a note is not there
    ├── ResultsError        a file of evaluation results is missing, broken, or of another version
    ├── StudentError        who asks is not known here (any more)
    ├── ChatError           a saved chat is not there
    ├── StudyError          what a student keeps cannot be used as asked
    │   ├── CardError       there is no such card, or it cannot be made
    │   ├── PlanError       no plan can be made of these dates, hours and topics
    │   ├── DrillError      a drill cannot be set or taken
    │   └── LearnerFileError  a learner file is broken, foreign, or from a newer Iris
    ├── ModelError          a model cannot be served
    │   ├── UnknownModel    no catalog row, file or Hub address of that name
    │   ├── ModelFileError  the file is broken, truncated, or of an unsupported kind
    │   └── DownloadError   the Hub could not be reached, or gave something else than asked for
    └── EngineError         an answer could not be generated
        ├── RequestError    the request itself is wrong (empty, unknown sampling value, …)
        │   ├── PromptTooLong   even the last message alone does not fit
        │   └── SchemaError     the JSON schema cannot be enforced, or the answer was cut before it was complete
        ├── QueueFull       too many students are waiting
        ├── EngineClosed    the engine was shut down
        └── EngineFailure   the engine failed on this request, also after a restart
"""

from __future__ import annotations


class IrisError(Exception):
    """Base of all errors Iris raises on purpose; ``str(error)`` can be shown to a student."""


class SettingsError(IrisError):
    """An ``IRIS_*`` variable or the state folder is unusable."""


class CourseError(IrisError):
    """A course folder is missing or broken; the message names file and line."""


class StoreError(IrisError):
    """What Iris remembers cannot be opened or written."""


class NoteError(IrisError):
    """A file cannot become a note, or a note is not there (any more)."""


class ResultsError(IrisError):
    """A file of evaluation results is missing, broken, or of another version."""


class StudentError(IrisError):
    """Who asks is not known here (any more): an id that this Iris did not give out, or one that was deleted."""


class ChatError(IrisError):
    """A saved chat is not there (any more)."""


class StudyError(IrisError):
    """What a student keeps (cards, plans, drills, the learner file) cannot be used as asked."""


class CardError(StudyError):
    """There is no such card, or it cannot be made."""


class PlanError(StudyError):
    """No plan can be made of these dates, hours and topics."""


class DrillError(StudyError):
    """A drill cannot be set or taken."""


class LearnerFileError(StudyError):
    """A learner file is broken, of another program, or from a newer Iris; nothing was imported."""


class ModelError(IrisError):
    """A model cannot be served."""


class UnknownModel(ModelError):
    """No catalog row, file or Hub address of that name."""


class ModelFileError(ModelError):
    """A model file is broken, truncated, or of a kind that cannot be served."""


class DownloadError(ModelError):
    """The Hub could not be reached, or gave something else than was asked for."""


class EngineError(IrisError):
    """An answer could not be generated."""


class RequestError(EngineError):
    """The request itself is wrong; sending it again unchanged will not help."""


class PromptTooLong(RequestError):
    """Even the system prompt and the last message alone exceed the context.

    ``tokens`` is what they need, ``limit`` what fits.
    """

    def __init__(self, tokens: int, limit: int) -> None:
        self.tokens = tokens
        self.limit = limit
        super().__init__(
            f"This message is too long: with the instructions it is {tokens:,} tokens, and this model reads at most "
            f"{limit:,}. Shorten it, or send it in parts."
        )


class SchemaError(RequestError):
    """A JSON schema cannot be enforced, or the answer was cut before its JSON was complete."""


class QueueFull(EngineError):
    """The waiting line is full; ``place`` is where the request would have stood."""

    def __init__(self, place: int) -> None:
        self.place = place
        super().__init__(
            f"Iris is busy: you would be number {place} in line and the line is full. Try again in a minute."
        )


class EngineClosed(EngineError):
    """The engine was shut down while the request was waiting or running."""


class EngineFailure(EngineError):
    """The engine failed on this request, also after a restart."""
