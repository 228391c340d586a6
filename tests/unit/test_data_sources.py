"""Reading rows: every format and file kind, and everything that can be wrong with them."""

from __future__ import annotations

import contextlib
import json
import random
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import sources
from data.files import DataError, Writer
from data.sources import SOURCES, Report, Row, read
from iris.engine import Message
from tests.unit.tiny_course import write_rows

USER, ANSWER = Message("user", "Why?"), "Because."
SHAREGPT = {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]}


def rows(path: Path, **more: Any) -> list[Row]:
    return list(read(path, **more))


@pytest.mark.parametrize(
    ("record", "prompt", "topic"),
    [
        (SHAREGPT, (USER,), ""),
        (
            {"conversations": [{"from": "system", "value": "Be kind."}, *SHAREGPT["conversations"]], "score": 5.1},
            (Message("system", "Be kind."), USER),
            "",
        ),
        (
            {"conversations": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
            (USER,),
            "",
        ),
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
            (USER,),
            "",
        ),
        ({"instruction": "Why?", "context": "", "response": "Because.", "category": "open_qa"}, (USER,), "open_qa"),
        (
            {"instruction": "Why?", "context": "It fell.", "response": "Because."},
            (Message("user", "Why?\n\nIt fell."),),
            "",
        ),
        ({"instruction": "Why?", "input": "", "output": "Because."}, (USER,), ""),
        ({"instruction": "Why?", "input": None, "output": "Because."}, (USER,), ""),
        ({"question": "Why?", "answer": "Because.", "category": "ethics"}, (USER,), "ethics"),
        ({"prompt": "Why?", "completion": "Because."}, (USER,), ""),
        (
            {
                "id": "x",
                "topic": "t",
                "prompt": [{"role": "user", "content": "Why?"}],
                "completion": [{"role": "assistant", "content": "Because."}],
            },
            (USER,),
            "t",
        ),
        ({"text": "Because."}, (), ""),
    ],
)
def test_every_format_becomes_one_schema(
    tmp_path: Path, record: dict[str, Any], prompt: tuple[Message, ...], topic: str
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [record])
    (row,) = read(path, source="s")
    assert (row.prompt, row.completion, row.topic) == (prompt, ANSWER, topic)
    assert (row.source, row.file, row.line) == ("s", str(path), 1)
    assert re.fullmatch(r"s-[0-9a-f]{16}", row.id)


def test_several_turns_end_with_the_last_answer(tmp_path: Path) -> None:
    turns = [("human", "A?"), ("gpt", "a"), ("human", "B?"), ("gpt", "b"), ("human", "Thanks!")]
    record = {"conversations": [{"from": name, "value": value} for name, value in turns]}
    (row,) = rows(write_rows(tmp_path / "rows.jsonl", [record]))
    assert [message.role for message in row.prompt] == ["user", "assistant", "user"]
    assert row.completion == "b"
    assert row.question == "A?\n\nB?"


