"""Rows of several adapters in one batch: each group of rows gets what its own adapter adds, and nothing else.

The rows of a batch are sorted by adapter, so that those of each are one slice. A group holds the adapter's weights
themselves, no number that stands for them: whatever is registered or dropped meanwhile, no row can meet another's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.core.adapters.bottleneck import Bottleneck, LowRank, Weights, rms_normalised

Reads = Literal["output", "normed", "input"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one adapter adds to what one module puts out."""

    compute: Bottleneck | LowRank | Weights
    reads: Reads
    """What is computed with; formulas in `pipeline.core.adapters.layouts`."""
    norm: Callable[[Tensor], Tensor] | None = None
    """The LayerNorm after the residual, where there is one: the checkpoint's, or the adapter's own."""

    def __call__(self, h: Tensor, x: Tensor | None) -> Tensor:
        """Add to h, (B, T, H); x is the residual, or what else the module is given, where that is read."""
        return h + self.compute(self.read(h, x)).to(h.dtype)  # a learned scaling is float32 under autocast too

    def read(self, h: Tensor, x: Tensor | None) -> Tensor:
        """Give what is computed with."""
        if self.reads == "output":
            return h
        assert x is not None, "the residual's module was not called before"
        if self.reads == "input":
            return x
        return h + x if self.norm is None else self.norm(h + x)

    @property
    def drops(self) -> bool:
        """Whether what it adds goes through dropout."""
        return not isinstance(self.compute, Weights) and self.compute.training and self.compute.dropout.p > 0

    def alike(self) -> tuple[object, ...]:
        """What neighbouring groups must have in common for all to be computed at once but for the products."""
        weights = self.compute
        activation = weights.activation
        how = activation if activation is None or isinstance(weights, Weights) else type(activation)
        return self.reads, self.norm if self.reads == "normed" else None, how, weights.input_norm


Groups = Sequence[tuple[int, Part | None]]
"""How many rows each adapter has, in the order of the batch, and what it adds to them, which may be nothing."""


def adapted(h: Tensor, x: Tensor | None, groups: Groups) -> Tensor:
    """Add to the rows of each group what its adapter adds.

    Args:
        h: (B, T, H) or flattened to (B * T, H). B is the number of all rows, or a multiple of it where each row stands
            there several times, one after another, as in a beam search.
        x: What else is read, as many rows.
        groups: One group is the whole batch, whatever B is.
    """
    if len(groups) == 1:
        ((_, part),) = groups
        return h if part is None else part(h, x)
    times = _times(h, groups)
    if h.is_cuda and not any(part is not None and part.drops for _, part in groups):
        return _by_blocks(_padded, h, x, groups, times)
    if h.is_cuda or torch.is_grad_enabled() or h.dtype != torch.float32 or torch.is_autocast_enabled(h.device.type):
        return _one_by_one(h, x, groups, times)
    return _by_blocks(_in_place, h, x, groups, times)


def normed(hidden: Tensor, groups: Sequence[tuple[int, Callable[[Tensor], Tensor]]]) -> Tensor:
    """Normalise the rows of each group, as those of `adapted`, by its own norm."""
    if len(groups) == 1:
        return groups[0][1](hidden)
    times = _times(hidden, groups)
    rows = torch.split(hidden, [size * times for size, _ in groups])
    return torch.cat([norm(some) for some, (_, norm) in zip(rows, groups, strict=True)])


def _times(h: Tensor, groups: Sequence[tuple[int, Any]]) -> int:
    """How often each row of the batch stands in h.

    Raises:
        RuntimeError: The rows of h are not those of the batch: they cannot be told apart.
    """
    num_rows = sum(size for size, _ in groups)
    times, rest = divmod(len(h), num_rows)
    if rest or not times:
        raise RuntimeError(f"a batch of {num_rows} rows of several adapters meets a tensor of {tuple(h.shape)}")
    return times


def _one_by_one(h: Tensor, x: Tensor | None, groups: Groups, times: int) -> Tensor:
    """Each group as it would be alone, in any precision; gradients reach the rows' own adapters only."""
    sizes = [size * times for size, _ in groups]
    xs: Sequence[Tensor | None] = torch.split(x, sizes) if x is not None else [None] * len(sizes)
    each = zip(torch.split(h, sizes), xs, groups, strict=True)
    return torch.cat([rows if part is None else part(rows, own) for rows, own, (_, part) in each])


Products = Callable[[Tensor, Tensor, list[int], list[Weights]], Tensor]
"""From h and what is read, both with a token a row, how many tokens each group has, and its weights, to the sum."""


