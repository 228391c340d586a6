"""`python spaces/deploy.py` against a Hub on this machine: what arrives, what a second run sends, what trouble does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from iris import settings
from tests.hub_server import TOKEN, Hub, Repo, Trouble, serving
from tests.unit import tiny_course

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as about:
        yield about


def script(name: str, hub: Hub | None, home: Path, *arguments: object, token: str = TOKEN) -> tuple[int, str, str]:
    """A script of spaces/ as a person runs it; returns status, output, errors."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9",
        "HF_HOME": str(home.parent / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "IRIS_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        **({"HF_TOKEN": token} if token else {}),
    }
    done = subprocess.run(
        [sys.executable, f"spaces/{name}.py", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def deploy(hub: Hub | None, home: Path, *arguments: object, token: str = TOKEN) -> tuple[int, str, str]:
    return script("deploy", hub, home, *arguments, token=token)


def front(text: str) -> dict[str, object]:
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


# The folder.


def test_a_dry_run_writes_the_folder_and_asks_nobody(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    status, out, err = deploy(None, home, "me/iris", "--dry-run", folder, token="")
    assert (status, err) == (0, ""), err
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert f"{len(files)} files are in {folder}" in out
    assert {"app.py", "README.md", "requirements.txt", "iris/serve.py", "iris/ui/iris.css"} <= files
    assert {name.split("/")[0] for name in files} == {"app.py", "README.md", "requirements.txt", "iris", "data"}
    assert {"/".join(name.split("/")[:3]) for name in files if name.startswith("data/")} == {"data/courses/id2223"}
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in files)
    ours = {p.relative_to(ROOT).as_posix() for p in (ROOT / "iris").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert ours <= files, "iris/ is taken whole"
    assert len((folder / "app.py").read_text().splitlines()) == 2


def test_the_front_matter_says_what_the_space_needs(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    model = "hf:school/tutor/tutor_q4_k_m.gguf@main"
    models = ("--models", model, "smollm2-135m", "--datasets", "school/exam")
    assert deploy(None, home, "me/iris", "--dry-run", folder, *models, token="")[0] == 0
    about = front((folder / "README.md").read_text(encoding="utf-8"))
    pinned = re.search(r"(?m)^gradio==(.*)$", (ROOT / "requirements.txt").read_text())
    assert pinned
    assert about["sdk"] == "gradio"
    assert about["sdk_version"] == pinned[1]
    assert about["python_version"] == "3.11"
    assert about["app_file"] == "app.py"
    assert about["models"] == ["school/tutor"]
    assert about["datasets"] == ["school/exam"]
    assert about["preload_from_hub"] == ["school/tutor tutor_q4_k_m.gguf"]
    assert about["hf_oauth"] is True
    assert re.fullmatch(r"\d+m", str(about["startup_duration_timeout"]))
    assert len(str(about["short_description"])) <= 60, "the Hub refuses a longer one"
    assert about["header"] in ("mini", "default")


def test_requirements_are_iris_own_from_ready_made_wheels(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    assert deploy(None, home, "me/iris", "--dry-run", folder, token="")[0] == 0
    lines = (folder / "requirements.txt").read_text().splitlines()
    ours = (ROOT / "requirements.txt").read_text().splitlines()
    named = [line.partition("==")[0] for line in lines if line and not line.startswith(("#", "-"))]
    assert named == [line.partition("==")[0] for line in ours if "==" in line]
    # A Space installs gradio[mcp] along with the list, and that wants a pydantic of its own.
    assert {line for line in ours if "==" in line} - set(lines) == {
        line for line in ours if line.startswith("pydantic")
    }
    assert "--only-binary :all:" in lines
    assert not any(line.lower().startswith(("torch", "transformers", "pytest")) for line in lines)


def test_a_folder_in_use_is_left_alone(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    status, _, err = deploy(None, home, "me/iris", "--dry-run", tmp_path, token="")
    assert status == 2
    assert "is not empty" in err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]


def test_a_secret_in_a_course_is_not_uploaded(home: Path, tmp_path: Path) -> None:
    folder = tiny_course.write(home / "courses" / "bread")
    note = next(folder.glob("notes/*.md"))
    note.write_text(note.read_text() + "\nhf_" + "a1" * 17 + "\n")
    status, _, err = deploy(None, home, "me/iris", "--course", "bread", "--dry-run", tmp_path / "space", token="")
    assert status == 2
    assert f"data/courses/bread/notes/{note.name} holds what looks like a token" in err


def test_only_what_belongs_to_a_course_is_taken(home: Path, tmp_path: Path) -> None:
    folder = tiny_course.write(home / "courses" / "bread")
    (folder / "grades.xlsx").write_text("not for the public")
    out = tmp_path / "space"
    assert deploy(None, home, "me/iris", "--course", "bread", "--dry-run", out, token="")[0] == 0
    taken = {path.relative_to(out / "data/courses").as_posix() for path in (out / "data").rglob("*") if path.is_file()}
    assert "bread/course.toml" in taken
    assert "bread/grades.xlsx" not in taken


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("me/iris", "--course", "nothing"), "There is no course 'nothing'"),
        (("me/iris", "--models", "gpt-9"), "There is no model 'gpt-9'"),
        (("me/iris", "--models", "{gguf}"), "is on this machine, where a Space cannot read it"),
        (("iris",), "'iris' has not the form owner/name"),
        (("me/../iris",), "has not the form owner/name"),
    ],
)
def test_bad_input_is_told_before_anything_is_sent(
    home: Path, hub: Hub, gguf: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    status, out, err = deploy(hub, home, *(text.replace("{gguf}", str(gguf)) for text in arguments))
    assert status == 2
    assert complaint in err
    assert out == ""
    assert hub.asked == []


# Uploading.


def test_from_nothing_to_a_running_space_and_an_update_of_what_changed(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    options = ("me/iris", "--course", "bread", "--models", "smollm2-135m", "--private")
    status, out, err = deploy(hub, home, *options)
    assert (status, err) == (0, ""), err
    repo = hub.repos["spaces/me/iris"]
    assert repo.private
    assert repo.created_with["sdk"] == "gradio"
    assert repo.variables == {"IRIS_COURSE": "bread", "IRIS_MODELS": "smollm2-135m"}
    assert repo.files["iris/serve.py"] == (ROOT / "iris/serve.py").read_bytes()
    assert repo.files["data/courses/bread/course.toml"] == (home / "courses/bread/course.toml").read_bytes()
    assert repo.commits == ["initial commit", "Add Iris for bread"], "all files in one commit"
    assert re.search(r"building\n.*app starting\n.*running\n", out)
    assert f"Iris is running at {hub.url}/spaces/me/iris" in out
    assert "Next: " in out
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in str(repo.variables)
    assert not any(TOKEN.encode() in data for data in repo.files.values())

    again, out, err = deploy(hub, home, *options)
    assert (again, err) == (0, ""), err
    assert "The files are as they were." in out
    assert len(repo.commits) == 2, "a run that changes nothing makes no commit, and so no new build"

    note = next((home / "courses/bread/notes").glob("*.md"))
    note.write_text(note.read_text() + "\nMore.\n")
    repo.files["left/over.py"] = b"print(1)\n"
    status, out, err = deploy(hub, home, "me/iris", "--course", "bread")
    assert (status, err) == (0, ""), err
    changed = {f"data/courses/bread/notes/{note.name}", "left/over.py", "README.md"}
    assert repo.sent[-1] == changed, "the README names the models"
    assert "2 files sent, 1 removed" in out
    assert repo.variables == {"IRIS_COURSE": "bread"}, "a variable of an earlier deployment is taken back"
    assert ".gitattributes" in repo.files


def test_models_are_looked_for_and_preloaded_where_that_works(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    hub.repos["models/school/open"] = Repo("models", files={"m.gguf": b"GGUF"})
    hub.repos["models/school/closed"] = Repo("models", files={"m.gguf": b"GGUF"}, gated=True)
    wanted = ("hf:school/open/m.gguf@main", "hf:school/closed/m.gguf@main")
    status, out, err = deploy(hub, home, "me/iris", "--course", "bread", "--models", *wanted)
    assert status == 0, err
    about = front(hub.repos["spaces/me/iris"].files["README.md"].decode())
    assert about["models"] == ["school/closed", "school/open"]
    assert about["preload_from_hub"] == ["school/open m.gguf"]
    assert "school/closed is private or gated: set a secret HF_TOKEN" in out
    assert hub.repos["spaces/me/iris"].variables["IRIS_MODELS"] == ",".join(wanted)
    for missing, complaint in (
        ("hf:school/nowhere/m.gguf@main", "There is no repository school/nowhere"),
        ("hf:school/open/other.gguf@main", r"school/open has no file other\.gguf at revision main"),
    ):
        status, _, err = deploy(hub, home, "me/other", "--course", "bread", "--models", missing)
        assert status == 2
        assert re.search(complaint, err), err
        assert "spaces/me/other" not in hub.repos


def test_a_bucket_is_mounted_for_the_state(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    options = ("school/iris", "--course", "bread", "--bucket", "school/state")
    status, _, err = deploy(hub, home, *options)
    assert status == 2
    assert "Finding the bucket school/state failed" in err
    assert "spaces/school/iris" not in hub.repos
    hub.buckets["school/state"] = False
    status, _, err = deploy(hub, home, *options)
    assert status == 2
    assert "The bucket school/state is public: everyone could read what students keep" in err
    assert "spaces/school/iris" not in hub.repos
    hub.buckets["school/state"] = True
    assert deploy(hub, home, *options)[0] == 0
    repo = hub.repos["spaces/school/iris"]
    assert repo.volumes == [{"type": "bucket", "source": "school/state", "mountPath": "/data"}]
    repo.volumes = [{"type": "model", "source": "a/b", "mountPath": "/models"}]
    assert deploy(hub, home, *options)[0] == 0
    assert [volume["mountPath"] for volume in repo.volumes] == ["/models", "/data"], "what else is mounted stays"


# Trouble.


@pytest.mark.parametrize(
    ("space", "prepare", "complaint"),
    [
        (
            "somebody/iris",
            {},
            r"somebody/iris is not yours: somebody is not me, nor one of your organisations \(school\)",
        ),
        ("me/iris", {"role": "read"}, "The token of me may only read"),
        ("me/iris", {"trouble": [Trouble("repos/create", 402, message="PRO needed")]}, r"PRO account.*make run"),
        ("me/iris", {"trouble": [Trouble("repos/create", 403, message="No rights")]}, "The token may not do this"),
    ],
)
def test_what_may_not_be_written_is_explained(
    home: Path, hub: Hub, space: str, prepare: dict[str, object], complaint: str
) -> None:
    tiny_course.write(home / "courses" / "bread")
    for name, value in prepare.items():
        setattr(hub, name, value)
    status, _, err = deploy(hub, home, space, "--course", "bread")
    assert status == 2
    assert re.search(complaint, err), err
    assert len(err.splitlines()) == 1
    assert hub.repos == {}


def test_without_a_token_or_with_a_wrong_one(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    status, _, err = deploy(hub, home, "me/iris", "--course", "bread", token="")
    assert (status, hub.asked) == (2, [])
    assert "There is no token." in err
    status, _, err = deploy(hub, home, "me/iris", "--course", "bread", token="hf_wrong")
    assert status == 2
    assert "The Hub does not accept the token" in err
    assert "hf_wrong" not in err


def test_a_space_that_is_something_else_is_left_as_it_is(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    hub.repos["spaces/me/iris"] = theirs = Repo(
        "spaces", files={"README.md": b"---\ntitle: Cats\n---\n", "app.py": b""}
    )
    status, _, err = deploy(hub, home, "me/iris", "--course", "bread")
    assert status == 2
    assert "exists and is not Iris" in err
    assert (theirs.commits, theirs.variables, len(theirs.files)) == ([], {}, 2)


@pytest.mark.parametrize(
    "trouble",
    [
        [Trouble("whoami", 429, headers={"Retry-After": "0"}), Trouble("/tree/", 503), Trouble("runtime", 500)],
        [Trouble("/preupload/", 500), Trouble("repos/create", 502)],
        [Trouble("/commit/", "break")],
        [Trouble("/commit/", "lost")],
        [Trouble("/commit/", 500), Trouble("/preupload/", "break"), Trouble("repos/create", "lost")],
    ],
    ids=["busy", "busy uploads", "breaks off midway", "answer lost", "all at once"],
)
def test_passing_trouble_is_got_over(home: Path, hub: Hub, trouble: list[Trouble]) -> None:
    tiny_course.write(home / "courses" / "bread")
    hub.trouble = trouble
    status, out, err = deploy(hub, home, "me/iris", "--course", "bread")
    assert status == 0, err
    assert "Iris is running" in out
    assert hub.trouble == [], "all of it was met"
    repo = hub.repos["spaces/me/iris"]
    assert repo.commits == ["initial commit", "Add Iris for bread"], "and nothing was done twice"
    assert "trying again" in err or all("preupload" in entry.path for entry in trouble)


def test_lasting_trouble_leaves_the_old_space_running_and_the_next_run_goes_on(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    assert deploy(hub, home, "me/iris", "--course", "bread")[0] == 0
    repo = hub.repos["spaces/me/iris"]
    before = (dict(repo.files), list(repo.commits), dict(repo.variables), list(repo.stages))
    note = next((home / "courses/bread/notes").glob("*.md"))
    note.write_text(note.read_text() + "\nMore.\n")
    hub.trouble = [Trouble("/commit/", 500, headers={"Retry-After": "0"}) for _ in range(5)]
    status, _, err = deploy(hub, home, "me/iris", "--course", "bread", "--models", "smollm2-135m")
    assert status == 2
    assert "Uploading to me/iris failed" in err
    assert "What was there before is untouched. Run the same command again" in err
    assert before == (repo.files, repo.commits, repo.variables, repo.stages)
    assert deploy(hub, home, "me/iris", "--course", "bread", "--models", "smollm2-135m")[0] == 0
    assert repo.sent[-1] == {f"data/courses/bread/notes/{note.name}", "README.md"}


def test_somebody_else_commits_at_the_same_time(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    hub.trouble = [Trouble("/commit/", 412, message="A commit has happened since.", headers={"Retry-After": "0"})]
    status, _, err = deploy(hub, home, "me/iris", "--course", "bread")
    assert status == 0, err
    assert len(hub.repos["spaces/me/iris"].commits) == 2


def test_a_hub_that_is_not_there(home: Path, hub: Hub) -> None:
    tiny_course.write(home / "courses" / "bread")
    status, _, err = deploy(None, home, "me/iris", "--course", "bread")
    assert status == 2
    assert re.search(r"Asking who you are failed: .*[Cc]onnect", err.splitlines()[-1]), err


@pytest.mark.parametrize("stage", ["BUILD_ERROR", "RUNTIME_ERROR"])
def test_a_build_that_fails_shows_the_end_of_its_log(home: Path, hub: Hub, stage: str) -> None:
    tiny_course.write(home / "courses" / "bread")
    hub.builds = ["BUILDING", stage]
    hub.log = [f"line {number}" for number in range(500)] + ["ERROR: No matching distribution found for gradio==99"]
    status, _, err = deploy(hub, home, "me/iris", "--course", "bread")
    assert status == 1
    assert "ERROR: No matching distribution found for gradio==99" in err
    assert "line 499" in err
    assert "line 1\n" not in err
    kind = "build" if stage == "BUILD_ERROR" else "run"
    assert hub.requests("GET", f"/logs/{kind}")
    assert f"{hub.url}/spaces/me/iris?logs=" in err


def test_the_default_course_is_the_default_of_iris(home: Path, tmp_path: Path) -> None:
    assert deploy(None, home, "me/iris", "--dry-run", tmp_path / "space", token="")[0] == 0
    assert (tmp_path / "space/data/courses" / settings.DEFAULT_COURSE / "course.toml").exists()
