"""The original: transformers and peft in float32, loaded without any of the code that writes the GGUF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import SourceError
from export.shards import Floats
from export.sources import Source
from iris.engine import Message
from iris.engine.template import DATE


class Reference:
    """The merged model and its tokenizer.

    Raises:
        SourceError: transformers or peft cannot load them.
    """

    def __init__(self, source: Source) -> None:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            self._tokenizer = _tokenizer(source.base)
            self._model = _model(source)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise SourceError(f"transformers cannot load the original: {str(error).splitlines()[0]}") from error

    @property
    def special(self) -> list[str]:
        """The spellings of all special tokens."""
        return [token.content for token in self._tokenizer.added_tokens_decoder.values()]

    def text(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text; ``special`` reads ``<|im_end|>`` and the like as tokens, which is the default there."""
        return list(self._tokenizer(text, split_special_tokens=not special)["input_ids"])

    @property
    def has_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation through the original's template, up to where the answer begins.

        With one BOS in front if the tokenizer puts one before texts, whether or not the template prints it.
        """
        ids = list(self._templated(messages, tokenize=True))
        first = [self.bos] if self.adds_bos and self.bos is not None else []
        return ids if ids[: len(first)] == first else first + ids

    def end_of_turn(self) -> list[int]:
        """The special tokens that follow an answer in a conversation, up to the next text."""
        probe = "iris-answer"
        turns = [Message("user", "u"), Message("assistant", probe), Message("user", "u")]
        after = str(self._templated(turns, tokenize=False)).partition(probe)[2]
        ids = self._tokenizer(after.lstrip(), add_special_tokens=False)["input_ids"]
        return list(ids[:1])

    def _templated(self, messages: Sequence[Message], *, tokenize: bool) -> Any:
        rows = [{"role": message.role, "content": message.content} for message in messages]
        options: dict[str, Any] = {"return_dict": False} if tokenize else {}
        return self._tokenizer.apply_chat_template(
            rows, add_generation_prompt=True, tokenize=tokenize, date_string=DATE.strftime("%d %b %Y"), **options
        )

    def takes_system(self) -> bool:
        """Whether the template knows a system role."""
        from jinja2 import TemplateError

        try:
            return "iris-probe" in self._templated(
                [Message("system", "iris-probe"), Message("user", "u")], tokenize=False
            )
        except TemplateError:
            return False

    @property
    def bos(self) -> int | None:
        return self._tokenizer.bos_token_id  # type: ignore[no-any-return]

    @property
    def adds_bos(self) -> bool:
        """Whether a text of its own begins with a BOS."""
        return self.bos is not None and self.text("a", special=True)[:1] == [self.bos]

    def logits(self, ids: Sequence[int]) -> Floats:
        """What the model expects after each token, shape (tokens, vocabulary)."""
        import torch

        with torch.inference_mode():
            logits = self._model(torch.tensor([list(ids)])).logits[0].float().numpy()
        return np.asarray(logits, np.float32)


def _tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    if base.is_dir():
        return AutoTokenizer.from_pretrained(base)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.parent, gguf_file=base.name)
    if _pre_tokenizer(base) == "smollm":
        # transformers (5.23) does not read this entry, and would cut numbers and the spaces before them differently.
        from tokenizers import pre_tokenizers

        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return tokenizer


def _pre_tokenizer(path: Path) -> str:
    import gguf

    reader: Any = gguf.GGUFReader(path)
    field = reader.fields.get("tokenizer.ggml.pre")
    return str(field.contents()) if field else ""


def _model(source: Source) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    if source.base.is_dir():
        model: Any = AutoModelForCausalLM.from_pretrained(source.base, dtype=torch.float32)
    else:
        name = source.base.name
        model = AutoModelForCausalLM.from_pretrained(source.base.parent, gguf_file=name, dtype=torch.float32)
    if source.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(source.adapter)).merge_and_unload()
    return model.eval()