def turns(*names: object) -> dict[str, Any]:
    return {"conversations": [{"from": name, "value": "x"} for name in names]}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([1, 2], "a row must be an object {…}, not a list"),
        ("text", "not a text"),
        (None, "not null"),
        (7, "not a int"),
        ({}, "the fields (none) are of no known format"),
        ({"foo": 1}, "the fields (foo) are of no known format"),
        ({"conversations": "hi"}, "a conversation must be a list of turns"),
        ({"conversations": []}, "a conversation must be a list of turns"),
        ({"conversations": ["hi"]}, "turn 1 must be an object, not a str"),
        (turns("human", "tool"), "turn 2 is from 'tool'; known are human"),
        (turns("human", None), "turn 2 is from None"),
        (turns("gpt"), "questions and answers must alternate; the assistant begins"),
        (turns("system", "gpt"), "the assistant begins"),
        (turns("human", "gpt", "gpt"), "turns 2 and 3 are both from 'gpt'"),
        (turns("human", "human", "gpt"), "turns 1 and 2 are both from 'human'"),
        (turns("human", "system", "gpt"), "turn 2 is from the system, but only the first may be"),
        (turns("system"), "the conversation has no answer"),
        (turns("human"), "the conversation has no answer"),
        ({"conversations": [{"from": "human", "value": 3}]}, "turn 1 must have a text, not 3"),
        ({"conversations": [{"from": "human"}]}, "turn 1 must have a text, not None"),
        ({"instruction": "Why?"}, "response or output is missing"),
        ({"instruction": "Why?", "output": ["a"]}, "output must be a text, not ['a']"),
        ({"question": "Why?", "answer": None}, "answer is missing"),
        ({"prompt": "Why?", "completion": []}, "prompt and completion must both be texts"),
        ({"text": 1.5}, "text must be a text, not 1.5"),
        ({"text": "half \ud83d"}, "half a character (\\ud83d) in the text"),
    ],
)
def test_a_malformed_row_is_told_with_file_and_line(tmp_path: Path, record: Any, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    good = json.dumps(SHAREGPT)
    path.write_text("\n".join([*[good] * 150, json.dumps(record), *[good] * 49]), encoding="utf-8")
    report = Report()
    assert len(rows(path, report=report)) == 199
    assert (report.rows, report.malformed) == (199, 1)
    assert report.problems[0].startswith(f"{path}:151: ")
    assert reason in report.problems[0]


def test_more_than_one_percent_stops_the_run(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [*[SHAREGPT] * 198, [1], {"x": 1}])
    report = Report()
    assert len(rows(path, report=report)) == 198, "1.0 % is still read"
    path = write_rows(tmp_path / "rows.jsonl", [*[SHAREGPT] * 198, [1], {"x": 1}, "y"])
    with pytest.raises(DataError, match=r"rows\.jsonl:199: a row must .* \(3 of 201 rows are malformed, 1\.5%"):
        rows(path)


def test_a_file_of_rubbish_stops_early(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("rubbish\n" * 50_000, encoding="utf-8")
    report = Report()
    with pytest.raises(DataError, match=r"rows\.jsonl:1: this is not valid JSON"):
        rows(path, report=report)
    assert report.malformed == 1000
    assert len(report.problems) == 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b"", r"rows\.jsonl:1: the file is empty"),
        ("rows.jsonl", b"\n \n", r"rows\.jsonl:1: there are no rows in it"),
        ("rows.json", b"", r"rows\.json:1: the file is empty"),
        ("rows.json", b"[]", r"rows\.json:1: there are no rows in it"),
        ("rows.json", b'[{"text": "a"}', r"rows\.json:1: there must be a comma or \] after a row"),
        ("rows.json", b'[{"text": "a"}\n\n{"text": "b"}]', r"rows\.json:3: there must be a comma"),
        ("rows.json", b'[\n{"text": "a"},\n{"text": }\n]', r"rows\.json:3: this is not valid JSON"),
        ("rows.json", b'[{"text": "a"},]', r"rows\.json:1: this is not valid JSON"),
        ("rows.json", b'[{"text": "a\xff"}]', r"rows\.json:1: at or after this line .*utf-8"),
        ("rows.json", b"[" * 100_000, r"rows\.json:1: this row is nested too deeply"),
        ("rows.jsonl", "{}".encode("utf-16"), r"rows\.jsonl:1: the file is UTF-16"),
        ("rows.jsonl", b'{"text": "caf\xe9"}\n', r"rows\.jsonl:1: byte 0xe9 at column 14 is not UTF-8"),
        ("rows.jsonl", b"[" * 100_000, r"rows\.jsonl:1: this is not valid JSON"),
        ("rows.csv", b"a,b\n", r"rows\.csv: files of kind '\.csv' cannot be read; known are \.jsonl"),
        ("rows.parquet", b"PAR1 no", r"rows\.parquet"),
    ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows(path)


def test_a_line_without_end_is_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.files.MAX_ROW", 1 << 20)
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "a"}\n' + b"x" * (3 << 20))
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the line is longer than 1 MB"):
        rows(tmp_path / "rows.jsonl")
    (tmp_path / "rows.json").write_bytes(b'[{"text": "' + b"x" * (6 << 20))
    with pytest.raises(DataError, match=r"rows\.json:1: this is not valid JSON"):
        rows(tmp_path / "rows.json")


def test_missing_targets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl cannot be read: No such file"):
        rows(tmp_path / "nothing.jsonl")
    with pytest.raises(DataError, match=r"there are no \.jsonl"):
        rows(tmp_path)
    with pytest.raises(DataError, match=r"no format 'xml'; known are sharegpt"):
        rows(tmp_path, format="xml")


def test_a_forced_format(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"question": "Why?", "answer": "Because.", "text": "T"}])
    assert rows(path, format="text")[0].completion == "T"
    with pytest.raises(DataError, match="a conversation must be a list"):
        rows(path, format="sharegpt")


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    write_rows(tmp_path / "b.jsonl", [{"text": "b"}])
    (tmp_path / "a.json").write_text('[{"text": "a"}]', encoding="utf-8")
    (tmp_path / "c.txt").write_text("c\r\n\n \nd", encoding="utf-8")
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "notes.md").write_text("# no", encoding="utf-8")
    report = Report()
    assert [row.completion for row in rows(tmp_path, report=report)] == ["a", "b", "c", "d"]
    assert [Path(entry["path"]).name for entry in report.inputs] == ["a.json", "b.jsonl", "c.txt"]
    assert all(len(entry["sha256"]) == 64 for entry in report.inputs)


