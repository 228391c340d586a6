"""Publishing a run and a build: what goes up, what the card says, and what is kept back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard

from data import build
from tests.hub_server import Hub, Trouble, serving
from tests.unit import tiny_course
from tests.unit.test_space_deploy import script

NAME = "llama32-1b-lora-exam"

# The smallest run that training and export leave behind.
RUN: dict[str, Any] = {
    "format": 1,
    "recipe": {"name": NAME, "method": "lora", "lora_r": 16, "stages": [{"data": "bread", "epochs": 3}]},
    "base": {
        "id": "llama32-1b",
        "source": "meta-llama/Llama-3.2-1B-Instruct",
        "revision": "main",
        "licence": "llama3.2",
    },
    "data": {"exam": {"name": "bread", "manifest_sha256": "00", "licence": "CC-BY-4.0"}},
    "output": "adapter",
    "start": "/somewhere/outputs/other",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as about:
        yield about


def entry(path: Path, *, passed: bool = True) -> dict[str, Any]:
    distance = {"tokens": 2048, "kl": 0.0477, "top1": 0.871, "perplexity": 74.45, "reference_perplexity": 74.01}
    failures = [] if passed else ["logits: KL is 3.1, the limit 0.2"]
    return {
        "file": path.name,
        "kind": "Q4_K_M",
        "bytes": path.stat().st_size,
        "distance": distance,
        "failures": failures,
        "passed": passed,
    }


def add(folder: Path, kind: str, content: bytes) -> Path:
    path = folder / f"{NAME}_{kind}.gguf"
    path.write_bytes(content)
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """outputs/RECIPE with two files that passed, an importance matrix, and an adapter."""
    folder = tmp_path / "outputs" / NAME
    gguf = folder / "gguf"
    gguf.mkdir(parents=True)
    paths = [add(gguf, kind, kind.encode() * 1000) for kind in ("q4_k_m", "q8_0")]
    (gguf / f"{NAME}_imatrix.gguf").write_bytes(b"GGUF")
    report = {"format": 1, "held_out": {"data": "bread", "split": "test", "tokens": 2048}}
    write(gguf / f"{NAME}.report.json", {**report, "files": [entry(path) for path in paths], "passed": True})
    write(folder / "run.json", RUN)
    (folder / "adapter").mkdir()
    base = RUN["base"]["source"]
    write(folder / "adapter/adapter_config.json", {"base_model_name_or_path": base, "peft_type": "LORA", "r": 16})
    (folder / "adapter/adapter_model.safetensors").write_bytes(b"weights" * 100)
    return folder


def card(data: bytes) -> tuple[dict[str, Any], list[Any], str]:
    """(front matter, evaluation results, text) of a model card, as the Hub's own library reads it."""
    read: Any = ModelCard(data.decode())
    return dict(read.data.to_dict()), list(read.data.eval_results or []), str(read.text)


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def change(path: Path, **values: Any) -> None:
    write(path, json.loads(path.read_text()) | values)


def results(path: Path) -> Path:
    measures = {"mcq.letter": {"value": 0.625, "low": 0.5, "high": 0.75, "items": 80}}
    rows = [
        {"label": "base", "model": "smollm2-135m", "measures": {}},
        {"label": "tuned", "model": NAME, "measures": measures},
    ]
    about = {"kind": "iris-evaluation", "format": 1, "title": "What training brought", "date": "2026-11-26"}
    write(path, {**about, "machine": "two cores", "rows": rows})
    return path


