"""Numbers with units as people write them, and whether one answers for another.

A comma may part thousands or decimals, depending on where the student went to school, so an answer is read in every way
it can be read and is right if one of them is.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iris.tools import words

EXACT = 1e-9
"""Relative difference up to which two numbers are the same."""
ABOUT = 0.02
"""Relative tolerance where only about a value is asked for."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """``value`` times ``unit``. ``unit`` is as it was written, perhaps empty; ``step`` is one in the last digit."""

    value: float
    unit: str = ""
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether an answer is right, and if it is not, why: ``value``, ``unit``, ``coarse`` or ``unreadable``."""

    right: bool
    reason: str = ""


# (dimension, factor to its base) of the units that can be converted into each other.
_UNITS: dict[str, tuple[str, float]] = {}


def _define(dimension: str, **units: float) -> None:
    for names, factor in units.items():
        for name in names.split("__"):
            _UNITS[name] = (dimension, factor)


_define("time", s__sec__secs__second__seconds=1, ms__millisecond__milliseconds=1e-3, min__mins__minute__minutes=60)
_define("time", us__μs__microsecond__microseconds=1e-6, ns__nanosecond__nanoseconds=1e-9, h__hr__hrs__hour__hours=3600)
_define("time", d__day__days=86400, week__weeks=604800)
_define("data", byte__bytes=1, kb=1e3, mb=1e6, gb=1e9, tb=1e12, kib=2**10, mib=2**20, gib=2**30, tib=2**40)
_define("data", bit__bits=1 / 8)
_define("length", m__metre__metres__meter__meters=1, mm=1e-3, cm=1e-2, km=1e3)
_define("mass", g__gram__grams=1, mg=1e-3, kg=1e3)
_define("share", percent__prozent__procent__pct=0.01)
_UNITS["%"] = ("share", 0.01)
_UNITS["b"] = ("data", 1)
_UNITS["µs"] = _UNITS["us"]
_UNITS["‰"] = ("share", 0.001)
_CURRENCIES = {"€": "euro", "eur": "euro", "$": "dollar", "usd": "dollar", "kr": "krona", "sek": "krona", "£": "pound"}
_SCALES = {"thousand": 1e3, "million": 1e6, "millions": 1e6, "mn": 1e6, "billion": 1e9, "billions": 1e9, "bn": 1e9}

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_DIGITS = r"\d+(?:[.,' ]\d+)*|[.,]\d+"
_POWER = r"(?:\s*(?:[·×*x]|\\cdot|\\times)\s*10\s*(?:\^\s*\{?\s*([-+]?\d{1,3})\s*\}?|([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3})))"
_QUANTITY = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<currency>[€£]?)\s*(?P<digits>{_DIGITS})"
    rf"(?:[eE](?P<exponent>[-+]?\d{{1,3}})(?![\w])|{_POWER})?"
    rf"(?:\s*/\s*(?P<under>{_DIGITS}))?"
    r"\s*(?P<unit>(?:[%‰€£]|[^\W\d_]+(?:[²³/]| per | )?)*)"
)
_ABOUT = re.compile(
    r"^(?:about|around|roughly|approximately|approx\.?|circa|ca\.?|≈|~|ungefähr|etwa|ungefär|yaklaşık)\s*", re.I
)


def read(text: str) -> tuple[Quantity, ...]:
    """Every way to read ``text`` as one quantity; empty if it is none.

    ``1,024`` is 1024 and 1.024; ``25 h 20 min`` is one time; LaTeX's dollar signs and spacing do not count.
    """
    text = _ABOUT.sub("", _tidy(text).lstrip("= "))
    if not text or len(text) > 80:
        return ()
    parts, end = [], 0
    for match in _QUANTITY.finditer(text):
        if text[end : match.start()].strip():
            return ()
        parts.append(match)
        end = match.end()
    if not parts or text[end:].strip(" ."):
        return ()
    if len(parts) == 1:
        return tuple(_readings(parts[0]))
    return _compound([list(_readings(part)) for part in parts])


def key(text: str) -> Quantity | None:
    """The quantity that an English text gives as the right answer, or None: commas part thousands there."""
    readings = read(text)
    return readings[0] if readings else None


def numbers(text: str) -> tuple[float, ...]:
    """All numbers of an English text, scaled by ``million`` and the like, percentages as they stand."""
    found = []
    for match in _QUANTITY.finditer(_tidy(text)):
        readings = list(_readings(match))
        if readings:
            found.append(readings[0].value)
    return tuple(found)


def tolerance(right: Quantity, *, approximate: bool = False, others: Sequence[Quantity] = ()) -> float:
    """How far an answer may be from ``right``, in its unit.

    A whole number is exact. A decimal is right up to half a unit of its last digit, since it was rounded there. Where
    only about a value is asked for it is 2 %. Never does the tolerance reach half way to one of the wrong ``others``.
    """
    allowed = abs(right.value) * EXACT
    if right.step not in (0.0, 1.0):
        allowed = max(allowed, 0.5 * right.step * (1 + EXACT))
    if approximate:
        allowed = max(allowed, ABOUT * abs(right.value))
    for other in others:
        if gap := abs(other.value - right.value):
            allowed = min(allowed, 0.4 * gap)
    return allowed