def test_wikitext_headings_are_topics(tmp_path: Path) -> None:
    path = tmp_path / "wiki.raw"
    path.write_text(" = Bread = \n \n Bread is baked . \n = = History = = \n It is old . \n = Oven = \n It is hot .\n")
    assert [(row.topic, row.completion, row.line) for row in rows(path)] == [
        ("Bread", "Bread is baked .", 3),
        ("Bread", "= = History = =", 4),
        ("Bread", "It is old .", 5),
        ("Oven", "It is hot .", 7),
    ]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(codec="utf-8"), max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text('abc[]{},:"\\\n', max_size=4), inner)),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON, max_size=8), st.sampled_from([None, 1]), st.integers(1, 40))
def test_an_array_is_cut_into_its_elements(tmp_path_factory: Any, values: list[Any], indent: Any, chunk: int) -> None:
    from data import files

    path = tmp_path_factory.mktemp("json") / "rows.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=chunk % 2 == 0), encoding="utf-8")
    before, files._CHUNK = files._CHUNK, chunk
    try:
        found = list(files.records(path, []))
    finally:
        files._CHUNK = before
    assert [record.value for record in found] == values
    if indent and values:
        lines = path.read_text(encoding="utf-8").split("\n")
        assert all(lines[record.line - 1].startswith(" ") for record in found)


def test_reading_is_streamed(tmp_path: Path) -> None:
    """Reading ten rows of a large file reads a small part of it."""
    path = tmp_path / "rows.json"
    path.write_text("[" + ",".join([json.dumps({"text": "x" * 1000})] * 20_000) + "]", encoding="utf-8")
    import tracemalloc

    stream = read(path)
    tracemalloc.start()
    for _ in range(10):
        next(stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_pylist([SHAREGPT, {"conversations": [{"from": "human", "value": "x"}]}] * 1)
    parquet.write_table(table, tmp_path / "rows.parquet")
    report = Report()
    with pytest.raises(DataError, match=r"rows\.parquet:2: the conversation has no answer"):
        rows(tmp_path / "rows.parquet", report=report)
    assert report.rows == 1


def test_a_hub_id_is_streamed_at_a_fixed_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*arguments: Any, **more: Any) -> Iterator[Any]:
        asked.append((arguments, more))
        return iter([SHAREGPT, SHAREGPT])

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    info = types.SimpleNamespace(sha="0123456789abcdef")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, repo: info)
    report = Report()
    found = list(read(SOURCES["finetome"].hub, source="finetome", report=report))
    assert [(row.file, row.line) for row in found] == [("mlabonne/FineTome-100k@01234567", n) for n in (1, 2)]
    assert report.inputs == [{"hub": "mlabonne/FineTome-100k", "revision": "0123456789abcdef"}]
    assert asked == [
        (("mlabonne/FineTome-100k", None), {"split": "train", "streaming": True, "revision": "0123456789abcdef"})
    ]


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")

    def refuse(*_: Any) -> Any:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refuse)
    with pytest.raises(DataError, match=r"owner/name is no path here, and cannot be read from the Hub: no route\."):
        list(read("owner/name"))


def test_the_hub_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install datasets==5\.2\.0"):
        list(read("owner/name"))


def test_ids_depend_on_the_text_alone(tmp_path: Path) -> None:
    records = [{"question": f"Why {n}?", "answer": f"Because {n}."} for n in range(50)]
    first = [row.id for row in rows(write_rows(tmp_path / "a.jsonl", records))]
    random.Random(1).shuffle(records)
    assert sorted(row.id for row in rows(write_rows(tmp_path / "b.jsonl", records))) == sorted(first)
    assert len(set(first)) == 50


def test_every_source_has_a_known_format() -> None:
    assert {source.format for source in SOURCES.values()} <= {"", *sources.FORMATS}


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with contextlib.suppress(RuntimeError), Writer(folder) as writer:
        writer.write("a.jsonl", {"n": 1})
        raise RuntimeError
    assert not folder.exists()
    with Writer(folder) as writer:
        writer.write("a.jsonl", {"n": 1})
        assert [path.suffix for path in folder.iterdir()] == [".partial"]
        writer.open("b.jsonl")
        writer.commit("a.jsonl")
    (folder / "old.jsonl").touch()
    with Writer(folder) as writer:
        writer.write("a.jsonl", {"n": 2})
        about = writer.describe("a.jsonl")
        assert json.loads((folder / "a.jsonl").read_text()) == {"n": 1}
        writer.commit("a.jsonl", stale=("old.jsonl", "a.jsonl"))
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "b.jsonl"]
    assert about["bytes"] == (folder / "a.jsonl").stat().st_size