def test_a_run_is_published_with_a_card_of_what_is_known(hub: Hub, home: Path, run: Path, tmp_path: Path) -> None:
    evaluated = results(tmp_path / "results.json")
    options = (run, "--results", evaluated, "--datasets", "school/bread")
    status, out, err = script("publish_model", hub, home, *options)
    assert (status, err) == (0, ""), err
    repo = hub.repos[f"models/me/{NAME}-gguf"]
    files = {f"{NAME}_q4_k_m.gguf", f"{NAME}_q8_0.gguf"}
    assert repo.large == {*files, "adapter/adapter_model.safetensors"}
    for name in files:
        assert repo.files[name] == (run / "gguf" / name).read_bytes()
    assert "imatrix" not in str(sorted(repo.files))
    assert f"hf:me/{NAME}-gguf/{NAME}_q4_k_m.gguf@main" in out, "the next step"
    assert b"/somewhere" not in repo.files["run.json"], "where this machine keeps things is nobody's business"

    said, (metric,), text = card(repo.files["README.md"])
    assert said["license"] == "llama3.2"
    assert said["base_model"] == "meta-llama/Llama-3.2-1B-Instruct"
    assert said["base_model_relation"] == "finetune"
    assert said["datasets"] == ["school/bread"]
    assert (metric.metric_type, metric.metric_value) == ("letter", 0.625)
    assert f"`{NAME}_q4_k_m.gguf` | Q4_K_M" in text
    assert "0.625 (0.5 to 0.75)" in text
    assert "Built with Llama" in text
    assert f"python -m iris --model hf:me/{NAME}-gguf/" in text

    puts = len(hub.requests("PUT", "/lfs/"))
    assert script("publish_model", hub, home, *options)[0] == 0
    assert len(repo.commits) == 2, "nothing changed, so nothing is sent"
    assert len(hub.requests("PUT", "/lfs/")) == puts


def test_an_upload_that_breaks_off_does_not_send_again_what_arrived(hub: Hub, home: Path, run: Path) -> None:
    hub.trouble = [Trouble("/commit/", 500) for _ in range(5)]
    status, _, err = script("publish_model", hub, home, run)
    assert status == 2
    assert "Run the same command again" in err
    sent = len(hub.requests("PUT", "/lfs/"))
    assert sent == 3
    hub.trouble = [Trouble("/lfs/", "break", method="PUT")]
    assert script("publish_model", hub, home, run)[0] == 0
    assert len(hub.requests("PUT", "/lfs/")) == sent
    assert len(hub.repos[f"models/me/{NAME}-gguf"].large) == 3


def test_a_file_that_breaks_on_the_way_is_sent_again(hub: Hub, home: Path, run: Path) -> None:
    hub.trouble = [Trouble("/lfs/", "break", method="PUT"), Trouble("/lfs/", 503, method="PUT")]
    status, _, err = script("publish_model", hub, home, run)
    assert status == 0, err
    assert hub.trouble == []
    assert len(hub.repos[f"models/me/{NAME}-gguf"].large) == 3


def failed_gate(run: Path) -> None:
    path = run / "gguf" / f"{NAME}_q8_0.gguf"
    change(
        run / "gguf" / f"{NAME}.report.json",
        files=[entry(run / "gguf" / f"{NAME}_q4_k_m.gguf"), entry(path, passed=False)],
    )


def no_gate(run: Path) -> None:
    add(run / "gguf", "q6_k", b"never held against anything")


def changed_since(run: Path) -> None:
    path = run / "gguf" / f"{NAME}_q8_0.gguf"
    content = path.read_bytes()
    path.write_bytes(b"X" + content[1:])


def nothing_there(run: Path) -> None:
    for path in (run / "gguf").glob("*.gguf"):
        path.unlink()


def licence_of_base(run: Path) -> None:
    change(run / "run.json", base={**RUN["base"], "licence": "research only"})


def licence_of_data(run: Path) -> None:
    change(run / "run.json", data={"exam": {"name": "bread", "licence": "CC-BY-NC-ND-4.0"}})


def licence_unknown(run: Path) -> None:
    change(run / "run.json", data={"exam": {"name": "bread", "licence": ""}})


def local_base(run: Path) -> None:
    change(run / "run.json", base={**RUN["base"], "source": "/home/teacher/base"})