def _by_blocks(products: Products, h: Tensor, x: Tensor | None, groups: Groups, times: int) -> Tensor:
    """Compute neighbours that are alike together."""
    sums, first = [], 0
    for _, block in groupby(groups, lambda group: group[1] and group[1].alike()):
        some = list(block)
        last = first + times * sum(size for size, _ in some)
        whole = first == 0 and last == len(h)  # no slice of h, which costs as much as a product
        own, seen = (h, x) if whole else (h[first:last], None if x is None else x[first:last])
        parts = [part for _, part in some if part is not None]
        if parts:
            read = parts[0].read(own, seen)
            tokens = read.numel() // read.shape[-1] // (last - first) * times
            counts = [size * tokens for size, _ in some]
            weights = [part.compute if isinstance(part.compute, Weights) else part.compute.weights() for part in parts]
            flat = read.reshape(-1, read.shape[-1])
            if weights[0].input_norm == "rms":
                flat = rms_normalised(flat)
            own = products(own.reshape(-1, own.shape[-1]), flat, counts, weights).view(own.shape)
        if whole:
            return own
        sums.append(own)
        first = last
    return torch.cat(sums)


def _in_place(h: Tensor, read: Tensor, counts: list[int], weights: list[Weights]) -> Tensor:
    """For a CPU: neighbours of one size and width share a product, and nothing is padded.

    A product of few rows is no faster on two cores than on one, and slower where it is cut up for them; of many that
    are asked for together, each core takes its share. For that the matrices of neighbours are put together, for the
    moment of their product, which takes less time than it saves (docs/bank.md).
    """
    alike = groupby(zip(counts, weights, strict=True), lambda one: (one[0], *one[1].up_RH.shape, float(one[1].scaling)))
    runs = [(count, width, scaling, [one for _, one in run]) for (count, width, _, scaling), run in alike]
    tokens = [count * len(some) for count, _, _, some in runs]
    sizes = [total * width for total, (_, width, _, _) in zip(tokens, runs, strict=True)]
    inner = read.new_empty(sum(sizes))
    for out, rows, (*_, some) in zip(torch.split(inner, sizes), torch.split(read, tokens), runs, strict=True):
        _product([one.down_bias_R for one in some], rows, [one.down_HR for one in some], 1.0, out)
    if weights[0].activation is not None:
        inner = weights[0].activation(inner)
    added = torch.empty_like(h)
    each = zip(torch.split(added, tokens), torch.split(inner, sizes), runs, strict=True)
    for out, rows, (_, _, scaling, some) in each:
        _product([one.up_bias_H for one in some], rows, [one.up_RH for one in some], scaling, out)
    return added.add_(h)


def _product(biases: list[Tensor | None], rows: Tensor, matrices: list[Tensor], scale: float, out: Tensor) -> None:
    """`out = scale * (rows @ matrix + bias)`, of each matrix with its share of the rows."""
    there = [bias for bias in biases if bias is not None]
    beta = scale if there else 0.0
    num_inputs, num_outputs = matrices[0].shape
    rows_GNI, out_GNO = rows.view(len(matrices), -1, num_inputs), out.view(len(matrices), -1, num_outputs)
    if len(matrices) == 1:
        torch.addmm(there[0] if there else out_GNO[0], rows_GNI[0], matrices[0], beta=beta, alpha=scale, out=out_GNO[0])
    else:
        bias_G1O = torch.stack(there).unsqueeze(1) if there else out_GNO
        torch.baddbmm(bias_G1O, rows_GNI, torch.stack(matrices), beta=beta, alpha=scale, out=out_GNO)


def _padded(h: Tensor, read: Tensor, counts: list[int], weights: list[Weights]) -> Tensor:
    """For a GPU, where few large products are quick: groups and widths are padded to the largest.

    What stands behind a width is zero in the second matrix, so that it adds nothing and gets no gradient.
    """
    rows_GNH = pad_sequence(list(torch.split(read, counts)), batch_first=True)
    down_GHR = pad_sequence([one.down_HR.t() for one in weights], batch_first=True).transpose(1, 2)
    up_GRH = pad_sequence([one.up_RH for one in weights], batch_first=True)
    inner_GNR = _products(rows_GNH, down_GHR, [one.down_bias_R for one in weights])
    if weights[0].activation is not None:
        inner_GNR = weights[0].activation(inner_GNR)
    out_GNH = _products(inner_GNR, up_GRH, [one.up_bias_H for one in weights])
    scalings = [torch.as_tensor(one.scaling, device=h.device, dtype=up_GRH.dtype).reshape(1, 1) for one in weights]
    out_GNH = out_GNH * torch.stack(scalings)
    return h + torch.cat([out_NH[:count] for out_NH, count in zip(out_GNH, counts, strict=True)]).to(h.dtype)


def _products(rows_GNI: Tensor, matrix_GIO: Tensor, biases: list[Tensor | None]) -> Tensor:
    there = [bias for bias in biases if bias is not None]
    if not there:
        return torch.bmm(rows_GNI, matrix_GIO)
    return torch.baddbmm(pad_sequence(there, batch_first=True).unsqueeze(1), rows_GNI, matrix_GIO)
