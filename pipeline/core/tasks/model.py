"""The frozen Transformer with one trained head on top; what a task computes its loss and outputs with."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.adapters.anatomy import anatomy_of, body_of
from pipeline.core.adapters.dropout import Dropout
from pipeline.core.adapters.entry import Entrance

KEPT = "kept"
"""Beginning of the names by which a batch has what is known of its rows: `kept0`, `kept1`, ... (`Entrance.states`)."""


class TaskModel(nn.Module):
    """A base, adapted or not, and the head of one task.

    The base stays in eval mode, in training too, so that frozen features are deterministic. Only what is
    trained follows `train()`: the head, and the modules inside the base whose parameters all require
    gradients. That is an adapter, and the base itself where every weight of it is trained; it is not the
    block around an adapter, so that the frozen dropout in there stays off.
    """

    def __init__(self, base: nn.Module, head: nn.Module, *, pooling: Literal["mean", "first", "last"]) -> None:
        """Put them together.

        Args:
            base: What a method made of the checkpoint: a model of transformers, or a wrapper around the body of one.
            head: Maps hidden states to logits; without parameters where the language-model head is used.
            pooling: How a text becomes one vector.
        """
        from transformers import PreTrainedModel

        super().__init__()
        self.base: Any = base
        self.head = head
        self.pooling = pooling
        self.anatomy = anatomy_of(self.base.config)
        self._is_bare = isinstance(base, PreTrainedModel)  # not wrapped
        self.entrance: Entrance | None = None
        """Where batches that have `KEPT` states enter the base."""
        self._reads_segments = int(getattr(self.base.config, "type_vocab_size", 0) or 0) > 1
        self.train(False)

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return cast(torch.device, self.base.device)

    def train(self, mode: bool = True) -> "TaskModel":
        """Switch head and adapters; the frozen rest stays in eval mode."""
        self.training = mode
        self.head.train(mode)
        self.base.eval()
        for module in self.base.modules():
            parameters = list(module.parameters())
            is_trained = parameters and all(parameter.requires_grad for parameter in parameters)
            if is_trained:
                module.train(mode)
        return self

    def hidden(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Run the base, but not its language-model head.

        Args:
            inputs: `input_ids` and `attention_mask`, (B, T), padded on either side;
                `token_type_ids` where the tokenizer gave them; and what is known of the rows, if it is.

        Returns:
            The last layer's hidden states, (B, T, H), in the base's own precision. Where there is a decoder behind
            an encoder they are the decoder's, which reads the text shifted by one, as BartForQuestionAnswering does.
        """
        known = _known(inputs)
        if self.entrance is None or not known:
            return self._computed(inputs)
        if self.entrance.is_end:
            return known[0]
        with self.entrance.entered(known):
            return self._computed(inputs)

    def states(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Compute what a batch may have to enter the base where `entrance` says: (B, T, C) each, or one (B, C)."""
        assert self.entrance is not None
        if not self.entrance.is_end:
            return self.entrance.states(lambda: self._computed(inputs), len(inputs["input_ids"]))
        return (self.pooled(inputs) if self.entrance.entry.pooling else self.hidden(inputs),)

    def _computed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        ids_BT, mask_BT = inputs["input_ids"], inputs["attention_mask"]
        body = body_of(self.base) if self._is_bare else self.base
        if self.anatomy.kind == "encoder-decoder":
            return _decoded(body, ids_BT, mask_BT)
        arguments: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": mask_BT}
        if self._is_bare:  # behind virtual tokens peft counts positions itself, in one segment
            if self._reads_segments and "token_type_ids" in inputs:
                arguments["token_type_ids"] = inputs["token_type_ids"]
            if self.anatomy.positions:
                arguments["position_ids"] = positions(mask_BT)
        if self.anatomy.kind == "decoder":
            arguments["use_cache"] = False
        hidden_BTH = body(**arguments).last_hidden_state
        return cast(Tensor, hidden_BTH[:, -ids_BT.shape[1] :])  # without the virtual tokens of a prompt

    def pooled(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Make one vector of every text, (B, H): its first or last token, or the mean of all, not in half precision."""
        known = _known(inputs)
        if self.entrance is not None and self.entrance.entry.pooling and known:
            return known[0]
        hidden_BTH, mask_BT = self.hidden(inputs), inputs["attention_mask"]
        if self.pooling == "mean":
            dtype = torch.promote_types(hidden_BTH.dtype, torch.float32)
            mask_BT1 = mask_BT.unsqueeze(-1).to(dtype)
            return (hidden_BTH.to(dtype) * mask_BT1).sum(1) / mask_BT1.sum(1)
        places_BT = mask_BT if self.pooling == "first" else mask_BT.cumsum(1) * mask_BT
        return hidden_BTH[torch.arange(len(hidden_BTH), device=hidden_BTH.device), places_BT.argmax(1)]

    def logits(self, *features: Tensor) -> Tensor:
        """Apply the head in its own precision, float32, whatever the base or an autocast computes in."""
        dtype = next(self.head.parameters()).dtype
        with torch.autocast(features[0].device.type, enabled=False):
            return cast(Tensor, self.head(*(f.to(dtype) if f.is_floating_point() else f for f in features)))


def _known(inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """What a batch has of its rows, in its order."""
    return [inputs[name] for name in (f"{KEPT}{number}" for number in range(len(inputs))) if name in inputs]


def _decoded(body: Any, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Encode the text, and decode it again with each token shifted to the right by one, (B, T, H)."""
    places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    first_B1 = mask_BT.argmax(1, keepdim=True)  # for the way back
    ids_BT, mask_BT = left_aligned(ids_BT, mask_BT)
    memory_BSH = body.get_encoder()(input_ids=ids_BT, attention_mask=mask_BT)[0]
    # A prompt's virtual tokens stand before the text.
    memory_mask_BS = F.pad(mask_BT, (memory_BSH.shape[1] - mask_BT.shape[1], 0), value=1)
    hidden_BTH = body.get_decoder()(
        input_ids=torch.cat([starts(body.config, ids_BT, mask_BT), ids_BT[:, :-1]], dim=1),
        attention_mask=mask_BT,
        encoder_hidden_states=memory_BSH,
        encoder_attention_mask=memory_mask_BS,
        use_cache=False,
    )[0]
    back_BT = (places_T - first_B1) % len(places_T)
    return hidden_BTH[torch.arange(len(back_BT), device=back_BT.device)[:, None], back_BT]  # type: ignore[no-any-return]


def positions(mask_BT: Tensor) -> Tensor:
    """Count each text's tokens from 0, wherever it begins."""
    return (mask_BT.cumsum(1) - 1).clamp(min=0)


def left_aligned(ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Move texts that are padded on the left to the left edge, from which BART counts positions."""
    places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    order_BT = (places_T + mask_BT.argmax(1, keepdim=True)) % len(places_T)
    return ids_BT.gather(1, order_BT), mask_BT.gather(1, order_BT)


def starts(config: Any, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The token that each text's decoding begins with, (B, 1); the texts are padded on the right."""
    start = getattr(config, "decoder_start_token_id", None)
    if start is None and anatomy_of(config).starts_with_padding:
        start = config.pad_token_id
    if start is None:
        return ids_BT.gather(1, mask_BT.sum(1, keepdim=True) - 1)
    return torch.full_like(ids_BT[:, :1], start)


_RAREST = 1e-4
"""A share that stands for any lower one, such as that of a label that the training rows lack."""


@final
class LinearHead(nn.Module):
    """`W dropout(x) + b`, W from N(0, 0.02) as in BERT.

    b is zero, or the logarithm of each output's share of the targets. A softmax then begins with the right
    frequencies (the prior of Lin et al. 2017, arXiv 1708.02002, section 3.3), and adapters need not flatten the
    hidden states to learn them: where nearly every word is O, that is what they do, and often stay with.

    `kept` are tensors that are not trained and yet belong to the weights, wherever those go: thresholds of the outputs,
    or the unit of the targets. One for each output comes first in its shape, so that a head that grows keeps them.
    """

    def __init__(
        self,
        hidden_size: int,
        num_outputs: int,
        *,
        dropout: float,
        shares: Sequence[float] = (),
        kept: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(hidden_size, num_outputs)
        self.held: Tensor | None = None
        """What each output is held back by in answers, if validation rows say so; a bundle has it in the bias."""
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        if shares:
            self.linear.bias.data.copy_(torch.tensor(shares).clamp(min=_RAREST).log())
        for name, tensor in kept.items():
            self.register_buffer(name, tensor)

    def forward(self, features: Tensor) -> Tensor:
        """(..., H) -> (..., outputs)."""
        return cast(Tensor, self.linear(self.dropout(features)))
