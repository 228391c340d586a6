"""Both backends think what transformers thinks of the same weights, text by text and in any company."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation import sanity, targets
from evaluation.backends import Backend, Request, open_backend
from evaluation.errors import TargetError
from evaluation.llama_backend import BATCH, LlamaBackend
from evaluation.tasks import Sources, load
from evaluation.worker import sampling
from export import to_gguf
from iris.engine import Message
from iris.errors import ModelFileError, UnknownModel
from tests.conftest import THREADS
from tests.unit.evaluating import course_splits

Tiny = Callable[[str], Path]
PROMPT = (Message("user", "Why does the loss fall?"),)


@pytest.fixture(scope="module")
def exported(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny SmolLM2 as an F16 GGUF."""
    out = tmp_path_factory.mktemp("gguf")
    assert to_gguf.main([str(tiny("smollm2")), "--f16", "--out", str(out), "--no-verify", "--threads", "1"]) == 0
    return out / "smollm2_f16.gguf"


@pytest.fixture(scope="module")
def pair(tiny: Tiny, exported: Path) -> Iterator[tuple[Backend, Backend]]:
    """The same model as GGUF and in PyTorch."""
    one = open_backend(targets.find(str(exported)), threads=THREADS)
    two = open_backend(targets.find(str(tiny("smollm2"))), threads=THREADS)
    yield one, two
    one.close()
    two.close()


