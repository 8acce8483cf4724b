"""The variants of `tests.bench.forgetting`, and how two of them train: soft targets, and a head that is held still."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.core.engine.bundle import Bundle
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Batch, Example, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """How a challenger is made; the first values are those of a pass."""

    replay: float = 0.1
    choose: str = "evenly"
    """`evenly`: the same share of every label; `balanced`: the same number of rows; `loss`: what the champion finds
    hardest, by label."""
    still: bool = False
    """Whether the head's rows of old labels stay as they are for the first epoch."""
    untouched: bool = False
    """Whether the champion stays as it is and the outputs of new labels alone are trained, for twice the epochs: the
    first attempt of a pass in which a task grows (`start: still`)."""
    soft: str = ""
    """`replayed` or `all`: the rows on which the champion's own answers are targets too."""
    weighted: bool = False
    """Whether a replayed row counts as often as old rows stand behind it."""
    average: bool = False
    """Whether the weights are a mean of the champion's and the challenger's, the share chosen by the choosing rows."""
    cold: bool = False


VARIANTS = {
    "replay 0.1": Variant(),
    "balanced": Variant(choose="balanced"),
    "by loss": Variant(choose="loss"),
    "head still": Variant(still=True),
    "soft, replayed": Variant(soft="replayed"),
    "soft, all": Variant(soft="all"),
    "weighted": Variant(weighted=True),
    "average": Variant(average=True),
    "weighted, average": Variant(weighted=True, average=True),
    "replay 0.5": Variant(replay=0.5),
    "replay 0.5, weighted": Variant(replay=0.5, weighted=True),
    "replay 0.5, weighted, average": Variant(replay=0.5, weighted=True, average=True),
    "replay 1": Variant(replay=1.0),
    "untouched, replay 1": Variant(replay=1.0, untouched=True),
    "from scratch": Variant(replay=1.0, cold=True),
}
SHARES = (0.3, 0.5, 0.7, 0.85, 1.0)
"""Of the challenger in an average."""
TEMPERATURE = 2.0
"""Of soft targets, as in Learning without Forgetting."""


class Softened:
    """What makes a task's loss hold on to the champion's answers (Learning without Forgetting, Li and Hoiem 2016)."""

    places: list[int]
    """Of the champion's labels among the task's."""

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = super().collate(examples, pad_token_id)  # type: ignore[misc]
        if all("soft" in example for example in examples):
            soft = [example["soft"].reshape(-1, len(self.places)) for example in examples]
            batch["soft"] = torch.cat(soft)
            batch["is_soft"] = torch.cat(
                [torch.full((len(one),), example["is_soft"]) for one, example in zip(soft, examples, strict=True)]
            )
        return batch

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        loss, num, logits = overheard(super(), model, batch)
        chosen = batch["is_soft"]
        if not chosen.any():
            return loss, num
        now = F.log_softmax(logits[:, self.places][chosen] / TEMPERATURE, -1)
        was = F.softmax(batch["soft"][chosen] / TEMPERATURE, -1)
        distance = F.kl_div(now, was, reduction="sum") * TEMPERATURE**2
        return loss + distance / len(chosen), num


def mixed(mixin: type, task: Task) -> Any:
    """The task with what the mixin adds."""
    kind: Any = type(mixin.__name__, (mixin, type(task)), {})
    made = kind.__new__(kind)
    made.__dict__ |= task.__dict__
    return made


def overheard(task: Any, model: TaskModel, batch: Batch) -> tuple[Tensor, int, Tensor]:
    """The loss of a task, and the logits that it was made of."""
    said: list[Tensor] = []
    own = type(model).logits

    def logits(*features: Tensor) -> Tensor:
        said.append(own(model, *features))
        return said[-1]

    model.logits = logits  # type: ignore[method-assign]
    try:
        loss, num = task.loss(model, batch)
    finally:
        del model.logits
    return loss, num, said[0]


def hold_still(session: Session, job: Job, champion: Bundle) -> None:
    """Give the head's rows of old labels no gradient in the first epoch."""
    places = [i for i, label in enumerate(job.task.labels) if label in champion.record.labels]

    def hold(gradient: Tensor) -> Tensor:
        if session.training.epoch > 1:
            return gradient
        gradient = gradient.clone()
        gradient[places] = 0
        return gradient

    for one in session.model.head.parameters():
        if len(one) == len(job.task.labels):
            one.register_hook(hold)  # type: ignore[no-untyped-call]
