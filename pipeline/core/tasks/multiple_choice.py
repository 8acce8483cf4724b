"""One of the options of a question, of which each question may have another number."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.adapters.dropout import Dropout
from pipeline.core.data.rows import Row
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import answer_faults, empty_faults, option_faults
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
    softmax,
    to_arrays,
)
from pipeline.errors import Fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ASKED = "asked_"
"""Prefix of the questions' own inputs in a batch, where they are encoded apart from the options."""


@final
class MultipleChoice(Task):
    """Softmax over the options of one question.

    The options of a batch stand below one another as its rows: N options of B questions, with `is_option`,
    (B, most options), to sort them back. `scoring: joint` reads question and option as one input, and scores
    it (BertForMultipleChoice); `scoring: dual` encodes them apart, the question once, and compares them.
    """

    pooled = True
    ranks = True
    pipeline_tag = "multiple-choice"

    @property
    def answers_untrained(self) -> bool:
        return self.config.scoring == "dual"  # by the similarity of its own vectors

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        yield from empty_faults(row, "question")
        yield from option_faults(row)

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        yield from answer_faults(row)

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Tokenise the rows; of question and option together the longer is cut first."""
        owners = [i for i, row in enumerate(rows) for _ in row.fields["options"]]
        options = [option for row in rows for option in row.fields["options"]]
        questions = [row.fields["question"] for row in rows]
        arguments: dict[str, Any] = {"truncation": "longest_first", "max_length": self.limit(tokenizer)}
        examples: list[Example] = [{"row": i, "inputs": []} for i in range(len(rows))]
        if self.config.scoring == "joint":
            encoded = tokenizer([questions[i] for i in owners], options, **arguments)
            asked = []
        else:
            encoded = tokenizer(options, **arguments)
            asked_encoded = tokenizer(questions, **arguments)
            asked = list(asked_encoded.encodings or ())
            for i, example in enumerate(examples):
                example["question"] = pieces(asked_encoded, i)
        for i, owner in enumerate(owners):
            examples[owner]["inputs"].append(pieces(encoded, i))
        for example, row in zip(examples, rows, strict=True):
            inputs = [*example["inputs"], example.get("question", {"input_ids": []})]
            example["length"] = max(len(one["input_ids"]) for one in inputs)
            if "answer" in row.fields:
                example["answer"] = row.fields["answer"]
        cut = {owner for owner, one in zip(owners, encoded.encodings or (), strict=True) if is_truncated(one)}
        cut |= {i for i, one in enumerate(asked) if is_truncated(one)}
        return Encoded(examples=examples, num_rows=len(rows), truncated=frozenset(cut))

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Inputs of N options and (dual) B questions, `is_option`, `question_of` (N) and `labels` (B)."""
        batch = of_examples(examples)
        batch |= pad_inputs([one for example in examples for one in example["inputs"]], pad_token_id)
        if "question" in examples[0]:
            asked = pad_inputs([example["question"] for example in examples], pad_token_id)
            batch |= {_ASKED + name: tensor for name, tensor in asked.items()}
        counts_B1 = torch.tensor([[len(example["inputs"])] for example in examples])
        batch["is_option"] = torch.arange(int(counts_B1.max())) < counts_B1
        batch["question_of"] = torch.arange(len(examples)).repeat_interleave(counts_B1[:, 0])
        if "answer" in examples[0]:
            batch["labels"] = torch.tensor([example["answer"] for example in examples])
        return batch

    def head(self, hidden_size: int, dropout: float) -> nn.Module:
        if self.config.scoring == "joint":
            return LinearHead(hidden_size, 1, dropout=dropout)
        return SimilarityHead(hidden_size, dropout=dropout)

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        is_option_BO, logits_N = batch["is_option"], _logits(model, batch)
        logits_BO = logits_N.new_full(is_option_BO.shape, -math.inf).masked_scatter(is_option_BO, logits_N)
        return cross_entropy(logits_BO, batch["labels"], batch), len(logits_BO)

    @torch.no_grad()
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """Logits over the options of every question, (its options,) each."""
        return to_arrays(_logits(model, batch), batch["is_option"].sum(1).tolist())

    def loss_of(self, examples: Sequence[Example], outputs: Sequence[Output]) -> float:
        """Questions have different numbers of options, and so one after another."""
        return mean_of(
            F.cross_entropy(torch.from_numpy(logits), torch.tensor(example["answer"]), reduction="none")
            for example, logits in zip(examples, outputs, strict=True)
            if "answer" in example
        )

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"answer": position from 0, "option": its text, "scores": [one probability an option]}`."""
        answers = []
        for row, logits in zip(rows, outputs, strict=True):
            best = int(logits.argmax())
            scores = softmax(logits).tolist()
            answers.append({"answer": best, "option": row.fields["options"][best], "scores": scores})
        return answers

    @classmethod
    def parts(cls, row: Row, answer: Answer) -> list[dict[str, Any]]:
        """`[{label, score, index}]`: the options, and where each stands in the question."""
        places = sorted(range(len(answer["scores"])), key=lambda place: -answer["scores"][place])
        options, scores = row.fields["options"], answer["scores"]
        return [{"label": options[place], "score": scores[place], "index": place} for place in places]

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Accuracy; the baseline is what drawing an option at random has on average."""
        gold = [row.fields["answer"] for row in rows]
        predicted = [answer["answer"] for answer in answers]
        counts = metrics.match_counts(gold, predicted)
        baseline = fmean(1 / len(row.fields["options"]) for row in rows)
        values = {"accuracy": metrics.accuracy(gold, predicted)}
        return self.scores(values, counts, metrics.mean_of, baseline=baseline)


@final
class SimilarityHead(nn.Module):
    """`exp(s) * cos(W q + b, W o + b)` for a question q and an option o.

    W starts as the identity and exp(s) at 20, so that training starts from the base's own similarity, on a
    scale where softmax tells options apart.
    """

    def __init__(self, hidden_size: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(hidden_size, hidden_size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, questions_NH: Tensor, options_NH: Tensor) -> Tensor:
        """Score each option against the question beside it, (N)."""
        questions_NH = F.normalize(self.linear(self.dropout(questions_NH)), dim=-1)
        options_NH = F.normalize(self.linear(self.dropout(options_NH)), dim=-1)
        return self.log_scale.exp() * (questions_NH * options_NH).sum(-1)


def _logits(model: TaskModel, batch: Batch) -> Tensor:
    """The score of every option, (N), in float32."""
    options_NH = model.pooled(batch)
    if _ASKED + "input_ids" not in batch:
        return model.logits(options_NH)[:, 0]
    asked = {name.removeprefix(_ASKED): tensor for name, tensor in batch.items() if name.startswith(_ASKED)}
    return model.logits(model.pooled(asked)[batch["question_of"]], options_NH)
