"""Where a GGUF comes from, in its own metadata: base, adapter, recipe, data, licences, tools. And the check of it."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export import outputs, sources
from export.adapter import WEIGHTS, Adapter
from export.base import Field, field_of
from export.errors import ExportError
from export.sources import Source

PREFIX = "iris."
REQUIRED = ("iris.base.source", "iris.base.revision", "iris.tools")
_TOOLS = ("gguf", "llama-cpp-python", "numpy")


def entries(source: Source, adapter: Adapter | None) -> dict[str, Field]:
    """The metadata for a model made of ``source``. Values name things; they never say where this machine keeps them."""
    licences = source.run.get("licences") or ([source.base_licence] if source.base_licence else [])
    data = {
        stage: {key: str(about.get(key, "")) for key in ("name", "manifest_sha256", "licence")}
        for stage, about in dict(source.run.get("data", {})).items()
    }
    tools = {name: importlib.metadata.version(name) for name in _TOOLS} | {
        "iris": importlib.metadata.version("iris-tutor"),
        **{f"training: {name}": version for name, version in dict(source.run.get("packages", {})).items()},
    }
    base_name = source.base_id.rpartition("/")[2].removeprefix("catalog:")
    values: dict[str, Any] = {
        "general.name": source.name,
        "general.base_model.count": 1,
        "general.base_model.0.name": base_name,
        "general.base_model.0.version": source.base_revision,
        "iris.base.source": source.base_id,
        "iris.base.revision": source.base_revision,
        "iris.tools": json.dumps(tools),
    }
    if source.base_id.count("/") == 1:
        values["general.base_model.0.organization"] = source.base_id.split("/")[0]
        values["general.base_model.0.repo_url"] = f"https://huggingface.co/{source.base_id}"
    if licences:
        values["general.license"] = source.base_licence or licences[0]
        values["iris.licences"] = json.dumps(list(licences))
    if adapter is not None:
        first = next(iter(adapter.deltas.values()))
        method = "dora" if adapter.dora else "rslora" if adapter.rslora else "lora"
        values["iris.adapter.sha256"] = outputs.sha256(adapter.folder / WEIGHTS)
        values["iris.adapter.method"] = f"{method}, rank {first.rank}, scaling {first.scaling:g}"
    if source.run:
        values["iris.recipe"] = json.dumps(source.run.get("recipe", {}))
        values["iris.data"] = json.dumps(data)
        values["iris.trained"] = str(source.run.get("finished", ""))
        values["iris.code"] = str(source.run.get("git") or "")
    return {key: field_of(value) for key, value in values.items() if value not in ("", None)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of the lineage; ``ok`` None: what would decide it is not at hand."""

    what: str
    ok: bool | None
    detail: str


def read(path: Path) -> dict[str, Any]:
    """The lineage of a GGUF: its ``iris.*`` entries and those of ``general.*`` that tell where it comes from.

    Raises:
        ExportError: the file cannot be read.
    """
    import gguf

    from iris import gguf_file

    gguf_file.check(path)
    reader: Any = gguf.GGUFReader(path)
    found = {
        key: field.contents()
        for key, field in reader.fields.items()
        if key.startswith((PREFIX, "general.base_model.", "general.license", "general.name", "quantize."))
    }
    if not any(key.startswith(PREFIX) for key in found):
        raise ExportError(f"{path.name} carries no lineage: it was not made by export/to_gguf.py.")
    return found


def check(path: Path, found: Mapping[str, Any], against: str = "") -> list[Finding]:
    """Hold a file's lineage against what lies around: its sha256, the run it is from, the data the run names.

    ``against`` names the run; by default it is the folder above ``gguf/``.
    """
    findings = [Finding(f"has {key}", key in found, str(found.get(key, ""))[:80]) for key in REQUIRED]
    findings.append(_sum(path))
    target = against or (str(path.parent.parent) if (path.parent.parent / "run.json").is_file() else "")
    if not target:
        return [*findings, Finding("the run", None, "not at hand; name it with --against")]
    source = sources.find(target)
    findings.append(_same("base revision", found.get("iris.base.revision"), source.base_revision))
    if source.adapter:
        findings.append(_same("adapter", found.get("iris.adapter.sha256"), outputs.sha256(source.adapter / WEIGHTS)))
    if source.run:
        recipe = json.loads(found.get("iris.recipe", "{}"))
        findings.append(_same("recipe", json.dumps(recipe), json.dumps(source.run.get("recipe", {}))))
    for stage, about in json.loads(found.get("iris.data", "{}")).items():
        manifest = Path("outputs/data") / about["name"] / "manifest.json"
        if manifest.is_file():
            findings.append(_same(f"data of {stage}", about["manifest_sha256"], outputs.sha256(manifest)))
        else:
            findings.append(Finding(f"data of {stage}", None, f"{manifest} is not at hand"))
    return findings


def _sum(path: Path) -> Finding:
    beside = path.with_name(f"{path.name}.sha256")
    if not beside.is_file():
        return Finding("sha256", None, f"{beside.name} is not beside it")
    return _same("sha256", beside.read_text(encoding="utf-8").split(" ")[0], outputs.sha256(path))


def _same(what: str, recorded: Any, now: str) -> Finding:
    short = str(now)[:24]
    return Finding(what, recorded == now, short if recorded == now else f"recorded {str(recorded)[:24]}, now {short}")