def compare(answer: str, right: Quantity, allowed: float) -> Comparison:
    """Whether ``answer`` is ``right`` within ``allowed``; a missing unit is taken to be the one asked for."""
    readings = read(answer)
    if not readings:
        return Comparison(False, "unreadable")
    reason = "value"
    for reading in readings:
        for value in _converted(reading, right):
            if abs(value - right.value) <= allowed:
                return Comparison(True)
            # 0.3 for 0.27: rounded from the right value, but further than asked.
            if reading.step and abs(value - right.value) <= 0.5 * reading.step and not allowed >= reading.step / 2:
                reason = "coarse"
        if not list(_converted(reading, right)):
            reason = "unit"
    return Comparison(False, reason)


def _converted(answer: Quantity, right: Quantity) -> Iterator[float]:
    """The answer's value in the unit of the right one, in each way that the two units allow."""
    if not answer.unit:
        yield answer.value
        if _known(right.unit) == ("share", 0.01):
            yield answer.value * 100  # 0.2 is 20 %
        return
    here, there = _known(answer.unit), _known(right.unit)
    if here and there:
        if here[0] == there[0]:
            yield answer.value * here[1] / there[1]
    elif here and not right.unit:
        if here[0] == "share":
            yield answer.value * here[1]
        else:
            yield answer.value
    elif not right.unit or _same_unit(answer.unit, right.unit):
        yield answer.value


def _known(unit: str) -> tuple[str, float] | None:
    return _UNITS.get(unit) or _UNITS.get(unit.casefold().rstrip("."))


def _same_unit(one: str, other: str) -> bool:
    """Units that are only names: "requests per second", "requests/s", "request"."""
    a, b = _names(one), _names(other)
    return not a or not b or a <= b or b <= a


def _names(unit: str) -> frozenset[str]:
    unit = unit.replace("/", " ").replace("€", " euro ").replace("£", " pound ").replace("$", " dollar ")
    found = (_CURRENCIES.get(word, word) for word in words.tokens(unit) if word not in ("per", "a", "the", "of"))
    return frozenset(words.stem("second" if word in ("s", "sec") else word) for word in found)


def _readings(match: re.Match[str]) -> Iterator[Quantity]:
    sign = -1.0 if match["sign"] == "-" else 1.0
    exponent = match["exponent"] or match[5] or (match[6] or "").translate(_SUPERSCRIPT) or "0"
    unit, scale = _unit(match["unit"])
    for value, step in _values(match["digits"]):
        factor = 10.0 ** int(exponent) * scale
        if match["under"]:
            under = next(iter(_values(match["under"])), (0.0, 0.0))[0]
            if not under:
                continue
            factor, step = factor / under, 0.0
        total = sign * value * factor
        if math.isfinite(total):
            yield Quantity(total, unit or _CURRENCIES.get(match["currency"], ""), step * factor)


def _values(digits: str) -> Iterator[tuple[float, float]]:
    """What a run of digits and separators can mean, in English first, and what one in the last digit is worth."""
    marks = {mark for mark in ".,' " if mark in digits}
    if not marks:
        yield float(digits), 1.0
        return
    for decimal in (".", "", ","):
        grouping = marks - {decimal}
        whole, _, fraction = digits.partition(decimal) if decimal in marks else (digits, "", "")
        if len(grouping) > 1 or (decimal and decimal not in marks) or set(fraction) & set(".,' "):
            continue
        mark = next(iter(grouping), "")
        groups = whole.split(mark) if mark else [whole]
        if mark and not (1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
            continue
        if mark and groups[0].startswith("0"):
            continue
        yield float(("".join(groups) or "0") + "." + (fraction or "0")), 10.0 ** -len(fraction)


def _unit(text: str) -> tuple[str, float]:
    parts = text.strip().split()
    scale = 1.0
    while parts and parts[0].casefold() in _SCALES:
        scale *= _SCALES[parts.pop(0).casefold()]
    return " ".join(parts), scale


def _compound(parts: list[list[Quantity]]) -> tuple[Quantity, ...]:
    """``25 h 20 min`` as one quantity, in the first part's unit."""
    first = parts[0][0] if parts[0] else None
    base = _known(first.unit) if first else None
    if not first or not base:
        return ()
    total, step = 0.0, 0.0
    for readings in parts:
        known = _known(readings[0].unit) if readings else None
        if not known or known[0] != base[0]:
            return ()
        total += readings[0].value * known[1] / base[1]
        step = readings[0].step * known[1] / base[1]
    return (Quantity(total, first.unit, step),)


def _tidy(text: str) -> str:
    # NFKC would make 10⁻⁵ to 10-5.
    text = text.translate({ord(c): " " for c in "\u00a0\u2009\u202f\u2007"}).replace("\u2212", "-")
    text = re.sub(r"\\text(?:rm|bf)?\{([^{}]*)\}|\\mathrm\{([^{}]*)\}", r"\1\2", text)
    text = text.replace("{,}", ",").replace("\\,", " ").replace("\\ ", " ").replace("\\%", "%").replace("$", "")
    text = "".join(c if ord(c) < 0x2000 or c in "‰€≈·×⁻⁺⁰⁴⁵⁶⁷⁸⁹" else unicodedata.normalize("NFKC", c) for c in text)
    return text.replace("’", "'").strip()
