"""The dataset card, and its way to a Hub: a real server on this machine that answers as huggingface.co does."""

from __future__ import annotations

import base64
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard

from data import build, build_course, card
from data import push as upload
from data.files import DataError
from iris import courses
from tests.unit import tiny_course
from tests.unit.builds import made_up, manifest, qa_file

ROOT = Path(__file__).parents[2]
OURS = ROOT / "data" / "courses"


@dataclass
class Hub:
    """What the server was asked, and what it is to refuse: (path, status, message)."""

    url: str = ""
    repos: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuse: tuple[str, int, str] | None = None


def front(text: str) -> dict[str, Any]:
    """The front matter of a card, as the Hub's own library reads it."""
    data: Any = DatasetCard(text).data
    return dict(data.to_dict())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, value: object, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        refusal = self.hub.refuse
        if refusal and refusal[0] in self.path:
            self._answer(refusal[1], {"error": refusal[2]}, **{"X-Error-Message": refusal[2]})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            known = asked in self.hub.repos
            self.hub.repos += [asked] * (not known)
            address = f"{self.hub.url}/datasets/{asked['organization']}/{asked['name']}"
            self._answer(409 if known else 200, {"url": address})
        elif self.path == "/api/validate-yaml":
            assert front(json.loads(body)["content"])["configs"]
            self._answer(200, {"errors": [], "warnings": []})
        elif self.path == "/api/datasets/school/exam/preupload/main":
            paths = [entry["path"] for entry in json.loads(body)["files"]]
            self._answer(200, {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif self.path == "/api/datasets/school/exam/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    self.hub.commits.append(line["value"]["summary"])
                else:
                    self.hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = f"{self.hub.url}/datasets/school/exam/commit/{'0' * 40}"
            self._answer(200, {"success": True, "commitOid": "0" * 40, "commitUrl": commit, "hookOutput": ""})
        else:
            self._answer(404, {"error": f"nothing at {self.path}"})


@pytest.fixture
def hub() -> Iterator[Hub]:
    about = Hub()
    handler = type("Bound", (Handler,), {"hub": about})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        about.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield about
        listening.shutdown()
        thread.join()


def push(url: str, home: Path, *arguments: object, token: str = "hf_teacher") -> subprocess.CompletedProcess[str]:
    """The command as a person types it, against another Hub; the client reads the address when it is imported."""
    environment = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_TOKEN": token} if token else {}
    command = [sys.executable, "data/build.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)


# The card.


@pytest.fixture(scope="module")
def about(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a fresh build of our course."""
    out = tmp_path_factory.mktemp("card")
    assert build.main(["--course", "id2223", "--courses", str(OURS), "--out", str(out)]) == 0
    return manifest(out / "id2223")


def test_the_card_has_the_numbers_of_a_fresh_build(about: dict[str, Any]) -> None:
    """If this fails after a change to the course: python data/build.py --card"""
    written = card.README.read_text(encoding="utf-8")
    assert written == card.text(about)
    for name, split in about["splits"].items():
        assert f"| `{name}` | {split['rows']:,} | {split['groups']:,} |" in written
    course = courses.load(OURS / "id2223")
    assert f"{len(course.topics)} topics in {len(course.chapters)} chapters" in written
    assert f"with {about['splits']['test']['rows']} questions" in written


def test_the_card_is_one_that_the_hub_reads(about: dict[str, Any]) -> None:
    text = card.README.read_text(encoding="utf-8")
    said = front(text)
    assert (said["license"], said["language"], said["pretty_name"]) == ("cc-by-4.0", ["en"], about["title"])
    assert {config["config_name"] for config in said["configs"]} == {"id2223", "id2223-mcq"}
    for heading in ("What is in it", "Splits", "Fields", "How the rows were made", "How it was checked", "Limitations"):
        assert f"\n## {heading}\n" in text


def test_card_writes_the_numbers_of_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "README.md"
    whole = card.README.read_text(encoding="utf-8")
    copy.write_text(re.sub(r"\d", "7", whole.split("## Fields")[0]) + "## Fields" + whole.split("## Fields")[1])
    monkeypatch.setattr(card, "README", copy)
    options = ["--course", "id2223", "--courses", str(OURS), "--out", str(tmp_path / "out"), "--card"]
    assert build.main(options) == 0
    numbers = re.compile(r"<!-- numbers: begin -->.*<!-- numbers: end -->", re.DOTALL)
    assert numbers.findall(copy.read_text()) == numbers.findall(whole)
    copy.write_text("# no marks\n")
    assert build.main(options) == 2
    assert copy.read_text() == "# no marks\n"


def test_the_card_of_another_course_is_not_about_ours(tmp_path: Path) -> None:
    folder = tiny_course.write(tmp_path / "bread")
    toml = folder / "course.toml"
    toml.write_text(
        toml.read_text().replace('"CC-BY-4.0"', '"Only for our school: ask!"').replace("Baking", 'Ba\\"king')
    )
    assert build.main(["--course", str(folder), "--out", str(tmp_path)]) == 0
    text = card.text(manifest(tmp_path / "bread"))
    said = front(text)
    assert said["pretty_name"] == 'Ba"king bread'
    assert (said["license"], said["license_name"]) == ("other", "only-for-our-school-ask")
    assert '\n# Ba"king bread\n' in text
    assert "| `mcq_test` |" in text
    for ours in ("id2223", "machine learning", "59", "CC BY"):
        assert ours not in text
    assert "\n\n\n" not in text


# Uploading.


def test_a_build_is_pushed_and_can_be_loaded(hub: Hub, tmp_path: Path) -> None:
    """What arrives at the Hub is what `datasets` reads from there, by the card's configs."""
    options = ("--course", "id2223", "--courses", OURS, "--out", tmp_path / "out", "--push", "school/exam")
    done = push(hub.url, tmp_path / "hf", *options, "--private")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"Uploaded to {hub.url}/datasets/school/exam\n")
    assert hub.repos == [{"name": "exam", "organization": "school", "visibility": "private", "type": "dataset"}]
    assert hub.tokens == {"Bearer hf_teacher"}
    assert hub.commits == ["Scalable Machine Learning and Deep Learning: 1,340 rows"]
    built = tmp_path / "out" / "id2223"
    assert hub.files.pop("README.md") == card.README.read_bytes()
    assert hub.files == {f"id2223/{path.name}": path.read_bytes() for path in built.iterdir()}

    datasets = pytest.importorskip("datasets")
    copy = tmp_path / "copy"
    (copy / "id2223").mkdir(parents=True)
    for name, content in {**hub.files, "README.md": card.README.read_bytes()}.items():
        (copy / name).write_bytes(content)
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(copy), "id2223", cache_dir=cache)
    about = manifest(built)
    assert {name: len(rows) for name, rows in loaded.items()} == {
        name: about["splits"][name]["rows"] for name in ("train", "validation", "test")
    }
    assert loaded["train"][0]["prompt"][0]["role"] == "user"
    bank = datasets.load_dataset(str(copy), "id2223-mcq", split="test", cache_dir=cache)
    assert len(bank) == about["splits"]["mcq_test"]["rows"]
    assert len(bank[0]["options"]) == 4

    again = push(hub.url, tmp_path / "hf", *options)
    assert again.returncode == 0, "a data set that is there already is no error"


def test_a_source_is_pushed_with_a_card_of_its_own(hub: Hub, tmp_path: Path) -> None:
    path = qa_file(tmp_path / "rows.jsonl", made_up(60))
    options = ("--source", "dolly", "--path", path, "--courses", tmp_path, "--out", tmp_path, "--push", "school/exam")
    done = push(hub.url, tmp_path / "hf", *options)
    assert (done.returncode, done.stderr) == (0, "")
    said = front(hub.files["README.md"].decode())
    assert (said["pretty_name"], said["license"]) == ("dolly", "cc-by-sa-3.0")
    assert set(hub.files) == {"README.md"} | {
        f"dolly/{name}" for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "manifest.json")
    }


@pytest.mark.parametrize(
    ("refuse", "complaint"),
    [
        (("repos/create", 401, "Invalid username or password."), r"401 Unauthorized.*: Invalid username or password\."),
        (
            ("repos/create", 403, "You may not create a dataset here."),
            r"403 Forbidden.*: You may not create a dataset here\.",
        ),
        (("preupload", 401, "Invalid credentials."), r"401.*Invalid credentials"),
        (("commit", 500, "Internal Error"), r"500"),
        (("validate-yaml", 400, "bad front matter"), r"[Ii]nvalid metadata|400"),
    ],
    ids=["token", "rights", "preupload", "broken hub", "front matter"],
)
def test_a_refusal_is_told(hub: Hub, tmp_path: Path, refuse: tuple[str, int, str], complaint: str) -> None:
    folder = tiny_course.write(tmp_path / "bread")
    hub.refuse = refuse
    done = push(hub.url, tmp_path / "hf", "--course", folder, "--out", tmp_path / "out", "--push", "school/exam")
    assert done.returncode == 2
    assert re.fullmatch(r"school/exam could not be uploaded: .*\n", done.stderr), done.stderr
    assert re.search(complaint, done.stderr), done.stderr
    assert f"The build is in {tmp_path / 'out' / 'bread'}." in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "hf_teacher" not in done.stdout + done.stderr
    assert not hub.files
    assert (tmp_path / "out" / "bread" / "manifest.json").exists(), "the build itself is kept"


def test_without_a_token_or_a_hub(tmp_path: Path, hub: Hub) -> None:
    folder = tiny_course.write(tmp_path / "bread")
    options = ("--course", folder, "--out", tmp_path / "out", "--push", "school/exam")
    hub.refuse = ("repos/create", 401, "Invalid username or password.")
    done = push(hub.url, tmp_path / "hf", *options, token="")
    assert done.returncode == 2
    assert "HF_TOKEN" in done.stderr
    done = push("http://127.0.0.1:9", tmp_path / "hf", *options)
    assert done.returncode == 2
    assert re.fullmatch(r"school/exam could not be uploaded: .*[Cc]onnect.*\n", done.stderr), done.stderr


@pytest.mark.parametrize("name", ["exam", "school/", "school/exam/more", "a b/c", "https://hub/school/exam"])
def test_a_name_that_is_none_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tiny_course.write(tmp_path / "bread")
    with pytest.raises(SystemExit):
        build.main(["--course", str(folder), "--out", str(tmp_path / "out"), "--push", name])
    assert f"argument --push: {name!r} has not the form owner/name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_not_pushed(tmp_path: Path, hub: Hub) -> None:
    """Someone edits a split between build and upload."""
    folder = tiny_course.write(tmp_path / "bread")
    made = build_course.build(courses.load(folder), tmp_path, seed=1, fresh=False)
    (made.folder / "test.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"test\.jsonl:1: the file is missing, or is not the one of manifest\.json"):
        upload.push(made, "school/exam", endpoint=hub.url)
    assert not hub.repos
