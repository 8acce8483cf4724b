"""Sees when a computation asks its tensors what is in them, for which a GPU would be waited for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.core.adapters.masks import unasked_mask

_ASKING = (
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::repeat_interleave",
    "aten::_unique2",
)
"""What has a result, or a shape, that the host must know: on a GPU each of these waits for all that was begun."""


@final
class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, told: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.told = told

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name: str = func._schema.name
        by_mask = name.startswith("aten::index") and any(
            index is not None and index.dtype == torch.bool
            for indices in args[1:2]
            if isinstance(indices, list | tuple)
            for index in indices
        )
        if by_mask or name in _ASKING:
            self.told.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note each question that is asked meanwhile, by the name of the operation; masks are made as for a GPU."""
    from transformers import AttentionMaskInterface

    told: list[str] = []
    tolist: Callable[[Tensor], Any] = Tensor.tolist

    def noted(tensor: Tensor) -> Any:
        told.append("tolist")
        return tolist(tensor)

    with monkeypatch.context() as patch, _Watch(told):
        patch.setattr(Tensor, "tolist", noted)
        patch.setitem(AttentionMaskInterface._global_mapping, "sdpa", unasked_mask)
        yield told