def requests(backend: Backend) -> list[Request]:
    """Of many lengths: one over a whole batch, some with several texts after one prompt."""
    text = "The gradient of a loss with respect to weights tells where it falls. " * 40
    ids = backend.plain(text)
    prompt = tuple(backend.encode(PROMPT))
    return [
        Request(prompt, (tuple(ids[:7]), tuple(ids[3:5]), tuple(ids[9:10]))),
        Request((*prompt, *ids[: BATCH // 2]), (tuple(ids[5 : BATCH + 100]),)),
        Request(tuple(backend.first), (tuple(ids[:20]),)),
        *(Request(prompt[: 3 + n], (tuple(ids[n : n + 4]), tuple(ids[:3]))) for n in range(9)),
    ]


def test_the_same_token_ids_and_the_same_probabilities(pair: tuple[Backend, Backend]) -> None:
    llama, torch = pair
    assert llama.encode(PROMPT) == torch.encode(PROMPT)
    for text in ("Größe: 3.14\n", " <|im_end|> as text", "a"):
        assert llama.plain(text) == torch.plain(text)
    assert llama.first == torch.first
    asked = requests(llama)
    for ours, theirs in zip(llama.score(asked), torch.score(asked), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=0.12)  # PyTorch computes in bfloat16 here
            assert one.logprob / len(one.logprobs) == pytest.approx(other.logprob / len(other.logprobs), abs=0.03)


def test_company_changes_nothing(pair: tuple[Backend, Backend]) -> None:
    llama = pair[0]
    asked = requests(llama)
    together = llama.score(asked)
    for number in (0, 1, 2, 7):
        (alone,) = llama.score([asked[number]])
        for one, other in zip(alone, together[number], strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=0.03)  # other batches, other kernels


def test_the_probabilities_of_all_first_tokens_sum_to_one(pair: tuple[Backend, Backend]) -> None:
    llama = pair[0]
    size = 512
    prompt = tuple(llama.encode(PROMPT))
    found = [
        scored.logprob
        for start in range(0, size, 60)
        for scored in llama.score([Request(prompt, tuple((n,) for n in range(start, min(start + 60, size))))])[0]
    ]
    assert sum(map(math.exp, found)) <= 1 + 1e-5
    assert sum(map(math.exp, found)) > 0.5


def test_answers_are_alike_and_come_with_their_numbers(pair: tuple[Backend, Backend]) -> None:
    conversations = [(Message("user", f"Question {number}?"),) for number in range(10)]
    answers = [dict(backend.generate(conversations, [sampling(6)] * 10)) for backend in pair]
    assert all(set(found) == set(range(10)) for found in answers)
    firsts = [[found[n].text[:2] for n in range(10)] for found in answers]
    assert sum(a == b for a, b in zip(*firsts, strict=True)) >= 6  # bfloat16 turns some near-ties
    assert all(one.tokens <= 6 for found in answers for one in found.values())
    assert all(one.stopped == (one.tokens < 6) for found in answers for one in found.values() if one.tokens < 6)


def test_both_are_timed_on_given_tokens(pair: tuple[Backend, Backend]) -> None:
    ids = pair[0].plain("The loss falls. " * 40)
    for backend in pair:
        read, written = backend.timed(ids[:100], ids[100:105])
        assert read > 0
        assert written > 0


def test_an_untrained_adapter_equals_its_base_and_a_changed_one_does_not(
    tiny: Tiny, adapter: Callable[..., Path], tmp_path: Path
) -> None:
    task = load("course", Sources(course_splits(tmp_path / "id2223", test=8)))
    base = targets.find(str(tiny("smollm2")))
    check = sanity.untrained(base, task, threads=THREADS)
    assert check.ok, check.detail
    changed = replace(base, adapter=adapter("smollm2", scale=0.2))
    one, other = (sanity._likelihoods(target, task, THREADS) for target in (base, changed))
    assert abs(sum(a[0] - b[0] for a, b in zip(one, other, strict=True))) > 10


def test_a_model_without_a_chat_template_is_refused_by_name(tiny: Tiny, exported: Path, tmp_path: Path) -> None:
    import gguf

    reader: Any = gguf.GGUFReader(exported)
    field = reader.fields["tokenizer.chat_template"]
    content = bytearray(exported.read_bytes())
    name = b"tokenizer.chat_template"
    assert field
    place = content.index(name)
    content[place : place + len(name)] = b"tokenizer.chat_nothing_"
    broken = tmp_path / "silent.gguf"
    broken.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"silent\.gguf carries no chat template"):
        LlamaBackend(broken, None, threads=THREADS)
    folder = tmp_path / "silent"
    folder.mkdir()
    for file in tiny("smollm2").iterdir():
        if "template" not in file.name:
            (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(TargetError, match="silent has no chat template"):
        open_backend(targets.find(str(folder)), threads=THREADS)


def test_models_are_found_by_every_kind_of_name(
    tiny: Tiny, adapter: Callable[..., Path], exported: Path, gguf: Path, tmp_path: Path
) -> None:
    run = tmp_path / "outputs/recipe"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"output": "adapter"}')
    (run / "adapter").symlink_to(adapter("smollm2"))
    named = ["base=smollm2-135m", str(exported), f"own={gguf}+{exported}", str(run), str(tiny("smollm2"))]
    found = targets.find_all([*named, "pytorch:smollm2-135m"])
    assert [target.label for target in found] == [
        *("base", "smollm2_f16", "own", "recipe", "smollm2", "smollm2-135m-pytorch"),
    ]
    assert [target.backend for target in found] == ["gguf"] * 3 + ["pytorch"] * 3
    assert found[2].adapter == exported
    assert found[3].base == str(tiny("smollm2"))
    assert len({target.sha256 for target in found}) == 6
    assert found[0].bytes == gguf.stat().st_size


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ([], "No model is named"),
        (["nothing-like-this"], "There is no model"),
        (["a=smollm2-135m", "a=smollm2-135m"], "Two models are called 'a'"),
        (["pytorch:"], "base's name after pytorch:"),
        (["a|b=smollm2-135m"], "cannot stand in a table"),
        (["smollm2.gguf+x.gguf"], "There is no file"),
        (["."], "holds neither a finished run"),
    ],
)
def test_a_wrong_name_is_explained(
    named: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TargetError, UnknownModel), match=complaint):
        targets.find_all(named)


def test_waves_hold_what_fits() -> None:
    from evaluation.llama_backend import SEQUENCES, _waves

    many = [Request((1,) * (50 * n % 900 + 1), ((2,) * 5,) * (n % 5 + 1)) for n in range(200)]
    waves = list(_waves(many, 1000))
    assert list(itertools.chain(*waves)) == many
    for wave in waves:
        assert sum(len(one.following) for one in wave) <= SEQUENCES
        assert sum(len(one.prompt) + sum(map(len, one.following)) for one in wave) <= 1000 or len(wave) == 1
