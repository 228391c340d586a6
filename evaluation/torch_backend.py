"""A Hugging Face model, with a LoRA merged into it if there is one: the weights as they left training.

Probabilities and answers are computed for several texts at once, padded; the answer's next token is chosen as the
engine chooses it at temperature 0, with the same penalty over the same window.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from evaluation.backends import Generated, Request, Scored, inside
from evaluation.errors import TargetError
from evaluation.targets import Target
from iris.engine import Message, Sampling
from iris.engine.template import ChatTemplate
from iris.errors import IrisError

ROWS = 8
"""Answers written at the same time."""
TOKENS = 2048
"""Tokens that are scored at the same time: each takes a row of logits as wide as the vocabulary."""


class TorchBackend:
    """See ``evaluation.backends.Backend``. Computes in bfloat16 where the processor multiplies it, else in float32.

    Raises:
        TargetError: transformers or peft cannot load it, or its tokenizer has no chat template.
    """

    def __init__(self, target: Target, *, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        started = time.perf_counter()
        try:
            self.tokenizer, self.model = _load(target)
        except IrisError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise TargetError(f"{target.name} cannot be loaded: {str(error).splitlines()[0]}") from error
        self.load_s = time.perf_counter() - started
        source = self.tokenizer.chat_template
        if not source:
            raise TargetError(
                f"{target.name} has no chat template, so it cannot be asked anything. Take an instruction-tuned one."
            )
        bos = self.tokenizer.bos_token_id
        adds = bos is not None and self.tokenizer("a")["input_ids"][:1] == [bos]
        self._template = ChatTemplate(
            source,
            bos=self.tokenizer.bos_token or "",
            eos=self.tokenizer.eos_token or "",
            tokenize=lambda text, special: self._ids(text, special=special),
            bos_token=bos if adds else None,
        )
        self._ends = _ends(self.model, self.tokenizer)
        self._exact = False

    def _ids(self, text: str, *, special: bool) -> list[int]:
        found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        return list(found["input_ids"])

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return self._template.encode(messages)

    def plain(self, text: str) -> list[int]:
        return inside(lambda part: self._ids(part, special=False), text)

    @property
    def first(self) -> list[int]:
        bos = self.tokenizer.bos_token_id
        return [bos if bos is not None else self.tokenizer.eos_token_id]

    def score(self, requests: Sequence[Request]) -> list[list[Scored]]:
        if not self._exact:
            _exact_head(self.model)
            self._exact = True
        pairs = [(n, m) for n, request in enumerate(requests) for m in range(len(request.following))]
        # Texts of like length together, so that little is padded.
        sizes = {(n, m): len(requests[n].prompt) + len(requests[n].following[m]) for n, m in pairs}
        pairs.sort(key=lambda pair: sizes[pair])
        found: list[list[Scored]] = [[Scored((), ())] * len(request.following) for request in requests]
        while pairs:
            count = max(1, min(len(pairs), TOKENS // sizes[pairs[-1]]))
            chosen, pairs = pairs[-count:], pairs[:-count]
            scored = self._score([(requests[n].prompt, requests[n].following[m]) for n, m in chosen])
            for (n, m), result in zip(chosen, scored, strict=True):
                found[n][m] = result
        return found

    def _score(self, texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Scored]:
        import torch

        width = max(len(prompt) + len(following) - 1 for prompt, following in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (prompt, following) in enumerate(texts):
            whole = torch.tensor((*prompt, *following[:-1]))
            ids[row, : len(whole)] = whole
            mask[row, : len(whole)] = 1
        with torch.inference_mode():
            hidden = self.model(ids, attention_mask=mask).logits
        results = []
        for row, (prompt, following) in enumerate(texts):
            logits = hidden[row, len(prompt) - 1 : len(prompt) - 1 + len(following)].float()
            wanted = torch.tensor(following)
            logprobs = logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(1)
            results.append(Scored(tuple(logprobs.tolist()), tuple(logits.argmax(1).tolist())))
        return results

    def generate(
        self, conversations: Sequence[Sequence[Message]], samplings: Sequence[Sampling]
    ) -> Iterator[tuple[int, Generated]]:
        ids = [self.encode(messages) for messages in conversations]
        order = sorted(range(len(ids)), key=lambda number: (samplings[number].max_tokens, len(ids[number])))
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            most = max(samplings[number].max_tokens for number in chosen)
            answers = self.continued([ids[number] for number in chosen], most, samplings[chosen[0]])
            for number, tokens in zip(chosen, answers, strict=True):
                limit = samplings[number].max_tokens
                stopped = len(tokens) < limit or (len(tokens) == limit and tokens[-1] in self._ends)
                kept = [token for token in tokens[:limit] if token not in self._ends]
                text = self.tokenizer.decode(kept, skip_special_tokens=True)
                yield number, Generated(text, len(kept), stopped)

    def continued(self, prompts: Sequence[Sequence[int]], most: int, sampling: Sampling) -> list[list[int]]:
        """At most ``most`` tokens after each prompt, up to the end of the turn, which is then the last of them.

        Raises:
            TargetError: the sampling draws by chance, which is the engine's own business.
        """
        import torch

        if sampling.temperature != 0.0:
            raise TargetError("PyTorch models are asked at temperature 0 only.")
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):  # padded on the left, so that all go on at the same place
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        answers: list[list[int]] = [[] for _ in prompts]
        cache: Any = None
        with torch.inference_mode():
            for _ in range(most):
                out = self.model(
                    ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
                )
                cache = out.past_key_values
                logits = out.logits[:, -1].float()
                for row, answer in enumerate(answers):
                    _penalize(logits[row], answer, sampling)
                chosen = logits.argmax(1)
                going = False
                for row, answer in enumerate(answers):
                    if not answer or answer[-1] not in self._ends:
                        answer.append(int(chosen[row]))
                        going |= answer[-1] not in self._ends
                if not going:
                    break
                ids = chosen[:, None]
                mask = torch.cat([mask, torch.ones(len(prompts), 1, dtype=mask.dtype)], 1)
                positions = positions[:, -1:] + 1
        return answers

    def timed(self, prompt: Sequence[int], following: Sequence[int]) -> tuple[float, float]:
        import torch

        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            times = []
            for _ in range(2):  # the first round compiles and caches kernels for this shape
                started = time.perf_counter()
                out = self.model(ids, use_cache=True, logits_to_keep=1)
                times.append(time.perf_counter() - started)
            cache = out.past_key_values
            started = time.perf_counter()
            for token in following:
                out = self.model(torch.tensor([[token]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
            return times[-1], time.perf_counter() - started

    def close(self) -> None:
        del self.model


def _exact_head(model: Any) -> None:
    """Let the head compute in float32: bfloat16 would round logits to sixteenths, and probabilities with them."""
    import torch

    head = model.get_output_embeddings()
    wide = torch.nn.Linear(head.in_features, head.out_features, bias=head.bias is not None)
    wide.weight.data = head.weight.data.float()
    if head.bias is not None:
        wide.bias.data = head.bias.data.float()
    wide.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    model.set_output_embeddings(wide)


def _penalize(logits: Any, answer: Sequence[int], sampling: Sampling) -> None:
    """llama.cpp's repeat penalty over the last tokens of the answer."""
    import torch

    recent = sorted(set(answer[-sampling.penalty_window :])) if sampling.penalty_window else []
    if recent and sampling.repeat_penalty != 1.0:
        found = logits[recent]
        logits[recent] = torch.where(found > 0, found / sampling.repeat_penalty, found * sampling.repeat_penalty)


