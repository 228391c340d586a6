"""A run that is killed at any byte goes on where it was, and never in another run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.cached import Cached, key
from evaluation.errors import RunError
from evaluation.records import Records

ABOUT = {"model": "m", "settings": {"max_tokens": 8}}


def written(path: Path, count: int = 3) -> Records:
    records = Records(path, ABOUT)
    for number in range(count):
        records.add("course", f"q{number}", "answer", answer="Größe\n…", tokens=3)
    records.add_speed(tokens=9, seconds=1.5)
    records.close()
    return records


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_cut_anywhere_it_goes_on_with_the_whole_lines(tmp_path: Path, share: float) -> None:
    path = tmp_path / "items" / "m.jsonl"
    path.unlink(missing_ok=True)
    written(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    again = Records(path, ABOUT)
    whole = content[: int(share * len(content))].count(b"\n")
    assert len(again.found) + len(again.speeds) == max(0, whole - 1)
    again.add("course", "q9", "answer", answer="x", tokens=1)
    again.close()
    last = Records(path, ABOUT)
    assert ("course", "q9", "answer") in last.found
    last.close()


@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        ({**ABOUT, "model": "other"}, "begun with another model"),
        ({**ABOUT, "settings": {"max_tokens": 9}}, "begun with another settings"),
        ({**ABOUT, "items": {"course": "ab"}}, "begun with another items"),
    ],
)
def test_another_run_is_refused_and_nothing_is_lost(tmp_path: Path, about: dict[str, object], complaint: str) -> None:
    path = tmp_path / "m.jsonl"
    written(path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=complaint):
        Records(path, about)
    assert path.read_bytes() == before


def test_another_version_and_a_broken_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"format": 99, **ABOUT}) + "\n")
    with pytest.raises(RunError, match="another version"):
        Records(path, ABOUT)
    path.write_text(json.dumps({"format": 1, **ABOUT}) + "\n{{{\n")
    with pytest.raises(RunError, match="2 is broken"):
        Records(path, ABOUT)


def test_dear_values_are_kept_by_what_they_are_of(tmp_path: Path) -> None:
    kept = Cached(tmp_path / "a.jsonl")
    kept.add(key("judge", {"a": 1}), [1.5])
    kept.close()
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'["half')
    again = Cached(tmp_path / "a.jsonl")
    assert again.found == {key("judge", {"a": 1}): [1.5]}
    again.add(key("judge", {"a": 2}), [2.5])
    again.close()
    last = Cached(tmp_path / "a.jsonl")
    assert len(last.found) == 2
    last.close()
    assert key("judge", {"a": 1}) != key("judge", {"a": 2})
