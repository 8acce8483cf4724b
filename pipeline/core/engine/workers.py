"""Data parallelism: several processes train one model, each on its share of every batch.

All hold the same weights and take the same steps. What is trained is so small that one sum over all processes a step is
enough; torch's DistributedDataParallel would besides broadcast the frozen weights into memory that is shared, and
average means, where the rows of a batch may have different numbers of targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that train one model: torch.distributed's default group, where there are several."""

    rank: int = 0
    """Which of them this is; number 0 alone writes files."""
    size: int = 1

    def share(self, whole: Sequence[T]) -> Sequence[T]:
        """What of a batch, or of a list of batches, this process does; may be empty."""
        return whole[self.rank :: self.size]

    def add_up(self, parameters: Sequence[nn.Parameter], loss_sum: Tensor, num_targets: int) -> tuple[Tensor, int]:
        """Turn the gradients of the shares' summed losses into that of the whole batch's mean loss.

        Args:
            parameters: Those that are trained, in the same order in every process; a parameter whose gradient is None
                in all of them keeps None.
            loss_sum: Of this process's share, ().
            num_targets: Of this process's share.

        Returns:
            The mean loss of the whole batch, and its number of targets: the same in every process.
        """
        gradients = [p.grad for p in parameters]
        counts = torch.tensor([num_targets, *(g is not None for g in gradients)], dtype=torch.float64)
        totals = torch.cat([loss_sum.double().view(1), counts.to(loss_sum.device)])
        dist.all_reduce(totals)
        count, *holders = totals[1:].tolist()
        num_targets = round(count)
        flat = torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, gradients, strict=True)]
        )
        dist.all_reduce(flat)
        flat /= max(num_targets, 1)
        parts = torch.split(flat, [p.numel() for p in parameters])
        for parameter, part, num_holders in zip(parameters, parts, holders, strict=True):
            parameter.grad = part.view_as(parameter) if num_holders else None
        return totals[0] / max(num_targets, 1), num_targets

    def gather(self, mine: Mapping[int, Any]) -> dict[int, Any]:
        """Put together what every process has of a whole."""
        if self.size == 1:
            return dict(mine)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, dict(mine))
        return {key: value for part in parts for key, value in part.items()}


ALONE = Workers()