def _load(target: Target) -> tuple[Any, Any]:
    import torch

    fast = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    if target.adapter is None:
        tokenizer, model = weights_of(target, fast)
        return tokenizer, model.eval()
    from peft import PeftModel

    # Merged in float32 and rounded then: else the sum would be rounded twice.
    tokenizer, model = weights_of(target, torch.float32)
    merged: Any = PeftModel.from_pretrained(model, str(target.adapter)).merge_and_unload()
    for weight in merged.parameters():  # the weights only: ``to`` would round the frequencies of the positions, too
        weight.data = weight.data.to(fast)
    return tokenizer, merged.eval()


def weights_of(target: Target, dtype: Any) -> tuple[Any, Any]:
    """Tokenizer and model, without the adapter."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    location: str = str(target.path)
    revision: dict[str, str] = {}
    if target.path is None:
        from training import base, recipes

        found = base.locate(recipes.find_base(target.base.removeprefix("catalog:")))
        location = found.location
        if not found.revision.startswith("sha256:"):
            revision = {"revision": found.revision}
    tokenizer: Any = AutoTokenizer.from_pretrained(location, **revision)
    model: Any = AutoModelForCausalLM.from_pretrained(location, dtype=dtype, **revision)
    return tokenizer, model


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer, by the generation settings and the tokenizer."""
    found = model.generation_config.eos_token_id
    several = found if isinstance(found, list) else [found]
    return frozenset(token for token in (*several, tokenizer.eos_token_id) if token is not None)
