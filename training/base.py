"""From the id of a base model to weights in memory: the folder, its fingerprint, the tokenizer, the quantized model."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import files
from iris import catalog, settings
from training.errors import BaseError
from training.recipes import Base, Recipe

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_VERSION = 2  # of how a GGUF is turned into a folder; a new number makes the folders anew


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A base model at hand.

    ``location`` is a folder or a Hub id; ``revision`` the Hub commit, or the sha256 of the file it was made from.
    """

    base: Base
    location: str
    revision: str

    @property
    def identity(self) -> dict[str, str]:
        """What names these weights for good, for run.json and the adapter's lineage."""
        return {
            "id": self.base.id,
            "source": self.base.source,
            "revision": self.revision,
            "licence": self.base.licence or "not known",
        }


def locate(base: Base) -> BaseFiles:
    """Find the base, dequantizing a GGUF of the catalog on first use.

    Raises:
        BaseError: it is gated and this machine has no access, cannot be reached, or does not exist.
    """
    if base.source.startswith("catalog:"):
        path = catalog.resolve(base.source.removeprefix("catalog:")).path
        return BaseFiles(base, str(dequantized(path)), f"sha256:{files.sha256(path)}")
    folder = Path(base.source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BaseError(f"{folder} is no model folder: it has no config.json.")
        return BaseFiles(base, str(folder), _fingerprint(folder))
    return BaseFiles(base, base.source, _commit(base))


def dequantized(gguf: Path) -> Path:
    """A Hugging Face folder with the weights of ``gguf`` in float32, made once under the state folder.

    Float32 holds every value that the GGUF's blocks can express; a smaller type would move the base away from the
    file that is served.

    Raises:
        BaseError: transformers cannot read this GGUF, or the folder cannot be written.
    """
    folder = settings.home() / "bases" / f"{gguf.stem}-{files.sha256(gguf)[:12]}-v{_VERSION}"
    if (folder / "config.json").is_file():
        return folder
    settings.writable_home()
    beside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        _dequantize(gguf, beside)
        os.replace(beside, folder)
    except OSError as error:
        if (folder / "config.json").is_file():  # another process was faster
            return folder
        raise BaseError(
            f"{gguf.name} could not be unpacked to {folder} ({error.strerror or error}). It needs about "
            f"{8 * gguf.stat().st_size >> 20:,} MB there; IRIS_HOME moves it to another disk."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def tokenizer_in(gguf: Path) -> Any:
    """The tokenizer that a GGUF carries, which gives the token ids that llama.cpp gives."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    reader: Any = GGUFReader(gguf)
    rules = reader.get_field("tokenizer.ggml.pre")
    if rules is not None and rules.contents() == "smollm":
        # transformers (5.23) does not read this field, and would cut numbers and the spaces before them differently.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return tokenizer


def _dequantize(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    _no_bars()
    try:
        tokenizer = tokenizer_in(gguf)
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (ValueError, KeyError, ImportError) as error:
        raise BaseError(f"{gguf.name} cannot be read by transformers: {error}") from error
    # The loader leaves the model marked as quantized, which it no longer is; such a model refuses to be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    if tokenizer.pad_token_id == tokenizer.eos_token_id and tokenizer.unk_token is not None:
        # With pad == eos every end of turn would look like padding to whoever masks padding by its id.
        tokenizer.pad_token = tokenizer.unk_token
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config._name_or_path = gguf.stem
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tokenizer_of(found: BaseFiles) -> PreTrainedTokenizerBase:
    """The tokenizer, with a chat template and a padding token of its own.

    Raises:
        BaseError: the base has no chat template, so it is no chat model.
    """
    from transformers import AutoTokenizer

    with access(found.base):
        tokenizer: Any = AutoTokenizer.from_pretrained(found.location, **_pinned(found))
    if not tokenizer.chat_template:
        raise BaseError(f"{found.base.id} has no chat template. Take its instruct or chat variant as the base.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def config_of(found: BaseFiles) -> PretrainedConfig:
    """The model's configuration, without its weights."""
    from transformers import AutoConfig

    with access(found.base):
        config: Any = AutoConfig.from_pretrained(found.location, **_pinned(found))
    return config


def model_of(found: BaseFiles, recipe: Recipe) -> PreTrainedModel:
    """The model for this process: NF4 with double quantization for QLoRA, else in ``compute_dtype``."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from training import cpu

    _no_bars()
    # Weights that are themselves trained stay in float32, where small updates are not rounded away.
    dtype = torch.float32 if recipe.method == "full" else compute_dtype(recipe)
    options: dict[str, Any] = {"dtype": dtype, **_pinned(found)}
    if recipe.method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        if torch.cuda.is_available():  # 4-bit weights cannot be moved later: each process loads onto its own device
            options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    with access(found.base):
        model: Any = AutoModelForCausalLM.from_pretrained(found.location, **options)
    for layer in model.modules():
        # On CPUs with AVX-512 BF16, bitsandbytes turns the weights of a 4-bit layer into an inference format the first
        # time it runs in eval mode, and stays with it: after one validation no gradient would pass through any more.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    model.config.use_cache = False
    cpu.give_back()  # what loading took besides
    return model


def compute_dtype(recipe: Recipe) -> Any:
    """The torch type that a step multiplies in, and that frozen weights are held in.

    bfloat16 for QLoRA and on devices that multiply it natively; float32 elsewhere, where bfloat16 would be emulated.
    """
    import torch

    if recipe.method == "qlora":
        return torch.bfloat16
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


class access:
    """Turns what the Hub says about a base into an error that names the remedy."""

    def __init__(self, base: Base) -> None:
        self._base = base

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

        if not isinstance(error, OSError | HfHubHTTPError):
            return
        causes = list(_chain(error))
        page = f"https://huggingface.co/{self._base.source}"
        if any(isinstance(cause, GatedRepoError) or _status(cause) in (401, 403) for cause in causes):
            raise BaseError(
                f"{self._base.source} is gated. Accept its licence on {page} with your account, then set HF_TOKEN to "
                "a token of that account (https://huggingface.co/settings/tokens). Without it, --base smollm2-135m "
                "trains here."
            ) from error
        offline = any(isinstance(cause, LocalEntryNotFoundError | ConnectionError) for cause in causes)
        why = "cannot be reached from here" if offline else "cannot be loaded"
        gate = f" It is gated: {page} must be accepted and HF_TOKEN set." if self._base.gated else ""
        raise BaseError(
            f"{self._base.source} {why}: {str(error).splitlines()[0]}{gate} --base takes a local folder or another "
            "model; --base smollm2-135m is always there."
        ) from error


def _no_bars() -> None:
    """Loading takes seconds; its bars would be cut through by those of the training."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in found:
        found.append(step)
        step = step.__cause__ or step.__context__
    return found


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _pinned(found: BaseFiles) -> dict[str, str]:
    return {} if Path(found.location).is_dir() else {"revision": found.revision}


def _commit(base: Base) -> str:
    """The commit that ``base.revision`` names now, from the Hub or, without network, from its cache."""
    from huggingface_hub import hf_hub_download

    with access(base):
        path = Path(hf_hub_download(base.source, "config.json", revision=base.revision))
    return path.parent.name  # …/snapshots/<commit>/config.json


def _fingerprint(folder: Path) -> str:
    """Of a local folder: the sha256 over its configuration and the headers of its weights.

    A safetensors header names every tensor with its type, shape and place; hashing gigabytes at every start would cost
    more than it proves.
    """
    import hashlib

    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(size, 64 << 20)))
            digest.update(file.read(1 << 20))  # and the first weights, which tell two trainings of one shape apart
            digest.update(json.dumps([path.name, path.stat().st_size]).encode())
    return f"sha256:{digest.hexdigest()}"
