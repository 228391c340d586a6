"""Numbers with units: read however people write them, and compared with a tolerance."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iris.tools import numeric
from iris.tools.numeric import Quantity


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("42", 42, ""),
        ("−0.1", -0.1, ""),
        ("$-2.0$", -2, ""),
        ("30,200", 30_200, ""),
        ("73\\,728", 73_728, ""),
        ("14 730", 14_730, ""),
        ("1.024,5", 1_024.5, ""),
        ("0,5", 0.5, ""),
        ("1/3", 1 / 3, ""),
        ("1e-3", 0.001, ""),
        ("2.56·10⁻⁵", 2.56e-5, ""),
        ("2.56 \\cdot 10^{-5}", 2.56e-5, ""),
        ("118 million", 118e6, ""),
        ("About 1.58 GB", 1.58, "GB"),
        ("56.25%", 56.25, "%"),
        ("€200", 200, "euro"),
        ("25 h 20 min", 25 + 1 / 3, "h"),
        ("80 requests per second", 80, "requests per second"),
    ],
)
def test_a_quantity_is_read_as_it_is_meant(text: str, value: float, unit: str) -> None:
    found = numeric.read(text)[0]
    assert found.value == pytest.approx(value)
    assert found.unit == unit


@pytest.mark.parametrize(
    "text", ["", "many", "0.6 and 0.8", "32×32×32", "(1, 3)", "1,2,3", "10 May 06:00", "25 h 3 GB", "1/0", "x" * 500]
)
def test_what_is_no_single_quantity_is_none(text: str) -> None:
    assert numeric.read(text) == ()


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("1.58 GB", "1.58 GB"),
        ("1580 MB", "1.58 GB"),
        ("1,58", "1.58 GB"),
        ("30200", "30,200"),
        ("30.200", "30,200"),
        ("0.2", "20%"),
        ("20", "20%"),
        ("20 %", "20%"),
        ("1520 min", "25 h 20 min"),
        ("48 ms", "0.048 s"),
        ("80", "80 requests per second"),
        ("80 requests/s", "80 requests per second"),
        ("200 €", "200 euros"),
        ("0.2689", "0.27"),
        ("118,000,000", "118 million"),
    ],
)
def test_the_same_in_other_words_is_right(answer: str, right: str) -> None:
    key = numeric.key(right)
    assert key
    assert numeric.compare(answer, key, numeric.tolerance(key)).right


@pytest.mark.parametrize(
    ("answer", "right", "reason"),
    [
        ("1.58 MB", "1.58 GB", "value"),
        ("1.58 s", "1.58 GB", "unit"),
        ("73,728", "73,856", "value"),
        ("24.4", "24", "value"),
        ("0.3", "0.27", "coarse"),
        ("0.2", "0.27", "value"),
        ("a lot", "0.27", "unreadable"),
        ("-2", "2", "value"),
        ("200 dollars", "200 euros", "unit"),
    ],
)
def test_what_is_wrong_is_wrong_for_a_reason(answer: str, right: str, reason: str) -> None:
    key = numeric.key(right)
    assert key
    assert numeric.compare(answer, key, numeric.tolerance(key)) == numeric.Comparison(False, reason)


def test_no_tolerance_lets_a_wrong_option_pass() -> None:
    key, other = Quantity(0.08, "", 0.01), Quantity(0.0785, "", 0.0001)
    allowed = numeric.tolerance(key, approximate=True, others=[other])
    assert not numeric.compare("0.0785", key, allowed).right
    assert numeric.compare("0.08", key, allowed).right


VALUES = st.floats(min_value=1e-6, max_value=1e9, allow_nan=False).map(lambda value: float(f"{value:.4g}"))


@given(VALUES, st.sampled_from(["s", "ms", "min", "h"]), st.sampled_from(["s", "ms", "min", "h"]))
@hypothesis_settings(max_examples=150, deadline=None)
def test_units_of_a_dimension_convert(value: float, one: str, other: str) -> None:
    factor = {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
    key = Quantity(value, one)
    answer = f"{value * factor[one] / factor[other]:.12e} {other}"
    assert numeric.compare(answer, key, 1e-6 * value).right


@given(st.integers(min_value=1, max_value=10**12), st.sampled_from([",", " ", "'", "\u202f", ""]))
@hypothesis_settings(max_examples=150, deadline=None)
def test_thousands_can_be_parted_in_every_way(number: int, mark: str) -> None:
    key = Quantity(float(number), "", 1.0)
    assert numeric.compare(f"{number:,}".replace(",", mark), key, numeric.tolerance(key)).right


@given(VALUES, st.floats(min_value=0.02, max_value=10))
@hypothesis_settings(max_examples=150, deadline=None)
def test_far_from_right_is_never_right(value: float, off: float) -> None:
    key = numeric.key(f"{value:.6f}".rstrip("0").rstrip("."))
    assume(key and key.value and key.step <= 0.01 * key.value)
    assert key
    wrong = f"{key.value * (1 + off):.9f}"
    assert not numeric.compare(wrong, key, numeric.tolerance(key)).right


@given(st.text(max_size=60))
@hypothesis_settings(max_examples=300, deadline=None)
def test_whatever_is_typed_is_read_or_not_and_never_an_error(text: str) -> None:
    assert all(math.isfinite(found.value) for found in numeric.read(text))
    numeric.numbers(text)
    numeric.compare(text, Quantity(1.0, "s", 1.0), 0.1)
