"""A text that is written by the checkpoint's own language-model head, which stays frozen.

The model may be a decoder, which reads the prompt and goes on with the completion, or an encoder and a decoder. A task
does not know which until it meets the model, so that batches hold prompt and target apart.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config import FIELDS, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.data.rows import Row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import answer_faults, empty_faults, option_faults
from pipeline.core.tasks.model import TaskModel, left_aligned, positions, starts
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer, Batch, Encoded, Example, Output, Task
from pipeline.core.tasks.tensors import cross_entropy, of_examples, owners, pad, to_arrays, width_of
from pipeline.errors import CheckpointError, ConfigError, Fault, PipelineError, fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@final
class Generation(Task):
    """Cross-entropy over the completion's sub-tokens; answers are decoded greedily or by beam search.

    Prompt and completion are templates over the row's fields. `shares` holds the commonest completion of the training
    rows alone.
    """

    pipeline_tag = "text-generation"

    @property
    def answers_untrained(self) -> bool:
        return True  # by its own language-model head

    @classmethod
    def from_rows(cls, config: TaskConfig, rows: Sequence[Row]) -> Self:
        counts = Counter(render(config.completion, row) for row in rows)
        commonest = _commonest(counts)
        return cls(config, shares={commonest: counts[commonest] / len(rows)})

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        """Check every field that is there; which of them is the target does not matter."""
        texts = (name for name, wanted in FIELDS["generation"].items() if wanted is str)
        yield from empty_faults(row, *(name for name in texts if name in row.fields))
        if "options" in row.fields:
            yield from option_faults(row)
        if "answer" in row.fields:
            yield from answer_faults(row)

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        """Nothing that was not checked above."""
        yield from ()

    def unfit(self, checkpoint: Checkpoint) -> Iterator[Fault]:
        """It needs a language-model head, and its metric may not be installed."""
        where = f"task.{self.config.name}"
        if not checkpoint.has_lm_head:
            rule = f"is a task of generation, and {checkpoint.config.name} ({checkpoint.model_type}) cannot write"
            remedy = "Use a checkpoint that was saved with its language-model head, such as a T5, BART or GPT"
            yield fault(where, "", rule, remedy)
        if self.config.primary == "chrf" and not metrics.has_chrf():
            yield fault(f"{where}.metric", "chrf", "needs sacrebleu", f"Install it, or set {where}.metric=exact_match")

    @property
    def decoding(self) -> tuple[int, int]:
        return self.config.beams, self.config.max_new_tokens

    def truncation(self, tokenizer: "PreTrainedTokenizerBase") -> str:
        longest = self.config.max_new_tokens
        return f"truncated to {self.limit(tokenizer) - longest} sub-tokens of prompt and {longest} of completion"

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Tokenise prompts and completions; of a long prompt the beginning is cut, of a long completion the end.

        Raises:
            ConfigError: A completion of `max_new_tokens` leaves no room for a prompt.
            CheckpointError: The tokenizer has no token that ends a text.
        """
        longest = self.config.max_new_tokens
        room = self.limit(tokenizer) - longest  # the same in training as when the completion is still to be written
        if room <= tokenizer.num_special_tokens_to_add():
            rule = (
                f"leaves no room for a prompt in the {room + longest} sub-tokens that max_length and checkpoint allow"
            )
            where, remedy = f"task.{self.config.name}.max_new_tokens", "Lower it, or raise max_length if that is lower"
            raise ConfigError(fault(where, longest, rule, remedy))
        prompts = tokenizer(
            [render(self.config.prompt, row) for row in rows], return_special_tokens_mask=True, verbose=False
        )
        end, targets = self._targets(rows, tokenizer)
        examples: list[Example] = []
        truncated: set[int] = set()
        for i in range(len(rows)):
            ids, target = prompts["input_ids"][i], targets.get(i, [])
            prompt = _without_beginning(ids, prompts["special_tokens_mask"][i], len(ids) - room)
            example = {"row": i, "prompt": prompt, "end": end}
            if target:
                example["target"] = target[:longest]
            example["length"] = len(prompt) + len(target[:longest])
            examples.append(example)
            if len(prompt) < len(ids) or len(target) > longest:
                truncated.add(i)
        return Encoded(examples=examples, num_rows=len(rows), truncated=frozenset(truncated), tokenizer=tokenizer)

    def _targets(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> tuple[int, dict[int, list[int]]]:
        """The token that ends a completion, and the sub-tokens of those that are there, by the number of their row.

        Raises:
            CheckpointError: The tokenizer has no such token.
        """
        any_text = tokenizer("a", return_special_tokens_mask=True)
        is_closed = bool(any_text["special_tokens_mask"][-1])  # T5, BART; decoders begin texts at most
        end = any_text["input_ids"][-1] if is_closed else tokenizer.eos_token_id
        if end is None:
            rule = "has a tokenizer without an end-of-text token: what it writes would never end"
            remedy = "Set tokenizer.eos_token, and save it into the checkpoint's folder"
            raise CheckpointError(fault("checkpoint", tokenizer.name_or_path, rule, remedy))
        there = [i for i, row in enumerate(rows) if self.target in row.fields]
        if not there:
            return end, {}
        texts = [render(self.config.completion, rows[i]) for i in there]
        ids = tokenizer(texts, add_special_tokens=is_closed, verbose=False)["input_ids"]
        return end, {i: one if is_closed else [*one, end] for i, one in zip(there, ids, strict=True)}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """`prompt_ids`, padded on the left, `target_ids`, padded on the right, their masks, and `end`, (1); and where
        the N sub-tokens of the targets are: `example_of` and `places` in it."""
        batch = {**of_examples(examples), "end": torch.tensor([examples[0]["end"]])}
        turned = [example["prompt"][::-1] for example in examples]
        width = width_of(examples)
        batch["prompt_ids"] = pad(turned, pad_token_id, width).flip(1)
        batch["prompt_mask"] = pad([[1] * len(one) for one in turned], 0, width).flip(1)
        if all("target" in example for example in examples):
            targets = [example["target"] for example in examples]
            batch["target_ids"] = pad(targets, pad_token_id)
            batch["target_mask"] = pad([[1] * len(one) for one in targets], 0)
            batch["example_of"] = owners([len(one) for one in targets])
            batch["places"] = torch.cat([torch.arange(len(one)) for one in targets])
        return batch

    def head(self, hidden_size: int, dropout: float) -> nn.Module:
        """Nothing: the language-model head is the checkpoint's."""
        return nn.Identity()

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        where = batch["example_of"], batch["places"]
        labels_N = batch["target_ids"][where]
        return cross_entropy(target_logits(model, batch).float()[where], labels_N, batch), len(labels_N)

    @torch.no_grad()
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """The sub-tokens that are written before the end, (sub-tokens,) each; float32 holds them exactly below 2^24."""
        from transformers import GenerationConfig

        ids_BP, mask_BP, end = batch["prompt_ids"], batch["prompt_mask"], int(batch["end"])
        # What is None here is taken from `model.base.generation_config`, which `build_base` has emptied.
        settings: dict[str, Any] = {
            "do_sample": False,
            "num_beams": self.config.beams,
            "max_new_tokens": self.config.max_new_tokens,
            "eos_token_id": end,
            "pad_token_id": end,  # behind the end, where nothing is read
            "use_cache": True,
        }
        num_before = ids_BP.shape[1]
        if model.anatomy.kind == "encoder-decoder":
            ids_BP, mask_BP = left_aligned(ids_BP, mask_BP)
            settings["decoder_start_token_id"] = starts(model.base.config, ids_BP, mask_BP)[:, 0].tolist()
            num_before = 1
        written_BN = model.base.generate(
            input_ids=ids_BP, attention_mask=mask_BP, generation_config=GenerationConfig(**settings)
        )[:, num_before:]
        is_end_BN = written_BN == end
        sizes_B = torch.where(is_end_BN.any(1), is_end_BN.int().argmax(1), written_BN.shape[1])
        is_kept_BN = torch.arange(written_BN.shape[1], device=written_BN.device) < sizes_B[:, None]
        return to_arrays(written_BN[is_kept_BN], sizes_B.tolist())

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"text": what was written}`."""
        tokenizer = encoded.tokenizer
        assert tokenizer is not None, "generation encodes with its tokenizer"
        ids = [output.astype(np.int64).tolist() for output in outputs]
        as_written = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return [{"text": tokenizer.decode(one, **as_written).strip()} for one in ids]

    @classmethod
    def parts(cls, row: Row, answer: Answer) -> list[dict[str, Any]]:
        """`[{generated_text}]`."""
        return [{"generated_text": answer["text"]}]

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Exact match, and chrF where sacrebleu is installed; the baseline is the commonest completion.

        That is the training rows', or in a restored task the scored rows' own.

        Raises:
            PipelineError: The task is scored by chrF, and sacrebleu is not installed.
        """
        gold = [render(self.config.completion, row).strip() for row in rows]
        commonest = [_commonest(self.shares or Counter(gold)).strip()] * len(gold)
        said = [answer["text"].strip() for answer in answers]
        values = {"exact_match": [float(one == wanted) for one, wanted in zip(said, gold, strict=True)]}
        constant = [float(one == wanted) for one, wanted in zip(commonest, gold, strict=True)]
        if metrics.has_chrf():
            values["chrf"] = metrics.chrf(said, gold)
        if self.config.primary == "chrf":
            if "chrf" not in values:
                raise PipelineError(f"task {self.config.name} is scored by chrf: install sacrebleu, or set its metric")
            constant = metrics.chrf(commonest, gold)
        means = {name: float(np.mean(one)) for name, one in values.items()}
        counts = metrics.value_counts(values[self.config.primary])
        return self.scores(means, counts, metrics.mean_of, baseline=float(np.mean(constant)))


def render(template: str, row: Row) -> str:
    """Fill a template with the fields of a row: options as lines "A. first", "B. second", the answer as its letter."""
    shown: dict[str, object] = dict(row.fields)
    if "options" in shown:
        shown["options"] = "\n".join(f"{letter(i)}. {one}" for i, one in enumerate(row.fields["options"]))
    if "answer" in shown:
        shown["answer"] = letter(row.fields["answer"])
    return template.format_map(shown)


def letter(position: int) -> str:
    """A, B, C ... of an option."""
    return chr(ord("A") + position)


def target_logits(model: TaskModel, batch: Batch) -> Tensor:
    """What the model says at the place of each sub-token of the target, given all before it, (B, S, vocabulary)."""
    ids_BP, mask_BP = batch["prompt_ids"], batch["prompt_mask"]
    ids_BS, mask_BS = batch["target_ids"], batch["target_mask"]
    arguments: dict[str, Any]
    if model.anatomy.kind == "encoder-decoder":
        ids_BP, mask_BP = left_aligned(ids_BP, mask_BP)
        start_B1 = starts(model.base.config, ids_BP, mask_BP)
        arguments = {"input_ids": ids_BP, "attention_mask": mask_BP}
        arguments["decoder_input_ids"] = torch.cat([start_B1, ids_BS[:, :-1]], dim=1)
        arguments["decoder_attention_mask"] = mask_BS  # the start is seen too: every target has a sub-token
        return cast(Tensor, model.base(**arguments, use_cache=False).logits)
    mask_BT = torch.cat([mask_BP, mask_BS], dim=1)
    arguments = {"input_ids": torch.cat([ids_BP, ids_BS], dim=1), "attention_mask": mask_BT}
    if model.anatomy.positions:
        arguments["position_ids"] = positions(mask_BT)
    # Only where a target's sub-token is next: a vocabulary of 50,000 is most of the work and of the memory.
    logits_BSV = model.base(**arguments, use_cache=False, logits_to_keep=ids_BS.shape[1] + 1).logits
    return cast(Tensor, logits_BSV[:, :-1])


def _commonest(counts: Mapping[str, float]) -> str:
    return min(counts, key=lambda text: (-counts[text], text))


def _without_beginning(ids: Sequence[int], is_special: Sequence[int], excess: int) -> list[int]:
    """Cut sub-tokens from the beginning of a text, behind the special tokens that it opens with."""
    if excess <= 0:
        return list(ids)
    num_opening = next((i for i, special in enumerate(is_special) if not special), len(ids))
    num_text = len(ids) - sum(is_special)
    return [*ids[:num_opening], *ids[num_opening + min(excess, num_text) :]]
