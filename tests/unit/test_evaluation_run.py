"""The runners as a person types them, on the embedded model: results, reports, resuming, and what they refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation import eval_domain, eval_pytorch_vs_gguf, report, sanity
from iris import results
from tests.scripted_engine import Script, serve
from tests.unit.evaluating import course_splits

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return course_splits(tmp_path_factory.mktemp("data") / "id2223", test=12)


def options(data: Path, out: Path, *more: object) -> list[str]:
    shared = ("--data", data, "--out", out, "--limit", 3, "--max-tokens", 8, "--threads", 1, "--rounds", 0)
    return list(map(str, (*more, *shared)))


def of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def done(data: Path, gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two models, which are the same one, by the script itself."""
    out = tmp_path_factory.mktemp("run") / "domain"
    command = options(data, out, "--models", "base=smollm2-135m", f"again={gguf}", "--tasks", "domain", "course", "mcq")
    ran = subprocess.run(
        [sys.executable, "evaluation/eval_domain.py", *command, "--no-bertscore"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "What training on the course brought" in ran.stdout
    return out


def test_a_run_leaves_results_a_report_and_pictures(done: Path) -> None:
    found = results.read(done / "results.json")
    assert [row.label for row in found.rows] == ["base", "again"]
    first, second = (row.measures for row in found.rows)
    for name in ("course.perplexity", "course.rouge_l", "course.stops", "mcq.letter", "mcq.text", "mcq.generated"):
        assert first[name].items == 3
    assert first["course.perplexity"].value == pytest.approx(second["course.perplexity"].value, rel=0.02)
    assert first["size"].value == pytest.approx(98, abs=1)
    assert first["course.stops"].value == 0  # eight tokens end no answer
    tested = {one.measure for one in found.paired}
    assert {"course.bits_per_byte", "course.rouge_l", "mcq.letter"} <= tested
    assert all(one.p > 0.05 for one in found.paired), "a model does not differ from itself"
    text = (done / "report.md").read_text(encoding="utf-8")
    assert "## course" in text
    assert "no difference shown" in text
    for picture in ("intervals.png", "pareto.png"):
        assert (done / picture).read_bytes()[:4] == b"\x89PNG"
    assert not list(done.rglob("*.partial*"))


def test_it_goes_on_where_it_was_cut(done: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cut"
    (out / "items").mkdir(parents=True)
    lines = (done / "items/base.jsonl").read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    marked = json.loads(lines[1]) | {"logprob": -123.0} if b"logprob" in lines[1] else json.loads(lines[1])
    lines[1] = json.dumps(marked).encode() + b"\n"
    (out / "items/base.jsonl").write_bytes(b"".join(lines[:half]) + lines[half][:20])
    command = options(data, out, "--models", "base=smollm2-135m", "--tasks", "domain", "course", "mcq")
    assert eval_domain.main([*command, "--no-bertscore"]) == 0
    again = (out / "items/base.jsonl").read_bytes().splitlines(keepends=True)
    assert again[:half] == lines[:half]  # not done a second time
    keys = [tuple(json.loads(line).get(name) for name in ("task", "item", "what")) for line in again[1:]]
    items = [one for one in keys if one[0]]
    assert len(items) == len(set(items)) == 3 + 6 + 6
    # Another setting does not mix with these answers, and says what to do.
    capfd.readouterr()
    assert eval_domain.main([*command, "--no-bertscore", "--system", "study_chat"]) == 2
    said = capfd.readouterr().err
    assert "begun with another settings" in said
    assert "--fresh" in said


def test_a_judge_over_the_net_is_tried_and_its_verdicts_counted(
    done: Path, data: Path, tmp_path: Path, gguf: Path
) -> None:
    out = tmp_path / "judged"
    (out / "items").mkdir(parents=True)
    for path in (done / "items").iterdir():
        (out / "items" / path.name).write_bytes(path.read_bytes())
    command = options(data, out, "--models", "base=smollm2-135m", f"again={gguf}", "--tasks", "domain", "course", "mcq")
    script = Script(["VERDICT: TIE"])
    with serve(script) as url:
        assert eval_domain.main([*command, "--no-bertscore", "--judge", url, "--judge-model", "scripted"]) == 0
        asked = len(script.asked)
        assert asked == 2 * (6 + 3)  # two planted pairs for each of three questions, three pairs, both orders
        assert eval_domain.main([*command, "--no-bertscore", "--judge", url, "--judge-model", "scripted"]) == 0
        assert len(script.asked) == asked  # verdicts are kept
    found = results.read(out / "results.json")
    assert found.rows[1].measures["course.judge"].value == 0.5
    assert any("0 %" in note and "Its verdicts say little" in note for note in found.notes)
    assert any("3 ties (0 by disagreement" in note for note in found.notes)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--models", "nothing-like-this"], "There is no model"),
        (["--models", "smollm2-135m", "--tasks", "nothing"], "There is no task"),
        (["--models", "smollm2-135m", "--tasks", "empty.txt"], "is empty"),
        (["--models", "smollm2-135m", "--max-tokens", "0"], "--max-tokens must be at least 1"),
        (["--models", "smollm2-135m", "--judge", "smollm2-135m"], "under test"),
        (["--models", "smollm2-135m", "--out", ".", "--fresh"], "it is not removed"),
        (["--models", "smollm2-135m", "--data", "no/such"], "data/build.py --course"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    more: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    assert eval_domain.main(more) == 2
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "empty.txt"]


def test_a_model_that_cannot_be_asked_does_not_take_the_others_down(
    data: Path, gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.gguf"
    content = bytearray(gguf.read_bytes())
    name = b"tokenizer.chat_template"
    content[content.index(name) : content.index(name) + len(name)] = b"tokenizer.chat_nothing_"
    broken.write_bytes(content)
    out = tmp_path / "out"
    command = options(data, out, "--models", "base=smollm2-135m", str(broken), "--tasks", "mcq")
    assert eval_domain.main(command) == 2
    said = capfd.readouterr().err
    assert "broken.gguf carries no chat template" in said
    assert "broken could not be evaluated" in said
    assert len((out / "items/base.jsonl").read_text().splitlines()) == 1 + 6 + 1
    assert not (out / "results.json").exists()


def test_results_of_several_runs_in_one_report(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other/results.json"
    other.parent.mkdir()
    about = of(done) | {"name": "other", "machine": "another processor"}
    about["settings"]["max_tokens"] = 99
    other.write_text(json.dumps(about))
    assert report.main([str(done), str(other), "--out", str(tmp_path / "all"), "--quality", "mcq.letter"]) == 0
    text = (tmp_path / "all/report.md").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out.removesuffix("\n")
    assert "| base (domain) |" in text
    assert "| again (other) |" in text
    assert "other was measured on another processor: do not compare its speeds." in text
    assert "other has max_tokens 99, domain 8." in text
    assert report.main([str(done), "--out", str(tmp_path / "x"), "--quality", "no.such"]) == 2
    assert "No result has 'no.such'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"kind": "iris-evaluation", "format": 99}', "is of version 99, and this Iris reads version 1"),
        ('{"kind": "something"}', "is no results file"),
        ("[1]", "is no results file"),
        ("{", "cannot be read"),
        ('{"kind": "iris-evaluation", "format": 1}', "is broken"),
    ],
)
def test_a_wrong_results_file_is_refused(
    content: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text(content)
    assert report.main([str(tmp_path / "results.json"), "--out", str(tmp_path / "out")]) == 2
    assert complaint in capsys.readouterr().err


def test_pytorch_and_gguf_get_the_same_tokens_in_processes_of_their_own(
    data: Path, gguf: Path, tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny model in PyTorch with the embedded model's tokenizer, and the embedded GGUF as its export."""
    out, run = tmp_path / "out", tmp_path / "run"
    shutil.copytree(tiny_base, run)
    (run / "gguf").mkdir()
    (run / "gguf" / "run_q4_1.gguf").symlink_to(gguf)
    for name in ("run_imatrix", "run_adapter_f16"):  # no models
        (run / "gguf" / f"{name}.gguf").write_bytes(b"GGUF")
    command = [str(run), "--data", str(data), "--out", str(out), "--limit", "2"]
    assert eval_pytorch_vs_gguf.main([*command, "--rounds", "1", "--threads", "1"]) == 0
    torch, llama = results.read(out / "results.json").rows
    assert (torch.backend, llama.backend) == ("pytorch", "gguf")
    assert torch.measures["course.same_token"].value == 1
    assert llama.measures["course.same_token"].value < 0.9
    assert torch.measures["course.perplexity"].value > 10 * llama.measures["course.perplexity"].value
    # Python with torch alone takes more than the GGUF's process; what one has is not counted for the other.
    assert 50 < llama.measures["memory"].value < torch.measures["memory"].value
    for row in (torch, llama):
        assert all(row.measures[name].value > 0 for name in ("load", "prefill", "decode"))
    capsys.readouterr()
    assert eval_pytorch_vs_gguf.main([str(tiny_base), "--data", str(data)]) == 2
    assert "There is no GGUF among the models" in capsys.readouterr().err


def test_the_sanity_suite_passes_with_real_answers(
    data: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shuffled references near the floor, references at the ceiling, truncated ones lose, an untrained adapter ties."""
    assert sanity.main(["--data", str(data), "--base", str(tiny_base), "--threads", "1"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "WRONG" not in said
    for what in ("bertscore_f1: shuffled references", "rouge_l: truncated answers lose", "an untrained adapter equals"):
        assert f"ok    {what}" in said
