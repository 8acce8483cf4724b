"""The frozen Transformer with one trained head on top; what a task computes its loss and outputs with."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@final
class TaskModel(nn.Module):
    """A base without a head of its own, and the head of one task.

    The base stays in eval mode, in training too, so that frozen features are deterministic. Only what is
    trained follows `train()`: the head, and the modules inside the base whose parameters all require
    gradients. That is an adapter, and the base itself where every weight of it is trained; it is not the
    block around an adapter, so that the frozen dropout in there stays off.
    """

    def __init__(self, base: PreTrainedModel, head: nn.Module, *, pooling: Literal["mean", "first"]) -> None:
        super().__init__()
        self.base = base
        self.head = head
        self.pooling = pooling
        self._reads_segments = int(getattr(base.config, "type_vocab_size", 0) or 0) > 1
        self.train(False)

    def train(self, mode: bool = True) -> "TaskModel":
        """Switch head and adapters; the frozen rest stays in eval mode."""
        self.training = mode
        self.head.train(mode)
        self.base.eval()
        for module in self.base.modules():
            parameters = list(module.parameters())
            if parameters and all(parameter.requires_grad for parameter in parameters):
                module.train(mode)
        return self

    def hidden(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Run the base.

        Args:
            inputs: `input_ids` and `attention_mask`, (B, T); `token_type_ids` where the tokenizer gave them.

        Returns:
            The last layer's hidden states, (B, T, H), in the base's own precision.
        """
        arguments = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        if self._reads_segments and "token_type_ids" in inputs:
            arguments["token_type_ids"] = inputs["token_type_ids"]
        return cast(Tensor, self.base(**arguments).last_hidden_state)

    def pooled(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Make one vector of every text: the mean over its tokens in float32, or its first token.

        Returns:
            (B, H).
        """
        hidden_BTH = self.hidden(inputs)
        if self.pooling == "first":
            return hidden_BTH[:, 0]
        mask_BT1 = inputs["attention_mask"].unsqueeze(-1).float()
        return (hidden_BTH.float() * mask_BT1).sum(1) / mask_BT1.sum(1)

    def logits(self, *features: Tensor) -> Tensor:
        """Apply the head in its own precision, float32, whatever the base or an autocast computes in."""
        dtype = next(self.head.parameters()).dtype
        with torch.autocast(features[0].device.type, enabled=False):
            return cast(Tensor, self.head(*(f.to(dtype) if f.is_floating_point() else f for f in features)))


_RAREST = 1e-4
"""A share that stands for any lower one, such as that of a label that the training rows lack."""


@final
class LinearHead(nn.Module):
    """`W dropout(x) + b`, W from N(0, 0.02) as in BERT.

    b is zero, or the logarithm of each output's share of the targets. A softmax then begins with the right
    frequencies (the prior of Lin et al. 2017, arXiv 1708.02002, section 3.3), and adapters need not flatten the
    hidden states to learn them: where nearly every word is O, that is what they do, and often stay with.
    """

    def __init__(self, hidden_size: int, num_outputs: int, *, dropout: float, shares: Sequence[float] = ()) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden_size, num_outputs)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        if shares:
            self.linear.bias.data.copy_(torch.tensor(shares).clamp(min=_RAREST).log())

    def forward(self, features: Tensor) -> Tensor:
        """(..., H) -> (..., outputs)."""
        return cast(Tensor, self.linear(self.dropout(features)))
