"""A span of a context that answers a question; contexts longer than the model are read window by window."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Dataset, Row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import empty_faults, row_fault, shorten
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.task import Answer, Batch, Encoded, Example, Output, Task
from pipeline.core.tasks.tensors import (
    cross_entropy,
    is_truncated,
    mean_of,
    of_examples,
    pad_inputs,
    pieces,
    to_arrays,
    truncated,
)
from pipeline.errors import Fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@final
class ExtractiveQA(Task):
    """Softmax over the context's sub-tokens for the answer's start, and another for its end.

    An example is a window: the question and a stretch of the context, neighbouring windows sharing `stride`
    sub-tokens. Besides the context, the first token is allowed: it is the target of windows without the
    answer, and takes their probability, so that spans of several windows can be compared.

    Where questions may have no answer (SQuAD 2), none is given if in the window of the likeliest span the first token
    is at least as likely. No threshold is fitted to the validation rows: both are parts of one softmax that was trained
    to tell them apart. `no_answer` in the answer says how near it was.
    """

    pipeline_tag = "question-answering"

    @classmethod
    def from_rows(cls, config: TaskConfig, rows: Sequence[Row]) -> Self:
        unanswerable = config.unanswerable or any(not _texts(row) for row in rows)
        return cls(dataclasses.replace(config, unanswerable=unanswerable))

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        yield from empty_faults(row, "question", "context")

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        texts, starts = row.fields["answers"]["text"], row.fields["answers"]["answer_start"]
        context = row.fields["context"]
        if len(texts) != len(starts):
            rule = f"has {len(texts)} answer texts and {len(starts)} answer_starts"
            yield row_fault(row, "", rule, "Give a start for each answer, or two empty lists where there is no answer")
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

    @classmethod
    def split_faults(cls, config: TaskConfig, dataset: Dataset, known: Collection[str] = ()) -> Iterator[Fault]:
        answerable = [row for row in dataset.train.rows if _texts(row)]
        if not answerable:
            rule = "has no answer, nor has any other row of train: there is no span to learn"
            yield row_fault(dataset.train.rows[0], "", rule, "Add training rows with answers")
        if config.unanswerable or len(answerable) < len(dataset.train.rows):
            return
        for split in (dataset.validation, dataset.test):
            without = [row for row in split.rows if not _texts(row)]
            if len(without) > dataset.max_unseen * len(split.rows):
                rule = (
                    f"has no answer, like {len(without)} of {len(split.rows)} rows of {split.name}, and no row of train"
                )
                rule += f" is so: more than {dataset.max_unseen:g} cannot be answered rightly"
                remedy = f"Add training rows without an answer, remove those of {split.name}, or raise data.max_unseen"
                yield row_fault(without[0], "", rule, remedy)

    def notes(self, dataset: Dataset) -> Iterator[str]:
        """Say how many questions have no answer, and what becomes of them."""
        for split in dataset.splits:
            if count := sum(not _texts(row) for row in split.rows):
                said = f"{count} of {len(split.rows)} questions of {split.name} have no answer"
                learnt = ", which is learnt" if split.name == "train" else ""
                yield (
                    said
                    + (learnt if self.config.unanswerable else ", as none of train: they are counted as wrong")
                    + "."
                )

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Cut contexts into windows; a question is truncated to a quarter of the window, and counted."""
        limit = self.limit(tokenizer)
        questions, clipped = _clip([row.fields["question"] for row in rows], tokenizer, limit // 4)
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
        return Encoded(examples=examples, num_rows=len(rows), truncated=clipped)

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

    def loss_of(self, examples: Sequence[Example], outputs: Sequence[Output]) -> float:
        """As in training a target is a window, of which the outputs are the first token's and the context's."""
        losses = []
        for example, logits_C2 in zip(examples, outputs, strict=True):
            if "span" in example:
                # The context may begin with the first token itself, where a tokenizer puts nothing before it.
                before = 1 if example["first"] else 0
                span_2 = [max(place - example["first"] + before, 0) for place in example["span"]]
                logits_2C = torch.from_numpy(logits_C2).T
                losses.append(F.cross_entropy(logits_2C, torch.tensor(span_2), reduction="none"))
        return mean_of(losses)

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"answer": text, "score": its probability within its window, "start": its first character, "end": ...}`.

        Start and end are counted in characters of the context, the end exclusive. Where there may be no answer, with
        `no_answer`, the probability of none in the same window; the text is empty and the score is that where none is
        given.
        """
        answers: list[Answer] = [{"answer": "", "score": -1.0, "start": 0, "end": 0} for _ in rows]
        none = [1.0] * len(rows)  # also of a context that holds no character known to the tokenizer
        for example, logits_C2 in zip(encoded.examples, outputs, strict=True):
            best = answers[example["row"]]
            if len(logits_C2) == 1:
                continue
            first, last, score, without = _best_span(logits_C2, self.config.max_answer_length)
            if score > best["score"]:
                start, end = int(example["offsets"][first, 0]), int(example["offsets"][last, 1])
                text = rows[example["row"]].fields["context"][start:end]
                best |= {"answer": text, "score": score, "start": start, "end": end}
                none[example["row"]] = without
        for best, without in zip(answers, none, strict=True):
            # Nothing was found; what was may have a probability that rounds to 0.
            best["score"] = max(best["score"], 0.0)
            if self.config.unanswerable:
                best["no_answer"] = without
                if without >= best["score"]:
                    best |= {"answer": "", "score": without, "start": 0, "end": 0}
        return answers

    @classmethod
    def parts(cls, row: Row, answer: Answer) -> list[dict[str, Any]]:
        """`[{answer, score, start, end}]`, and `no_answer` where the task knows questions without one."""
        return [{key: answer[key] for key in ("answer", "score", "start", "end", "no_answer") if key in answer}]

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """SQuAD's word F1 and exact match, by the best gold answer, and SQuAD 2's of the rows with and without one.

        The baseline is the whole context, or no answer at all where some rows have none and that is better.
        """
        gold = [_texts(row) for row in rows]
        said = [answer["answer"] for answer in answers]
        values = {
            "f1": [metrics.word_f1(*pair) for pair in zip(said, gold, strict=True)],
            "exact_match": [metrics.exact_match(*pair) for pair in zip(said, gold, strict=True)],
        }
        means = {name: float(np.mean(part)) for name, part in values.items()}
        has_answer = np.array([bool(texts) for texts in gold])
        if not has_answer.all():
            for name, part in values.items() if has_answer.any() else ():
                means[f"has_answer_{name}"] = float(np.mean(np.array(part)[has_answer]))
            means["no_answer_accuracy"] = float(np.mean(np.array(values["exact_match"])[~has_answer]))
        measure = metrics.word_f1 if self.config.primary == "f1" else metrics.exact_match
        whole = np.mean([measure(row.fields["context"], texts) for row, texts in zip(rows, gold, strict=True)])
        counts = metrics.value_counts(values[self.config.primary])
        baseline = max(float(whole), float(np.mean(~has_answer)))
        return self.scores(means, counts, metrics.mean_of, baseline=baseline)


def _texts(row: Row) -> list[str]:
    """The gold answers of a row; empty where its context has none."""
    texts: list[str] = row.fields["answers"]["text"]
    return texts


def _clip(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", limit: int) -> tuple[list[str], frozenset[int]]:
    """Cut each text behind its first `limit` sub-tokens; the texts, and which were cut, by their number."""
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation="longest_first", max_length=limit)
    clipped = [
        text[: encoding.offsets[-1][1]] if is_truncated(encoding) else text
        for text, encoding in zip(texts, encoded.encodings or (), strict=True)
    ]
    return clipped, truncated(encoded.encodings)


def _target(answers: Mapping[str, Any], offsets_C2: NDArray[np.int32], first: int) -> list[int]:
    """Places of the first answer's first and last sub-token in a window; twice 0 where it is not inside."""
    if not answers["text"]:
        return [0, 0]
    text, start = answers["text"][0], answers["answer_start"][0]
    start += len(text) - len(text.lstrip())  # blanks belong to no sub-token
    end = start + len(text.strip())
    if not len(offsets_C2) or start < offsets_C2[0, 0] or end > offsets_C2[-1, 1]:
        return [0, 0]
    first_inside = int(np.searchsorted(offsets_C2[:, 1], start, side="right"))
    last_inside = int(np.searchsorted(offsets_C2[:, 0], end, side="left")) - 1
    return [first + first_inside, first + last_inside]


def _best_span(logits_C2: Output, longest: int) -> tuple[int, int, float, float]:
    """The likeliest span: its first and last sub-token in the context, its probability, and the first token's.

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
    return int(first), int(first + more), float(np.exp(spans_CL[first, more])), float(np.exp(log_probs_C2[0].sum()))
