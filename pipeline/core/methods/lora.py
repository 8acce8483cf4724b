"""LoRA (Hu et al. 2021, arXiv 2106.09685): `W x + (alpha / r) B A x` at the attention's projections; peft reads it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from pipeline.config import MethodConfig
from pipeline.core.adapters.anatomy import anatomy_of, layers_of
from pipeline.core.adapters.bottleneck import LowRank, Weights
from pipeline.core.adapters.graft import Graft
from pipeline.core.adapters.insert import Adapted, chosen_layers, load_into, put, refuse_second, state_of, undo
from pipeline.core.adapters.mixed import Part
from pipeline.core.adapters.sites import Placed, Sites, none_left, taken
from pipeline.errors import ConfigError, fault
from pipeline.files import new_folder

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

__all__ = ["attach", "graft", "load", "parts", "save", "state", "undo"]


def attach(base: "PreTrainedModel", config: MethodConfig, seed: int) -> nn.Module:
    """Put a low-rank update beside the query and value projections of the chosen layers.

    Raises:
        ConfigError: The family's entry in the table of anatomies does not say which these are, or none has them.
    """
    refuse_second(base)
    for path, update in _made(base, config, seed).items():
        projection = base.get_submodule(path)
        wrapper = Adapted(projection, update)
        wrapper.carry([(1, Part(update, "input"))], projection)
        put(base, path, wrapper)
    return cast(nn.Module, base)


def graft(sites: Sites, config: MethodConfig, seed: int) -> Graft:
    """Make the updates that `attach` would put into the base, to be carried by it for the time of a batch."""
    updates = _made(sites.base, config, seed)
    key = anatomy_of(sites.base.config).shared
    mixes = not (key and getattr(sites.base.config, key, False))
    placed = {path: Part(update, "input") for path, update in updates.items()}
    lowest = min(number for number, found in sites.projections.items() if found.keys() & updates.keys())
    return Graft(updates, placed, lowest=lowest, mixes=mixes)


def _made(base: "PreTrainedModel", config: MethodConfig, seed: int) -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(seed)
    found = _targets(base, config).items()
    return {path: LowRank(*_features(one), config, generator).to(base.device) for path, one in found}


def state(model: nn.Module) -> dict[str, Tensor]:
    """`encoder.layer.0.attention.self.query.lora_A.weight` -> tensor."""
    return state_of(_updates(model))


def load(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the updates' weights.

    Raises:
        RuntimeError: The names or shapes differ from those attached.
    """
    load_into(_updates(model), tensors)


def _updates(model: nn.Module) -> Iterator[tuple[str, LowRank]]:
    """Those that are attached, by the paths of their projections."""
    for path, module in model.named_modules():
        if isinstance(module, Adapted) and isinstance(module.bottleneck, LowRank):
            yield path, module.bottleneck


def parts(sites: Sites, config: MethodConfig, tensors: Mapping[str, Tensor]) -> Placed:
    """What the tensors of `state` are in the base, which is not touched: `x` is what each projection reads itself.

    Raises:
        RuntimeError: Their names or shapes are not those that the config gives.
        ConfigError: The base lacks one of the layers.
    """
    left, placed = dict(tensors), dict[str, Part | nn.Module]()
    for number in chosen_layers(config.layers, sites.num_layers):
        for path, site in sites.projections[number].items():
            features_in, features_out = _features(site.module)
            weights = Weights(
                down_HR=taken(left, f"{path}.lora_A.weight", (config.width, features_in)).t().contiguous(),
                down_bias_R=None,
                up_RH=taken(left, f"{path}.lora_B.weight", (features_out, config.width)).t().contiguous(),
                up_bias_H=None,
                activation=None,
                scaling=float(config.scaling),
                input_norm="none",
            )
            placed[path] = Part(weights, "input")
    none_left(left)
    return placed


def _features(projection: nn.Module) -> tuple[int, int]:
    """How wide a projection reads and writes; the matrix of transformers' Conv1D is the other way round."""
    if isinstance(projection, nn.Linear):
        return projection.in_features, projection.out_features
    features_in, features_out = projection.get_parameter("weight").shape
    return features_in, features_out


def save(
    folder: Path,
    base: "PreTrainedModel",
    config: MethodConfig,
    tensors: Mapping[str, Tensor],
    name: str,
    *,
    card: str = "",
) -> None:
    """Write a folder, which must not be there yet, in peft's layout, which vLLM and LoRAX serve.

    Args:
        base: The frozen base, without adapters.
        tensors: What `state` returned.
        name: Hub id or path of the checkpoint, for the reader to find it.
        card: README.md, if there is one.
    """
    from safetensors.torch import save_file

    layout = _config(base, config)
    layout.base_model_name_or_path, layout.inference_mode = name, True
    weights = {f"base_model.model.{key}": tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    with new_folder(folder) as draft:
        layout.save_pretrained(str(draft))
        if card:
            (draft / "README.md").write_text(card, "utf-8")
        save_file(weights, draft / "adapter_model.safetensors", metadata={"format": "pt"})


def _config(base: "PreTrainedModel", config: MethodConfig) -> "LoraConfig":
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    found = _targets(base, config)
    return LoraConfig(
        r=config.width,
        lora_alpha=cast(int, config.scaling) * config.width,  # a fraction is fine with peft
        lora_dropout=config.dropout,
        target_modules=list(found),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in found.values()),
    )


def _targets(base: "PreTrainedModel", config: MethodConfig) -> dict[str, nn.Module]:
    """The projections that are updated, by their paths.

    Raises:
        ConfigError: There are none.
    """
    targets = tuple(f".{name}" for name in anatomy_of(base.config).lora)
    layers = layers_of(base)
    chosen = {id(layers[number][0]) for number in chosen_layers(config.layers, len(layers))}
    paths = [path for path, module in base.named_modules() if id(module) in chosen]
    found = {
        path: module
        for path, module in base.named_modules()
        if path.endswith(targets) and any(path.startswith(f"{layer}.") for layer in paths)
    }
    if not found:
        rule = f"has no place in {base.config.model_type}, the family of the checkpoint {base.name_or_path}: "
        rule += (
            f"no module of its layers ends in {' or '.join(targets)}" if targets else "no projections are named for it"
        )
        remedy = "Name its query and value projections in pipeline/core/adapters/anatomy.py, or choose another method"
        raise ConfigError(fault("method", config.name, rule, remedy))
    return found
