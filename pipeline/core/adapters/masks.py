"""Attention masks that a GPU need not be asked about."""

from typing import Any

import torch
from torch import Tensor


def ask_no_gpu() -> None:
    """From now on let transformers make the masks of its models without a look at what is in them, but on a CPU.

    For SDPA it makes none where no row is padded, which saves a CPU some work. To know that of a GPU it waits, once to
    four times in a forward pass, until all that was begun is done, and nearly every batch has a padded row.
    """
    from transformers import AttentionMaskInterface

    AttentionMaskInterface.register("sdpa", _sdpa_mask)


def unasked_mask(**kwargs: Any) -> Tensor:
    """The mask that `sdpa_mask` of transformers makes, also where no row is padded."""
    from transformers.masking_utils import sdpa_mask

    mask: Tensor = sdpa_mask(**kwargs | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return mask


def _sdpa_mask(*, device: torch.device | str = "cpu", **kwargs: Any) -> Tensor | None:
    from transformers.masking_utils import sdpa_mask

    make = sdpa_mask if torch.device(device).type == "cpu" else unasked_mask
    mask: Tensor | None = make(device=device, **kwargs)
    return mask
