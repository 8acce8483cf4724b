"""What is trained on what, and how: checkpoint, method, engine."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.config.faults import above, between
from pipeline.config.task import Kind
from pipeline.errors import Fault, fault

Pooling = Literal["auto", "mean", "first", "last"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """The pretrained Transformer that every adapter of a sweep sits on."""

    name: str
    """Short name, shown in tables."""
    source: Literal["package", "hub", "path"]
    """Where it comes from: an installed Python package, the Hugging Face hub, or a folder."""
    location: str
    """The package and the folder inside it (`package:folder`), the hub id, or the path."""
    revision: str | None = None
    """Hub branch, tag or commit; ignored elsewhere."""
    sha256: str | None = None
    """Expected sha256 of the weights file; a checkpoint with another one is refused. None: not checked."""
    pooling: Pooling = "auto"
    """How a text becomes one vector: the mean over its tokens, its first token, or its last. `auto`: the mean in
    an encoder, the last token where there is a decoder."""


Activation = Literal[
    "relu",
    "gelu",
    "gelu_new",
    "gelu_fast",
    "quick_gelu",
    "swish",
    "silu",
    "tanh",
    "sigmoid",
    "leakyrelu",
    "leaky_relu",
    "relu6",
    "relu2",
    "mish",
    "linear",
]
"""By their names in transformers (`ACT2FN`), and `leakyrelu`, as AdapterHub calls it."""

MethodName = Literal["houlsby", "pfeiffer", "parallel", "lora", "prompt", "full", "probe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodTraits:
    """What is asked of a method before it is loaded; what it does is in `pipeline.core.methods`."""

    settings: tuple[str, ...] = ()
    """The settings of `MethodConfig` that it has."""
    takes_positions: bool = False
    """Whether its width is a number of positions that the model reads before the text."""
    shares_base: bool = True
    """Whether the checkpoint's own weights stay as they are, so that many adapters share them."""
    cannot: Mapping[Kind, str] = field(default_factory=dict)
    """Kinds of tasks that it cannot train, and why."""


