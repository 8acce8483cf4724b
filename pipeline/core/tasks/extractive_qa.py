"""A span of a context that answers a question; contexts longer than the model are read window by window."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.data.rows import Row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import empty_faults, row_fault, shorten
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.task import Answer, Batch, Encoded, Example, Output, Scores, Task
from pipeline.core.tasks.tensors import cross_entropy, is_truncated, of_examples, pad_inputs, pieces, to_arrays
from pipeline.errors import Fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@final
class ExtractiveQA(Task):
    """Softmax over the context's sub-tokens for the answer's start, and another for its end.

    An example is a window: the question and a stretch of the context, neighbouring windows sharing `stride`
    sub-tokens. Besides the context, the first token is allowed: it is the target of windows without the
    answer, and takes their probability, so that spans of several windows can be compared.
    """

    pipeline_tag = "question-answering"

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        yield from empty_faults(row, "question", "context")

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        texts, starts = row.fields["answers"]["text"], row.fields["answers"]["answer_start"]
        context = row.fields["context"]
        if not texts or len(texts) != len(starts):
            rule = f"has {len(texts)} answer texts and {len(starts)} answer_starts"
            yield row_fault(row, "", rule, "Give at least one answer, and a start for each")
            return
        for text, start in zip(texts, starts, strict=True):
            if not text.strip():
                yield row_fault(row, text, "is an empty answer", "Copy the answer from the context")
            elif start < 0 or not context.startswith(text, start):
                found = context.find(text)
                there = shorten(context[start : start + len(text)]) if start >= 0 else ""
                rule = f"is not in the context at answer_start {start}, where {there!r} stands"
                remedy = f"Set answer_start to {found}" if found >= 0 else "Copy the answer from the context"
                yield row_fault(row, text, rule, remedy)

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Cut contexts into windows; a question is truncated to a quarter of the window, and counted."""
        limit = self.limit(tokenizer)
        questions, num_truncated = _clip([row.fields["question"] for row in rows], tokenizer, limit // 4)
        room = limit - limit // 4 - tokenizer.num_special_tokens_to_add(pair=True)
        encoded = tokenizer(
            questions,
            [row.fields["context"] for row in rows],
            truncation="only_second",
            max_length=limit,
            stride=min(self.config.stride, room - 1),
            return_overflowing_tokens=True,
        )
        examples = []
        for i, encoding in enumerate(encoded.encodings or ()):
            row = encoded["overflow_to_sample_mapping"][i]
            example = {"row": row, "length": len(encoded["input_ids"][i]), **pieces(encoded, i)}
            in_context = np.array([part == 1 for part in encoding.sequence_ids])
            offsets_C2 = np.array(encoding.offsets, dtype=np.int32)[in_context]
            example |= {"first": int(in_context.argmax()), "offsets": offsets_C2}
            if "answers" in rows[row].fields:
                example["span"] = _target(rows[row].fields["answers"], offsets_C2, example["first"])
            examples.append(example)
        return Encoded(examples=examples, num_rows=len(rows), num_truncated=num_truncated)

    def truncation(self, tokenizer: "PreTrainedTokenizerBase") -> str:
        """Of questions alone: contexts are read in windows."""
        return f"questions truncated to a quarter of {self.limit(tokenizer)} sub-tokens"

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Besides the inputs: `allowed`, (B, T), true at first token and context, and `labels`, (B, 2)."""
        batch = {**of_examples(examples), **pad_inputs(examples, pad_token_id)}
        batch["allowed"] = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        batch["allowed"][:, 0] = True
        for i, example in enumerate(examples):
            batch["allowed"][i, example["first"] : example["first"] + len(example["offsets"])] = True
        if "span" in examples[0]:
            batch["labels"] = torch.tensor([example["span"] for example in examples])
        return batch

    def head(self, hidden_size: int, dropout: float) -> LinearHead:
        return LinearHead(hidden_size, 2, dropout=dropout)

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        """The mean of the start's and the end's cross-entropy; a target is a window."""
        logits_BT2 = model.logits(model.hidden(batch))
        logits_BT2 = logits_BT2.masked_fill(~batch["allowed"].unsqueeze(-1), float("-inf"))
        return cross_entropy(logits_BT2, batch["labels"], batch), len(batch["labels"])

    @torch.no_grad()
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """Start and end logits of every window's first token and context, (1 + context, 2) each."""
        logits_N2 = model.logits(model.hidden(batch)[batch["allowed"]])
        return to_arrays(logits_N2, batch["allowed"].sum(1).tolist())

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"answer": text, "score": its probability within its window, "start": its first character}`."""
        answers: list[Answer] = [{"answer": "", "score": -1.0, "start": 0} for _ in rows]
        for example, logits_C2 in zip(encoded.examples, outputs, strict=True):
            best = answers[example["row"]]
            if len(logits_C2) == 1:  # a context that holds no character known to the tokenizer
                continue
            first, last, score = _best_span(logits_C2, self.config.max_answer_length)
            if score > best["score"]:
                start, end = int(example["offsets"][first, 0]), int(example["offsets"][last, 1])
                text = rows[example["row"]].fields["context"][start:end]
                best |= {"answer": text, "score": score, "start": start}
        for best in answers:
            best["score"] = max(
                best["score"], 0.0
            )  # nothing was found; what was may have a probability that rounds to 0
        return answers

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """SQuAD's word F1 and exact match, by the best gold answer; the baseline is the whole context."""
        gold = [row.fields["answers"]["text"] for row in rows]
        said = [answer["answer"] for answer in answers]
        f1 = [metrics.word_f1(*pair) for pair in zip(said, gold, strict=True)]
        exact = [metrics.exact_match(*pair) for pair in zip(said, gold, strict=True)]
        means = {"f1": float(np.mean(f1)), "exact_match": float(np.mean(exact))}
        measure = metrics.word_f1 if self.config.primary == "f1" else metrics.exact_match
        baseline = np.mean([measure(row.fields["context"], row.fields["answers"]["text"]) for row in rows])
        counts = metrics.value_counts(f1 if self.config.primary == "f1" else exact)
        return self.scores(means, counts, metrics.mean_of, baseline=float(baseline))


def _clip(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", limit: int) -> tuple[list[str], int]:
    """Cut each text behind its first `limit` sub-tokens; the texts, and how many were cut."""
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation="longest_first", max_length=limit)
    clipped = [
        text[: encoding.offsets[-1][1]] if is_truncated(encoding) else text
        for text, encoding in zip(texts, encoded.encodings or (), strict=True)
    ]
    return clipped, sum(map(is_truncated, encoded.encodings or ()))


def _target(answers: Mapping[str, Any], offsets_C2: NDArray[np.int32], first: int) -> list[int]:
    """Places of the first answer's first and last sub-token in a window; twice 0 where it is not inside."""
    text, start = answers["text"][0], answers["answer_start"][0]
    start += len(text) - len(text.lstrip())  # blanks belong to no sub-token
    end = start + len(text.strip())
    if not len(offsets_C2) or start < offsets_C2[0, 0] or end > offsets_C2[-1, 1]:
        return [0, 0]
    first_inside = int(np.searchsorted(offsets_C2[:, 1], start, side="right"))
    last_inside = int(np.searchsorted(offsets_C2[:, 0], end, side="left")) - 1
    return [first + first_inside, first + last_inside]


def _best_span(logits_C2: Output, longest: int) -> tuple[int, int, float]:
    """The likeliest span: its first and last sub-token in the context, and its probability.

    Args:
        logits_C2: Start and end logits; the first row is the first token's, which is not part of the context.
        longest: Longest span, in sub-tokens.
    """
    logits_C2 = logits_C2 - logits_C2.max(0)
    log_probs_C2 = logits_C2 - np.log(np.exp(logits_C2).sum(0))
    starts_C, ends_C = log_probs_C2[1:, 0], log_probs_C2[1:, 1]
    longest = min(longest, len(starts_C))
    padded = np.concatenate([ends_C, np.full(longest - 1, -np.inf, dtype=ends_C.dtype)])
    spans_CL = starts_C[:, None] + sliding_window_view(padded, longest)
    first, more = np.unravel_index(int(spans_CL.argmax()), spans_CL.shape)
    return int(first), int(first + more), float(np.exp(spans_CL[first, more]))
