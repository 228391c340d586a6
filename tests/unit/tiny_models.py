"""Tiny random models of every architecture that is exported, with small tokenizers of the kinds that those have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WIDTH, LAYERS = 256, 2  # K-quants need rows of 256
LLAMA3_RULES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ZEPHYR_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

KINDS = ("llama3", "smollm2", "tinyllama", "gemma2", "phi3")


def corpus() -> Iterator[str]:
    """The course's notes, line by line."""
    notes = Path(__file__).parents[2] / "data/courses/id2223/notes"
    for path in sorted(notes.glob("*.md")):
        yield from path.read_text(encoding="utf-8").splitlines()


def build(kind: str, folder: Path, *, seed: int = 1, dtype: str = "bfloat16", **changes: Any) -> Path:
    """A Hugging Face folder with a random model of ``kind``; ``changes`` go into its config."""
    import torch
    from transformers import AutoModelForCausalLM

    folder.mkdir(parents=True)
    about = tokenizer(kind, folder)
    config = _config(kind, about, changes)
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    for name, weight in model.named_parameters():
        if weight.ndim == 1:  # norms, which a new model has as all ones (Gemma: zeros)
            weight.data += 0.2 * torch.randn_like(weight)
        elif "embed" in name and kind != "gemma2":  # which multiplies its embeddings itself
            weight.data *= (
                3 if config.tie_word_embeddings else 12
            )  # a strong residual stream, so that predictions are sure of something
    model.save_pretrained(folder)
    return folder


def _config(kind: str, about: dict[str, Any], changes: dict[str, Any]) -> Any:
    import transformers

    common = {
        "vocab_size": about["size"],
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.05,
        "bos_token_id": about["bos"],
        "eos_token_id": about["eos"],
        "pad_token_id": about["pad"],
    }
    if kind == "llama3":
        common["rope_parameters"] = {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,  # so that the scaling shows within a short text
        }
    if kind in ("llama3", "smollm2"):
        common["tie_word_embeddings"] = True
    if kind == "gemma2":
        common |= {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 2048}
    if kind == "phi3":
        common |= {"sliding_window": 2047, "original_max_position_embeddings": 2048}
    classes = {"gemma2": transformers.Gemma2Config, "phi3": transformers.Phi3Config}
    return classes.get(kind, transformers.LlamaConfig)(**(common | changes))


def tokenizer(kind: str, folder: Path) -> dict[str, Any]:
    """Write a tokenizer of ``kind`` to ``folder``; its size and special ids."""
    return {
        "llama3": _llama3,
        "smollm2": _smollm2,
        "tinyllama": _sentencepiece,
        "gemma2": _sentencepiece,
        "phi3": _sentencepiece,
    }[kind](kind, folder)


def _byte_level(folder: Path, before: Any, specials: list[str], names: dict[str, str], template: str, bos: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(ignore_merges=bos))
    made.pre_tokenizer = before
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(corpus(), trainer)
    made.add_special_tokens(specials)
    if bos:
        start = names["bos_token"]
        made.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(
                    single=f"{start} $A",
                    pair=f"{start} $A {start}:1 $B:1",
                    special_tokens=[(start, made.token_to_id(start))],
                ),
            ]
        )
    fast = PreTrainedTokenizerFast(tokenizer_object=made, chat_template=template, **names)
    fast.save_pretrained(folder)
    ids = {name.removesuffix("_token"): made.token_to_id(text) for name, text in names.items()}
    return {"size": made.get_vocab_size(), "pad": None, **ids}


def _llama3(kind: str, folder: Path) -> dict[str, Any]:
    from tokenizers import Regex, pre_tokenizers

    before = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_RULES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    return dict(_byte_level(folder, before, specials, names, LLAMA3_TEMPLATE, bos=True))


def _smollm2(kind: str, folder: Path) -> dict[str, Any]:
    from tokenizers import pre_tokenizers

    before = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    names["pad_token"] = "<|im_end|>"
    return dict(_byte_level(folder, before, specials, names, CHATML_TEMPLATE, bos=False))


def _sentencepiece(kind: str, folder: Path) -> dict[str, Any]:
    """A model trained by the sentencepiece package, as transformers converts it, with the kind's added tokens."""
    import sentencepiece
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    gemma = kind == "gemma2"
    order: dict[str, Any] = (
        {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3} if gemma else {"unk_id": 0, "bos_id": 1, "eos_id": 2}
    )
    pieces: dict[str, Any] = {"pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>"} if gemma else {}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=700,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.9995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=not gemma,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
        **order,
        **pieces,
    )
    (folder / "tokenizer.vocab").unlink()
    config: dict[str, Any] = {"tokenizer_class": "GemmaTokenizer" if gemma else "LlamaTokenizer"}
    if not gemma:
        config |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    made: Any = AutoTokenizer.from_pretrained(folder)
    if gemma:
        made.add_tokens([AddedToken(t, special=True, normalized=False) for t in ("<start_of_turn>", "<end_of_turn>")])
        made.chat_template = GEMMA_TEMPLATE
    elif kind == "phi3":
        names = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
        made.add_tokens([AddedToken(t, special=True, normalized=False, rstrip=t != "<|endoftext|>") for t in names])
        made.chat_template = PHI3_TEMPLATE
    else:
        made.chat_template = ZEPHYR_TEMPLATE
    made.save_pretrained(folder)
    _as_published(kind, folder)
    size = (len(made) + 15) // 16 * 16  # an embedding is often a little larger than its tokenizer
    return {"size": size, "bos": made.bos_token_id, "eos": made.eos_token_id, "pad": made.pad_token_id}


def _as_published(kind: str, folder: Path) -> None:
    """tokenizer.json as those models have it: a space before the text after every special token (Llama's kind), and a
    BOS in front. transformers 5 would write another normalizer, which llama.cpp has no equal of."""
    path = folder / "tokenizer.json"
    about = json.loads(path.read_text())
    if kind != "gemma2":
        steps = [{"type": "Prepend", "prepend": "▁"}]
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})  # type: ignore[dict-item]
        about["normalizer"], about["pre_tokenizer"] = {"type": "Sequence", "normalizers": steps}, None
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if kind != "phi3":
        start = "<bos>" if kind == "gemma2" else "<s>"
        number = about["model"]["vocab"][start]
        about["post_processor"] |= {
            "single": [{"SpecialToken": {"id": start, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {start: {"id": start, "ids": [number], "tokens": [start]}},
        }
    for token in about["added_tokens"]:
        token["rstrip"] |= kind == "phi3" and token["content"] == "</s>"
    path.write_text(json.dumps(about))


def adapt(base: Path, folder: Path, *, seed: int = 2, scale: float = 0.05, **options: Any) -> Path:
    """A LoRA adapter for the model in ``base``, its B filled with noise, as peft saves it."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    chosen = {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
        **options,
    }
    torch.manual_seed(seed)
    adapted: Any = peft.get_peft_model(model, peft.LoraConfig(**chosen))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "lora_magnitude" in name:
            weight.data += scale * torch.randn_like(weight)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder
