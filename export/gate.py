"""The gate: is this GGUF the model that was trained? Tokens, template, end of turn and logits are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import texts
from export.measure import Comparison, Distance
from export.reference import Reference
from export.served import WINDOW, Served
from export.shards import Floats
from export.texts import Row
from iris.engine import Message

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file of some kind may differ by: KL in nats, share of equal first choices, perplexity against the
    original's, and, where nothing but rounding differs, the error of the logits."""

    kl: float
    top1: float
    perplexity: float
    logit_error: float | None = None


# Rounding to 11 bits (F16) or 8 (BF16) of precision is the only difference allowed to files that are not quantized: a
# wrong factor, order or template lies far outside. Those of the quantized kinds are about three times what SmolLM2 135M
# shows, the most sensitive of the known models (larger ones lose less); a broken file is off by whole nats.
LIMITS: dict[str, Limits] = {
    "F32": Limits(0.002, 0.98, 1.01, 0.02),
    "F16": Limits(0.002, 0.98, 1.01, 0.02),
    "BF16": Limits(0.01, 0.95, 1.02, 0.04),
    "Q8_0": Limits(0.02, 0.88, 1.03),
    "Q6_K": Limits(0.05, 0.85, 1.06),
    "Q5_K_M": Limits(0.10, 0.80, 1.12),
    "Q5_K_S": Limits(0.10, 0.80, 1.12),
    "Q4_K_M": Limits(0.20, 0.70, 1.25),
    "Q4_K_S": Limits(0.25, 0.68, 1.30),
    "Q4_1": Limits(0.25, 0.68, 1.30),
    "IQ4_NL": Limits(0.25, 0.68, 1.30),
    "IQ4_XS": Limits(0.25, 0.68, 1.30),
    "Q4_0": Limits(0.35, 0.64, 1.45),
    "Q3_K_L": Limits(0.5, 0.60, 1.6),
    "Q3_K_M": Limits(0.6, 0.56, 1.8),
    "Q3_K_S": Limits(0.8, 0.50, 2.2),
    "Q2_K": Limits(1.5, 0.40, 4.0),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about one file; ``failures`` is empty when it passed."""

    file: str
    kind: str
    bytes: int
    strings: int
    equal_strings: int
    chats: int
    equal_chats: int
    distance: Distance
    limits: Limits
    failures: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"distance": self.distance.as_json(), "passed": not self.failures}


@dataclass(frozen=True, slots=True)
class Original:
    """Everything the files are held against, so that the original's weights can be freed before they are loaded."""

    strings: list[tuple[str, list[int], list[int]]]  # text, ids with and without special tokens
    chats: list[tuple[list[Message], list[int]]]
    bos: int | None
    adds_bos: bool
    end_of_turn: list[int]
    windows: list[list[int]]
    logits: list[Floats]


def original(
    reference: Reference, found: Sequence[Row], tokens: int, folder: Path, step: Callable[[int], None]
) -> Original:
    """Ask the original everything. Its logits, of ``tokens`` places, are kept in a file in ``folder``."""
    strings = texts.strings(reference.special, (row.answer for row in found))
    chats: list[tuple[list[Message], list[int]]] = []
    windows: list[list[int]] = []
    end: list[int] = []
    if reference.has_template:
        system = reference.takes_system()
        for turns in texts.chats(found):
            kept = [turn for turn in turns if system or turn.role != "system"]
            chats.append((kept, reference.chat(kept)))
        end = reference.end_of_turn()
    left = tokens
    for row in texts.spread(found, max(1, tokens // 64)):
        ids = _window(reference, row, end)[: min(WINDOW, left)]
        if len(ids) > 1:
            windows.append(ids)
            left -= len(ids)
        if left <= 1:
            break
    first = reference.logits(windows[0])
    stored = np.memmap(folder / "logits", np.float32, "w+", shape=(sum(map(len, windows)), first.shape[1]))
    logits: list[Floats] = []
    place = 0
    for ids in windows:
        part = stored[place : place + len(ids)]
        part[:] = reference.logits(ids)
        logits.append(part)
        place += len(ids)
        step(len(ids))
    return Original(
        [(text, reference.text(text, special=True), reference.text(text, special=False)) for text in strings],
        chats,
        reference.bos,
        reference.adds_bos,
        end,
        windows,
        logits,
    )


def _window(reference: Reference, row: Row, end: list[int]) -> list[int]:
    answer = reference.text(row.answer, special=False)
    if not reference.has_template:
        return answer
    if reference.adds_bos:
        answer = answer[1:]
    turns = row.prompt if reference.takes_system() else [turn for turn in row.prompt if turn.role != "system"]
    return reference.chat(turns) + answer + end


def judge(path: Path, wanted: Original, *, adapter: Path | None, threads: int, step: Callable[[int], None]) -> Verdict:
    """Hold one GGUF (with ``adapter`` over it) against the original.

    Raises:
        ModelFileError: llama.cpp cannot load it.
    """
    served = Served(path, adapter, threads=threads)
    try:
        failures, equal_strings, equal_chats = _tokens(served, wanted)
        failures += _turns(served, wanted)
        comparison = Comparison()
        for ids, logits in zip(wanted.windows, wanted.logits, strict=True):
            comparison.add(logits, served.logits(ids), ids)
            step(len(ids))
        distance = comparison.result()
        kind = _kind(served.file_type)
        limits = LIMITS[kind]
        failures += _far(distance, limits)
        return Verdict(
            path.name if adapter is None else adapter.name,
            kind,
            (adapter or path).stat().st_size,
            len(wanted.strings),
            equal_strings,
            len(wanted.chats),
            equal_chats,
            distance,
            limits,
            tuple(failures),
        )
    finally:
        served.close()


def _tokens(served: Served, wanted: Original) -> tuple[list[str], int, int]:
    failures = []
    wrong = [
        text
        for text, special, plain in wanted.strings
        if served.text(text, special=True) != special or served.text(text, special=False) != plain
    ]
    if wrong:
        shown = ", ".join(map(repr, wrong[:3]))
        failures.append(f"tokens: {len(wrong)} of {len(wanted.strings)} strings give other ids, such as {shown}")
    other = [turns for turns, ids in wanted.chats if served.chat(turns) != ids]
    if other:
        failures.append(f"template: {len(other)} of {len(wanted.chats)} conversations give other ids")
    return failures, len(wanted.strings) - len(wrong), len(wanted.chats) - len(other)


def _turns(served: Served, wanted: Original) -> list[str]:
    failures = []
    if bool(wanted.chats) != (served.template is not None):
        failures.append("template: one has a chat template and the other has none")
    if wanted.adds_bos != served.model.adds_bos:
        failures.append(
            f"bos: the original {'adds' if wanted.adds_bos else 'adds no'} BOS, the GGUF does not do the same"
        )
    for turns, _ in wanted.chats if wanted.adds_bos else []:
        ids = served.chat(turns)
        if ids[:1] != [wanted.bos] or ids.count(wanted.bos or 0) != 1:
            failures.append(f"bos: a conversation has {ids.count(wanted.bos or 0)} BOS tokens instead of one in front")
            break
    if wanted.chats and not (wanted.end_of_turn and wanted.end_of_turn[0] in served.model.end_tokens):
        failures.append("end of turn: what follows an answer in the template does not stop generation")
    return failures


def _far(distance: Distance, limits: Limits) -> list[str]:
    ratio = distance.perplexity / distance.reference_perplexity
    found = (
        ("KL", distance.kl, limits.kl, distance.kl <= limits.kl),
        ("top-1 agreement", distance.top1, limits.top1, distance.top1 >= limits.top1),
        ("perplexity over the original's", ratio, limits.perplexity, ratio <= limits.perplexity),
        (
            "error of the logits",
            distance.logit_error,
            limits.logit_error,
            limits.logit_error is None or distance.logit_error <= limits.logit_error,
        ),
    )
    # Written so that a value that is no number fails.
    return [f"logits: {name} is {value:.4g}, the limit {limit:.4g}" for name, value, limit, ok in found if not ok]


def _kind(number: int) -> str:
    from iris.engine import llama

    for kind in LIMITS:
        name = "LLAMA_FTYPE_ALL_F32" if kind == "F32" else f"LLAMA_FTYPE_MOSTLY_{kind}"
        if getattr(llama.library, name) == number:
            return kind
    return "Q2_K"


def table(verdicts: Sequence[Verdict]) -> str:
    """The findings as a Markdown table."""
    lines = [
        "| file | MB | tokens equal | chats equal | mean KL | top-1 | perplexity (original) | logit error | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for found in verdicts:
        d = found.distance
        lines.append(
            f"| {found.file} | {found.bytes / 1e6:.1f} | {found.equal_strings}/{found.strings} "
            f"| {found.equal_chats}/{found.chats} | {d.kl:.5f} | {100 * d.top1:.1f} % "
            f"| {d.perplexity:.3f} ({d.reference_perplexity:.3f}) | {d.logit_error:.4f} "
            f"| {'failed' if found.failures else 'passed'} |"
        )
    return "\n".join(lines)


def workspace() -> tempfile.TemporaryDirectory[str]:
    """A folder for the original's logits: 4 bytes for each place and token of the vocabulary."""
    return tempfile.TemporaryDirectory(prefix="iris-gate-")