_BOTTLENECK = MethodTraits(
    settings=("width", "reduction_factor", "activation", "input_norm", "dropout", "scaling", "init", "layers", "norms")
)
METHOD_TRAITS: Mapping[MethodName, MethodTraits] = {
    "houlsby": _BOTTLENECK,
    "pfeiffer": _BOTTLENECK,
    "parallel": _BOTTLENECK,
    "lora": MethodTraits(settings=("width", "dropout", "scaling", "layers")),
    "prompt": MethodTraits(
        settings=("width",),
        takes_positions=True,
        cannot={"generation": "its virtual tokens stand before the body of the model, without the language-model head"},
    ),
    "full": MethodTraits(shares_base=False),
    "probe": MethodTraits(
        cannot={"generation": "the language-model head stays frozen, so that nothing would be trained"}
    ),
}
"""`MethodConfig.name` -> traits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodConfig:
    """How the checkpoint is adapted: a bottleneck adapter, `h + scaling * W_up f(W_down h)`, or one of its rivals."""

    name: MethodName
    """Bottlenecks at the places of a layout (`pipeline.core.adapters.layouts`); or LoRA, prompt tuning, full
    fine-tuning, or a probe, which is the head alone."""
    width: int = 24
    """Bottleneck size R, in units; of `lora` the rank; of `prompt` the number of virtual tokens."""
    reduction_factor: float | Mapping[str, float] | None = None
    """Gives the width instead: R = H // factor. A mapping has a factor for each layer number, `default` for the
    others (AdapterHub's setting of that name)."""
    activation: Activation = "relu"
    """The f between the two projections."""
    input_norm: Literal["auto", "none", "rms"] = "auto"
    """What is done to what the bottleneck reads: `none`, or `rms`, division by its root mean square, which trains
    nothing. `auto`: `rms` where the sums of the layers are not normalised (GPT, Llama, T5), else `none` (BERT)."""
    dropout: float = 0.0
    """Dropout on the bottleneck's output, of `lora` on its input; in training only."""
    scaling: float | Literal["learned"] = 1.0
    """Factor of the output; `learned` starts at 1. Of `lora` it is alpha / rank."""
    init: Literal["zero", "bert", "houlsby"] = "zero"
    """W_up zero and W_down uniform (exact identity at the start); N(0, 0.02); truncated N(0, 0.01)."""
    layers: str | list[int] = "all"
    """`all`, `top-4` (the four nearest to the output), or a list of layer numbers from 0; the decoder's layers
    come after the encoder's."""
    norms: bool = False
    """Train copies of the LayerNorms of these layers too, as Houlsby et al. 2019 did (section 2.1)."""

    def faults(self, where: str) -> Iterator[Fault]:
        settings = METHOD_TRAITS[self.name].settings
        for setting in dataclasses.fields(self):
            if setting.name in ("name", *settings) or getattr(self, setting.name) == setting.default:
                continue
            rule = f"is no setting of {self.name} (it has: {', '.join(settings) or 'none'})"
            remedy = f"Leave out {where}.{setting.name}, or choose another method"
            yield fault(f"{where}.{setting.name}", getattr(self, setting.name), rule, remedy)
        yield from above(f"{where}.width", self.width)
        factors = self.reduction_factor if isinstance(self.reduction_factor, Mapping) else {"": self.reduction_factor}
        for layer, factor in factors.items():
            yield from above(f"{where}.reduction_factor.{layer}".rstrip("."), factor)
            if layer and layer != "default" and not layer.isdigit():
                rule = "is neither a layer number nor `default`"
                remedy = f"Write {where}.reduction_factor={{'0': 8, default: 16}}, for instance"
                yield fault(f"{where}.reduction_factor.{layer}", layer, rule, remedy)
        yield from between(f"{where}.dropout", self.dropout, 0.0, 0.9)
        if self.name == "lora" and self.scaling == "learned":
            yield fault(f"{where}.scaling", self.scaling, "must be a number", f"Set {where}.scaling to a number")
        if isinstance(self.layers, str) and self.layers != "all":
            head, _, count = self.layers.partition("-")
            if head != "top" or not count.isdigit() or int(count) == 0:
                rule = "must be `all`, `top-<n>` or a list of layer numbers"
                yield fault(f"{where}.layers", self.layers, rule, f"Set {where}.layers=top-4, for instance")

    @property
    def shown_width(self) -> int | None:
        """The width, where the method has one for all layers."""
        return self.width if "width" in METHOD_TRAITS[self.name].settings and self.reduction_factor is None else None

    @property
    def shown_layers(self) -> str:
        """The layers as they are set: `all`, `top-4`, `0,2,5`; empty where the method has no such setting."""
        if "layers" not in METHOD_TRAITS[self.name].settings:
            return ""
        return self.layers if isinstance(self.layers, str) else ",".join(map(str, self.layers))

    @property
    def virtual_tokens(self) -> int:
        """The positions that the method takes from the text."""
        return self.width if METHOD_TRAITS[self.name].takes_positions else 0

    def width_in(self, layer: int, hidden_size: int) -> int:
        """The bottleneck size in one layer of a model that is `hidden_size` wide."""
        factor = self.reduction_factor
        if isinstance(factor, Mapping):
            factor = factor.get(str(layer), factor.get("default"))
        return self.width if factor is None else max(int(hidden_size // factor), 1)


def stored_method(values: object) -> object:
    """The settings of a method as they were stored, and `input_norm=none` where it was not yet a setting: `auto` may
    mean something else."""
    if not isinstance(values, Mapping) or "input_norm" in values:
        return values
    has_it = (name for name, traits in METHOD_TRAITS.items() if "input_norm" in traits.settings)
    return {**values, "input_norm": "none"} if values.get("name") in list(has_it) else values


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """How one trial is trained."""

    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    epochs: int = 5
    """Passes over the training rows, each with an evaluation."""
    batch_size: int = 16
    """Rows a step (windows, in extractive QA)."""
    weight_decay: float = 0.01
    """Of matrices; biases and norms have none."""
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """What the learning rate does after warmup."""
    clip_norm: float = 1.0
    """Largest norm of the gradient of all trained tensors together."""
    head_dropout: float = 0.1
    """Dropout before the head."""
    patience: int = 0
    """Stop after this many epochs without a better validation score, or the same with a lower loss; 0: never."""
    eval_batch_size: int = 64
    """Rows a batch in evaluation."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the Transformer: `auto` is bfloat16 on GPUs (since Ampere) and CPUs that multiply it; else
    float32."""

    def faults(self, where: str) -> Iterator[Fault]:
        for name in ("learning_rate", "epochs", "batch_size", "clip_norm", "eval_batch_size"):
            yield from above(f"{where}.{name}", getattr(self, name))
        yield from between(f"{where}.weight_decay", self.weight_decay, 0.0, 1.0)
        yield from between(f"{where}.warmup", self.warmup, 0.0, 0.9)
        yield from between(f"{where}.head_dropout", self.head_dropout, 0.0, 0.9)
        if self.patience < 0:
            yield fault(f"{where}.patience", self.patience, "must be 0 or more", "Use 0 to switch early stopping off")
