"""Which way imports point: shared/design.md, as a table. Also holds for imports inside functions and for types only."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OFFLINE = ("data", "training", "export", "evaluation", "benchmarks", "spaces", "tests")
# Who may import llama.cpp: the engine, export for quantizing, and benchmarks, where it is the peer.
LLAMA_CPP = ("iris.engine.", "export.", "benchmarks.", "tests.")

# From left to right. A module may import what stands right of it; modules of one row do not import each other.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("iris.__main__",),
    ("iris.serve", "iris.terminal"),
    ("iris.keep",),
    ("iris.backup",),
    ("iris.ui",),
    ("iris.tools",),
    ("iris.prompts", "iris.notes", "iris.study"),
    ("iris.engine",),
    ("iris.store", "iris.courses", "iris.catalog", "iris.results"),
    ("iris.hub",),
    ("iris.gguf_file", "iris.settings", "iris.store_errors"),
    ("iris.errors",),
)

# One unit in two files, which need each other.
PARTS = {"iris.course_folder": "iris.courses"}

# Within the two packages that have levels of their own. A package's __init__ is its protocol: rightmost.
INSIDE: tuple[tuple[str, ...], ...] = (
    ("iris.engine.pool",),
    ("iris.engine.batch", "iris.engine.remote"),
    ("iris.engine.answer", "iris.engine.merged"),
    ("iris.engine.prefixes", "iris.engine.sampler", "iris.engine.tokenizer", "iris.engine.fastcopy"),
    tuple(f"iris.engine.{name}" for name in ("llama", "cache", "template", "text", "trim", "schema")),
    ("iris.engine",),
)
UI: tuple[tuple[str, ...], ...] = (
    ("iris.ui.app",),
    ("iris.ui.",),
    ("iris.ui.grounding",),
    ("iris.ui.passages",),
    ("iris.ui.chats", "iris.ui.chat_keeper", "iris.ui.chat_card"),
    ("iris.ui.quiz_view", "iris.ui.planner_view", "iris.ui.review_view", "iris.ui.drill_view", "iris.ui.take_along"),
    ("iris.ui.topics", "iris.ui.clock", "iris.ui.downloads"),
    ("iris.ui.page",),
    (
        *("iris.ui.theme", "iris.ui.models", "iris.ui.headers", "iris.ui.limits", "iris.ui.student"),
        *("iris.ui.messages", "iris.ui.richtext", "iris.ui.running", "iris.ui.formulas", "iris.ui.charts"),
    ),
    ("iris.ui.strings",),
    ("iris.ui",),
)

# What an offline folder may import of the others and of iris; settings and errors are for all.
ARROWS: dict[str, tuple[str, ...]] = {
    "data": ("iris.courses", "iris.course_folder", "iris.engine"),
    "training": ("data", "iris.prompts", "iris.catalog"),
    # The engine's wrapper loads what was exported, and its template code says what will be served.
    "export": ("training.recipes", "iris.catalog", "iris.engine", "iris.gguf_file"),
    # Models are named as in the catalog, the page shows results, and training unpacks the base of an adapter.
    "evaluation": (
        *("iris.engine", "iris.prompts", "iris.catalog", "iris.results", "data"),
        *("training.base", "training.recipes"),
    ),
    "benchmarks": ("iris", "training", "export"),
    "spaces": ("iris", "data"),
    "tests": ("iris", "data", "training", "export", "evaluation", "benchmarks"),
}
FOUNDATION = ("iris.settings", "iris.errors", "iris.__version__")


def imports(path: Path, module: str) -> Iterator[str]:
    """Everything a file imports, relative imports resolved; ``from a import b`` gives ``a.b``."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def modules(root: Path) -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for folder in ("iris", *OFFLINE):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def violations(root: Path) -> list[str]:
    """Every import that points the wrong way, as one line each."""
    known = modules(root)
    wrong = []
    for module, path in known.items():
        for wanted in sorted(set(imports(path, module))):
            # `from iris.ui import app` names a module, `from iris.errors import IrisError` something in one.
            target = wanted if wanted in known else wanted.rpartition(".")[0] or wanted
            if target not in known and wanted.split(".")[0] in ("iris", *OFFLINE):
                target = wanted
            reason = forbidden(module, target, wanted)
            if reason:
                wrong.append(f"{module} imports {wanted}: {reason}")
    return wrong


def forbidden(module: str, target: str, wanted: str) -> str:
    """Why ``module`` may not import ``target``; empty if it may."""
    top, outer = module.split(".")[0], wanted.split(".")[0]
    if outer == "llama_cpp" and not module.startswith(LLAMA_CPP):
        return "only iris/engine talks to llama.cpp (export may, for quantizing)"
    if outer == "torch" and top == "iris":
        return "iris never imports torch"
    if outer not in ("iris", *OFFLINE) or target == module:
        return ""
    if top == "iris":
        if outer != "iris":
            return "the app imports no offline folder"
        return _left_of(module, target)
    if outer == top or any(_within(wanted, allowed) for allowed in (*FOUNDATION, *ARROWS[top])):
        return ""
    return f"{top} may import {', '.join(ARROWS[top])}"


def _left_of(module: str, target: str) -> str:
    if target == "iris":
        return ""  # the version
    if module == "iris":
        return "the package itself imports nothing of Iris"
    for package, levels in (("iris.engine", INSIDE), ("iris.ui", UI)):
        if _within(module, package) and _within(target, package):
            return _compare(module, target, levels)
    return _compare(module, target, LEVELS)