def not_finished(run: Path) -> None:
    (run / "run.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (failed_gate, "_q8_0.gguf did not pass the gate (logits: KL is 3.1, the limit 0.2)"),
        (no_gate, "_q6_k.gguf has not been through the gate"),
        (changed_since, "_q8_0.gguf is not the file that passed the gate"),
        (nothing_there, "There is no GGUF in "),
        (licence_of_base, "The base llama32-1b is under research-only"),
        (licence_of_data, "The data bread is under cc-by-nc-nd-4.0"),
        (licence_unknown, "It is not said under which licence the data bread is"),
        (local_base, "The base of this run, base, has no name on the Hub"),
        (not_finished, "run.json. Training writes it when it is finished."),
    ],
)
def test_what_should_not_be_public_is_kept_back(hub: Hub, home: Path, run: Path, spoil: Any, complaint: str) -> None:
    spoil(run)
    status, out, err = script("publish_model", hub, home, run)
    assert status == 2
    assert complaint in err
    assert len(err.splitlines()) == 1, err
    assert out == ""
    assert hub.repos == {}, "nothing was made or sent"


def test_metas_licence_wants_the_name_to_begin_with_llama(hub: Hub, home: Path, run: Path) -> None:
    status, _, err = script("publish_model", hub, home, run, "--to", "school/our-tutor")
    assert status == 2
    assert "begin with Llama; school/our-tutor does not" in err
    assert script("publish_model", hub, home, run, "--to", "school/Llama-tutor")[0] == 0


def test_the_strictest_licence_holds(home: Path, run: Path, tmp_path: Path) -> None:
    data = {"exam": {"name": "bread", "licence": "CC-BY-NC-4.0"}}
    change(
        run / "run.json",
        base={**RUN["base"], "id": "smollm2-135m", "source": "catalog:smollm2-135m", "licence": "apache-2.0"},
        data=data,
    )
    status, out, err = script("publish_model", None, home, run, "--dry-run", tmp_path / "card", token="")
    assert status == 0, err
    assert f"{NAME}_q4_k_m.gguf" in out
    said, _, _ = card((tmp_path / "card/README.md").read_bytes())
    assert said["license"] == "cc-by-nc-4.0"
    assert said["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_an_evaluation_of_something_else_is_refused(hub: Hub, home: Path, run: Path, tmp_path: Path) -> None:
    other = results(tmp_path / "results.json")
    other.write_text(other.read_text().replace(NAME, "other"))
    status, _, err = script("publish_model", hub, home, run, "--results", other)
    assert status == 2
    assert f"holds no evaluation of {NAME}" in err


# Data sets.


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tiny_course.write(tmp_path / "bread")
    assert build.main(["--course", str(folder), "--out", str(tmp_path / "data")]) == 0
    return tmp_path / "data" / "bread"


def test_a_build_is_published_and_updated(hub: Hub, home: Path, built: Path) -> None:
    hub.trouble = [Trouble("/commit/", "lost")]
    status, out, err = script("publish_dataset", hub, home, built, "--private")
    assert status == 0, err
    repo = hub.repos["datasets/me/bread"]
    assert repo.private
    assert len(repo.commits) == 2
    assert f"{hub.url}/datasets/me/bread" in out
    about: Any = DatasetCard(repo.files["README.md"].decode())
    assert about.data.license == "cc-by-4.0"
    for path in built.iterdir():
        if path.stat().st_size:
            assert repo.files[f"bread/{path.name}"] == path.read_bytes()
    assert script("publish_dataset", hub, home, built)[0] == 0
    assert len(repo.commits) == 2


def test_a_build_that_is_not_what_it_was_or_not_ours_to_give(hub: Hub, home: Path, built: Path, tmp_path: Path) -> None:
    status, _, err = script("publish_dataset", hub, home, tmp_path / "nothing")
    assert (status, "There is no build in" in err) == (2, True)
    change(built / "manifest.json", licence="Only for our school")
    status, _, err = script("publish_dataset", hub, home, built)
    assert (status, "The data bread is under only-for-our-school" in err) == (2, True)
    change(built / "manifest.json", licence="CC-BY-4.0")
    with (built / "train.jsonl").open("a") as file:
        file.write("{}\n")
    status, _, err = script("publish_dataset", hub, home, built)
    assert (status, "not the one of manifest.json" in err) == (2, True)
    assert hub.repos == {}
