"""Prompt tuning (Lester et al. 2021, arXiv 2104.08691), by peft: virtual tokens before the text are trained."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pipeline.config import MethodConfig
from pipeline.core.adapters.anatomy import anatomy_of, body_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def attach(base: "PreTrainedModel", config: MethodConfig, seed: int) -> nn.Module:
    """Wrap the body, or in place its encoder where it has one; it then puts out the virtual positions too.

    The virtual tokens begin as embeddings of words that are drawn from the vocabulary (section 3.2). This is peft's
    form for feature extraction: those for tasks bring heads of their own, which fail for tagging.
    """
    import peft

    body: Any = body_of(base)
    has_encoder = anatomy_of(base.config).kind == "encoder-decoder"
    reader = body.get_encoder() if has_encoder else body
    layout = peft.PromptTuningConfig(
        task_type=peft.TaskType.FEATURE_EXTRACTION,
        num_virtual_tokens=config.width,
        token_dim=reader.get_input_embeddings().embedding_dim,  # ALBERT's is not the hidden size
        num_layers=1,  # of use to other methods of peft alone, and so is the next
        num_attention_heads=1,
        num_transformer_submodules=1,
        prompt_tuning_init=peft.PromptTuningInit.SAMPLE_VOCAB,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        prompted = peft.get_peft_model(reader, layout)
    if not has_encoder:
        return cast(nn.Module, prompted)
    body.encoder = prompted
    return cast(nn.Module, base)


def state(model: nn.Module) -> dict[str, Tensor]:
    """`prompt` -> (virtual tokens, width of the embeddings)."""
    return {"prompt": _embedding(model).weight.detach()}


@torch.no_grad()
def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the virtual tokens."""
    if set(tensors) != {"prompt"}:
        raise RuntimeError(f"a prompt is one tensor, not {sorted(tensors)[:3]} ...")
    _embedding(model).weight.copy_(tensors["prompt"])


def undo(model: nn.Module) -> None:
    """Put the encoder back where it was replaced; a wrapper around the body has changed nothing."""
    from transformers import PreTrainedModel

    if isinstance(model, PreTrainedModel):
        body: Any = body_of(model)
        body.encoder = body.encoder.base_model


def _embedding(model: nn.Module) -> nn.Embedding:
    (found,) = [m for name, m in model.named_modules() if name.endswith("prompt_encoder.default.embedding")]
    assert isinstance(found, nn.Embedding)
    return found
