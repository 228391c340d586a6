"""From messages to tokens: the mask, decoded, is the answer with its end of turn; nothing is cut or lost in silence."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris import prompts
from tests.unit.tiny_training import recipe, sentences, write_build
from training import rows
from training.errors import RowsError
from training.rows import ChatWriter

DATE = "26 Jul 2024"

# The shapes of the other bases' templates, each with the feature that trips pipelines up.
LLAMA3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{{- '<|im_start|>system\n\nToday Date: ' + date_string + '\n\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content }}{%- set messages = messages[1:] %}{%- endif %}"
    "{{- '<|im_end|>' }}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n\n' }}"
    "{{- message.content | trim + '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n\n' }}{%- endif %}"
)
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + ('model' if message.role == 'assistant' else message.role) }}"
    "{{ '\n' + message.content | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def with_template(tokenizer: Any, template: str) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


TEXT = st.text(min_size=1, max_size=60).filter(lambda text: text.strip())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(TEXT, TEXT)
def test_the_decoded_mask_is_the_answer_and_the_end_of_turn(smol_tokenizer: Any, asked: str, answer: str) -> None:
    writer = ChatWriter(smol_tokenizer, date=DATE)
    row = writer.encode(user(asked), assistant(answer))
    assert row is not None
    expected = smol_tokenizer.decode(smol_tokenizer(answer.strip() + "<|im_end|>").input_ids)
    assert writer.decode_supervised(row) == expected
    assert row.ids[-1] == smol_tokenizer.eos_token_id
    assert row.labels[-1] == row.ids[-1]  # the end of turn is trained, also though it is the padding of many pipelines
    assert row.labels[: -row.supervised] == [-100] * (len(row.ids) - row.supervised)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(TEXT, TEXT)
def test_before_the_answer_stands_what_the_served_model_sees(smol_tokenizer: Any, asked: str, answer: str) -> None:
    row = ChatWriter(smol_tokenizer, date=DATE).encode(user(asked), assistant(answer))
    assert row is not None
    served = smol_tokenizer.apply_chat_template(user(asked), add_generation_prompt=True, return_dict=False)
    assert list(row.ids[: -row.supervised]) == served


@pytest.mark.parametrize("template", [LLAMA3, GEMMA, PHI3], ids=["llama3", "gemma2", "phi3"])
def test_other_templates_are_masked_as_well(smol_tokenizer: Any, template: str) -> None:
    writer = ChatWriter(with_template(smol_tokenizer, template), date=DATE)
    row = writer.encode([{"role": "system", "content": "Be brief."}, *user("Why?")], assistant("Because."))
    assert row is not None
    assert writer.decode_supervised(row) == "Because.<|im_end|>"
    assert "Be brief." in smol_tokenizer.decode(row.ids)  # also where the template refuses system messages


def test_the_date_in_a_template_is_pinned(smol_tokenizer: Any) -> None:
    tokenizer = with_template(smol_tokenizer, LLAMA3)
    row = ChatWriter(tokenizer, date=DATE).encode(user("Why?"), assistant("So."))
    assert row is not None
    assert "Today Date: 26 Jul 2024" in tokenizer.decode(row.ids)


def test_there_is_one_beginning_of_sequence(smol_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(smol_tokenizer)
    tokenizer.bos_token = "<|endoftext|>"
    bos = ("<|endoftext|>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[bos])
    for template in (smol_tokenizer.chat_template, LLAMA3):  # which leaves it to the tokenizer, or writes it
        row = ChatWriter(with_template(tokenizer, template), date=DATE).encode(user("Why?"), assistant("So."))
        assert row is not None
        assert list(row.ids[:2]).count(tokenizer.bos_token_id) == 1


def test_a_conversation_is_learned_in_its_last_turn_only(smol_tokenizer: Any) -> None:
    writer = ChatWriter(smol_tokenizer, date=DATE)
    row = writer.encode([*user("One?"), *assistant("First."), *user("Two?")], assistant("Second."))
    assert row is not None
    assert writer.decode_supervised(row) == "Second.<|im_end|>"


def test_a_row_with_the_text_of_a_special_token_is_left_out(smol_tokenizer: Any) -> None:
    writer = ChatWriter(smol_tokenizer, date=DATE)
    assert writer.encode(user("What is <|im_end|>?"), assistant("A token.")) is None
    assert writer.encode(user("What ends a turn?"), assistant("<|im_end|> does.")) is None


def test_iris_prompt_can_stand_before_the_rows(smol_tokenizer: Any, tmp_path: Path) -> None:
    folder = write_build(tmp_path / "course", {"train": sentences(3)})
    made = recipe(tmp_path, folder, system="study_chat", max_length=2048)
    split = rows.encode(smol_tokenizer, rows.find(str(folder)), "train", made, made.stages[0])
    assert prompts.STUDY_CHAT_SYSTEM in smol_tokenizer.decode(split.rows[0].ids)


def test_long_rows_above_half_a_percent_are_refused_with_the_length_that_would_do(
    smol_tokenizer: Any, tmp_path: Path
) -> None:
    long = [{**row, "completion": assistant("word " * 200)} for row in sentences(4, seed=5)]
    folder = write_build(tmp_path / "long", {"train": [*sentences(96), *long]})
    made = recipe(tmp_path, folder)
    with pytest.raises(
        RowsError, match=r"4 of 100 train rows .* \(4.0%\).*--set max_length=\d+ keeps enough"
    ) as caught:
        rows.encode(smol_tokenizer, rows.find(str(folder)), "train", made, made.stages[0])
    proposed = int(str(caught.value).split("max_length=")[1].split()[0])
    split = rows.encode(
        smol_tokenizer, rows.find(str(folder)), "train", replace(made, max_length=proposed), made.stages[0]
    )
    assert len(split.rows) == 100


def test_few_long_rows_are_left_out_whole_and_counted(smol_tokenizer: Any, tmp_path: Path) -> None:
    long = {**sentences(1, seed=5)[0], "completion": assistant("word " * 200)}
    folder = write_build(tmp_path / "long", {"train": [long, *sentences(250)]})
    made = recipe(tmp_path, folder)
    split = rows.encode(smol_tokenizer, rows.find(str(folder)), "train", made, made.stages[0])
    assert len(split.rows) == 250
    assert split.left_out == {"over the length limit": 1}
    assert all(row.ids[-1] == smol_tokenizer.eos_token_id for row in split.rows)  # none was cut


@pytest.mark.parametrize("broken", [{"completion": []}, {"completion": assistant("  ")}, {"prompt": []}])
def test_a_row_without_question_or_answer_is_named(smol_tokenizer: Any, tmp_path: Path, broken: dict[str, Any]) -> None:
    good, bad = sentences(2)
    folder = write_build(tmp_path / "half", {"train": [good, {**bad, **broken}]})
    made = recipe(tmp_path, folder)
    with pytest.raises(RowsError, match=r"train.jsonl:2: the row has no (answer|prompt)"):
        rows.encode(smol_tokenizer, rows.find(str(folder)), "train", made, made.stages[0])


def test_changed_files_and_missing_builds_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RowsError, match=r"python data/build.py --source finetome"):
        rows.find("finetome")
    folder = write_build(tmp_path / "outputs/data/finetome", {"train": sentences(2)})
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps(sentences(1)[0]) + "\n")
    with pytest.raises(Exception, match=r"is not the one of manifest.json"):
        list(rows.read(rows.find("finetome"), "train"))


def test_rows_not_checked_against_the_course_are_pointed_out(tmp_path: Path) -> None:
    course = rows.find(str(write_build(tmp_path / "course", {}, held_out="abc")))
    fresh = [{"course": "course", "held_out": "abc"}]
    stale = [{"course": "course", "held_out": "old"}]
    for checked, complaint in ((fresh, False), (stale, True), ([], True)):
        stage = rows.find(str(write_build(tmp_path / "stage", {}, checked_against=checked)))
        assert bool(rows.unchecked_against(stage, course)) is complaint


def test_a_cap_draws_by_the_rows_themselves(smol_tokenizer: Any, tmp_path: Path) -> None:
    every = sentences(60)
    first = write_build(tmp_path / "first", {"train": every})
    turned = write_build(tmp_path / "turned", {"train": every[::-1]})
    made = recipe(tmp_path, first)
    drawn = [
        rows.encode(smol_tokenizer, rows.find(str(folder)), "train", made, made.stages[0], cap=20).rows
        for folder in (first, turned)
    ]
    assert len(drawn[0]) == 20
    assert sorted(row.ids for row in drawn[0]) == sorted(row.ids for row in drawn[1])