def _compare(module: str, target: str, levels: tuple[tuple[str, ...], ...]) -> str:
    module, target = PARTS.get(module, module), PARTS.get(target, target)
    here, there = _level(module, levels), _level(target, levels)
    if here is None or there is None:
        return f"{module if here is None else target} has no place in the table of this test: give it one"
    if here > there:
        return "right never imports left"
    if here == there:
        same = next((name for name in levels[here] if _within(module, name) and _within(target, name)), None)
        return "" if same and not same.endswith(".") else "neighbours on a level do not import each other"
    return ""


def _level(module: str, levels: tuple[tuple[str, ...], ...]) -> int | None:
    exact = [i for i, row in enumerate(levels) if module in row]
    inside = [i for i, row in enumerate(levels) if any(_within(module, name) for name in row)]
    return next(iter([*exact, *inside]), None)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package if package.endswith(".") else f"{package}.")


def test_the_project_keeps_its_arrows() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("iris/errors.py", "from iris import settings", "right never imports left"),
        ("iris/errors.py", "def f():\n    import iris.settings", "right never imports left"),
        ("iris/errors.py", "from .settings import home", "right never imports left"),
        ("iris/store.py", "from iris.engine import Engine", "right never imports left"),
        ("iris/store.py", "from iris.catalog import find", "neighbours"),
        ("iris/tools/quiz.py", "from iris.ui import theme", "right never imports left"),
        ("iris/notes/cite.py", "from iris.study import mastery", "neighbours"),
        ("iris/notes/cite.py", "from iris.prompts import Turn", "neighbours"),
        ("iris/ui/quiz.py", "from iris.ui.study_chat import build", "neighbours"),
        ("iris/ui/theme.py", "from iris.ui import app", "right never imports left"),
        ("iris/engine/cache.py", "from .trim import fit", "neighbours"),
        ("iris/engine/llama.py", "from iris.engine.batch import LocalEngine", "right never imports left"),
        ("iris/engine/answer.py", "from iris.tools import study_chat", "right never imports left"),
        ("iris/unheard_of.py", "from iris import errors", "no place in the table"),
        ("iris/tools/quiz.py", "import torch.nn", "never imports torch"),
        ("iris/tools/quiz.py", "if True:\n    from torch import nn", "never imports torch"),
        ("iris/engine/batch.py", "import training.recipes", "no offline folder"),
        ("iris/serve.py", "from data import clean", "no offline folder"),
        ("iris/catalog.py", "import llama_cpp", "only iris/engine"),
        ("iris/ui/app.py", "from llama_cpp import Llama", "only iris/engine"),
        ("training/sft.py", "import llama_cpp", "only iris/engine"),
        ("training/sft.py", "from export import to_gguf", "training may import"),
        ("training/sft.py", "from iris.ui import app", "training may import"),
        ("export/merge.py", "from training import sft", "export may import"),
        ("evaluation/tasks.py", "from training import sft", "evaluation may import"),
        ("data/clean.py", "from training import recipes", "data may import"),
        ("data/clean.py", "from iris.tools import quiz", "data may import"),
    ],
)
def test_an_arrow_that_turned_round_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    for path in (file, "iris/engine/trim.py", "iris/ui/theme.py", "iris/ui/app.py", "training/recipes.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / file).write_text(source, encoding="utf-8")
    (found,) = violations(tmp_path)
    assert complaint in found


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("iris/tools/quiz.py", "from iris.engine import Engine\nfrom iris.engine.schema import check"),
        ("iris/notes/cite.py", "from iris.store import Store\nfrom iris.notes import search"),
        ("iris/ui/quiz.py", "from iris.ui import theme\nfrom iris.tools import quiz\nimport gradio"),
        ("iris/engine/llama.py", "import llama_cpp as C\nfrom iris.engine import Sampling"),
        ("iris/prompts.py", "from iris.engine import Message"),
        (
            "export/quantize.py",
            "import llama_cpp, torch\nfrom training.recipes import RECIPES\nfrom iris import catalog",
        ),
        ("training/sft.py", "import torch\nfrom data.clean import x\nfrom iris.errors import IrisError"),
        (
            "evaluation/tasks.py",
            "from iris.engine.pool import EnginePool\nfrom data import splits\nfrom training import base",
        ),
    ],
)
def test_an_arrow_of_the_design_is_allowed(tmp_path: Path, file: str, source: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(source, encoding="utf-8")
    assert violations(tmp_path) == []


def test_spaces_is_no_package() -> None:
    assert not (ROOT / "spaces/__init__.py").exists(), "it would hide the `spaces` package that Gradio calls"


def test_no_module_is_named_after_a_library() -> None:
    """A script's own folder comes first on sys.path: export/gguf.py would hijack ``import gguf``."""
    libraries = {"gguf", "torch", "datasets", "transformers", "peft", "trl", "llama_cpp", "gradio", "tokenizers"}
    scripts = [path for folder in OFFLINE for path in (ROOT / folder).glob("*")]
    assert [path for path in scripts if path.stem in libraries | set(sys.stdlib_module_names)] == []


def test_importing_all_of_iris_needs_no_torch(tmp_path: Path) -> None:
    # A torch that can be imported, so that an import inside `try` is found too, also where torch is not installed.
    for name in ("torch", "transformers", "peft", "trl", "datasets", "bitsandbytes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    names = [name for name in modules(ROOT) if name.startswith("iris") and name != "iris.__main__"]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'trl', 'datasets', 'bitsandbytes')"
        " if name in sys.modules])\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('training', 'export', 'evaluation')])"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_the_commands_start_without_the_app_or_the_engine() -> None:
    """``iris models`` answers at once: Gradio and llama.cpp are imported when they are needed."""
    code = (
        "import sys; from iris.__main__ import main; main(['models']); print({'gradio','llama_cpp'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.endswith("set()\n"), done.stderr
