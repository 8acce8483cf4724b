"""The library's settings of a bottleneck, and the method of ours that does the same."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pipeline.config import Activation, MethodConfig
from pipeline.config.strict import build
from pipeline.core.adapters.anatomy import settled
from pipeline.core.adapters.insert import chosen_layers
from pipeline.errors import BundleError, ConfigError, Fault, fault
from pipeline.interop.adapterhub.names import Shape
from pipeline.interop.files import is_number, raise_faults

_DEFAULTS: Mapping[str, Any] = {
    "adapter_residual_before_ln": False,
    "cross_adapter": False,
    "dropout": 0.0,
    "factorized_phm_W": True,
    "factorized_phm_rule": False,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "init_weights": "bert",
    "init_weights_seed": None,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "is_parallel": False,
    "learn_phm": True,
    "leave_out": [],
    "ln_after": False,
    "ln_before": False,
    "mh_adapter": False,
    "non_linearity": "relu",
    "original_ln_after": True,
    "original_ln_before": False,
    "output_adapter": True,
    "phm_bias": True,
    "phm_c_init": "normal",
    "phm_dim": 4,
    "phm_init_range": 0.0001,
    "phm_layer": False,
    "phm_rank": 1,
    "reduction_factor": 16,
    "residual_before_ln": True,
    "scaling": 1.0,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "stochastic_depth": 0.0,
    "use_gating": False,
}
"""Every setting of a bottleneck (the library's `BnConfig`); a folder of an older version may lack some."""

_PRESETS: Mapping[str, Mapping[str, bool]] = {
    "pfeiffer": {"mh_adapter": False, "original_ln_before": True, "is_parallel": False},
    "houlsby": {"mh_adapter": True, "original_ln_before": False, "is_parallel": False},
    "parallel": {"mh_adapter": False, "original_ln_before": False, "is_parallel": True},
}
"""What the presets that have a method of ours differ in."""

_EXCLUDED: Mapping[str, str] = {
    "cross_adapter": "puts adapters behind cross-attention",
    "inv_adapter": "adds invertible adapters to the embeddings",
    "ln_after": "adds a LayerNorm behind the bottleneck",
    "ln_before": "adds a LayerNorm before the bottleneck",
    "original_ln_after": "takes residual and LayerNorm of the sub-block away",
    "output_adapter": "leaves feed-forward without an adapter",
    "phm_layer": "factorises the projections (Compacter)",
    "stochastic_depth": "skips adapters at random",
    "use_gating": "adds gates",
}
"""Settings that must have their default, and what they do where they have not."""

_REMEDY = "Use the adapters library for it, or train it anew here"
_INITS = {"mam_adapter": "zero", "bert": "bert", "houlsby": "houlsby"}
_OLD_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
"""Names in folders without a version, from before adapter-transformers 2."""


def method_of(record: Mapping[str, Any], shape: Shape, where: str) -> MethodConfig:
    """Translate the `config` of an `adapter_config.json`, of which `record` is the whole file.

    Raises:
        BundleError: With a fault for each setting that no method of ours has.
    """
    config = record.get("config")
    if not isinstance(config, dict):
        raise BundleError(fault(f"{where}: config", config, "must be the settings of an adapter", _REMEDY))
    if config.get("architecture") is not None:
        rule = "is another method than bottleneck adapters"
        raise BundleError(fault(f"{where}: config.architecture", config["architecture"], rule, _REMEDY))
    settings = {**_DEFAULTS, **{key: value for key, value in config.items() if key != "architecture"}}
    settings["leave_out"] = settings["leave_out"] or []
    if "version" not in record:
        settings["non_linearity"] = _OLD_ACTIVATIONS.get(str(settings["non_linearity"]), settings["non_linearity"])
    raise_faults(_faults(settings, shape, f"{where}: config"))
    left = sorted(set(range(shape.num_layers)) - set(settings["leave_out"]))
    factors = settings["reduction_factor"]
    values = {
        "name": next(name for name, preset in _PRESETS.items() if preset.items() <= _placement(settings).items()),
        "reduction_factor": factors,
        "activation": settings["non_linearity"].lower(),
        "input_norm": "none",
        "dropout": settings["dropout"],
        "scaling": settings["scaling"],
        "init": _INITS[settings["init_weights"]],
        "layers": "all" if len(left) == shape.num_layers else left,
    }
    try:
        method = build(MethodConfig, values, where=f"{where}: config")
        width = method.width_in(left[0], shape.hidden_size)
        return build(MethodConfig, {**values, "width": width}, where=f"{where}: config")
    except ConfigError as error:
        raise BundleError(error.faults) from error


def settings_of(method: MethodConfig, shape: Shape) -> dict[str, Any]:
    """Write a method as the library's settings.

    Raises:
        BundleError: The library has none for what the method does.
    """
    raise_faults(_method_faults(settled(method, shape.model_type)))
    layers = chosen_layers(method.layers, shape.num_layers)
    inits = {ours: theirs for theirs, ours in _INITS.items()}
    return {
        **_DEFAULTS,
        **_PRESETS[method.name],
        "reduction_factor": _factors(method, shape.hidden_size),
        "non_linearity": method.activation,
        "dropout": method.dropout,
        "scaling": method.scaling,
        "init_weights": inits[method.init],
        "leave_out": [number for number in range(shape.num_layers) if number not in layers],
    }


def _faults(settings: Mapping[str, Any], shape: Shape, where: str) -> Iterator[Fault]:
    """One fault for each setting that is unknown, or that no method of ours has."""
    for key, value in settings.items():
        if key not in _DEFAULTS:
            yield fault(f"{where}.{key}", value, "is no setting of a bottleneck adapter", _REMEDY)
        elif key in _EXCLUDED and value != _DEFAULTS[key]:
            yield fault(f"{where}.{key}", value, f"cannot be represented: it {_EXCLUDED[key]}", _REMEDY)
    yield from _placement_faults(settings, where)
    activation, known = settings["non_linearity"], get_args(Activation)
    if not isinstance(activation, str) or activation.lower() not in known:
        yield fault(f"{where}.non_linearity", activation, f"must be one of {', '.join(known)}", _REMEDY)
    if str(settings["init_weights"]) not in _INITS:
        yield fault(f"{where}.init_weights", settings["init_weights"], f"must be one of {', '.join(_INITS)}", _REMEDY)
    if settings["scaling"] != "learned" and not is_number(settings["scaling"]):
        rule = "cannot be represented: it must be a number or `learned`"
        yield fault(f"{where}.scaling", settings["scaling"], rule, _REMEDY)
    leave_out = settings["leave_out"]
    if not isinstance(leave_out, list) or not all(isinstance(number, int) for number in leave_out):
        yield fault(f"{where}.leave_out", leave_out, "must be a list of layer numbers", _REMEDY)
        return
    left = [number for number in range(shape.num_layers) if number not in leave_out]
    if not left:
        rule = f"leaves out all {shape.num_layers} layers of the checkpoint"
        yield fault(f"{where}.leave_out", leave_out, rule, "Choose the checkpoint that the adapter was trained on")
    yield from _factor_faults(settings["reduction_factor"], left, f"{where}.reduction_factor")


def _placement(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where the adapters are and what they read; a parallel one reads the residual, whatever the rest says."""
    parallel = {"original_ln_before": False, "residual_before_ln": True} if settings["is_parallel"] else {}
    return {**settings, **parallel}


def _placement_faults(settings: Mapping[str, Any], where: str) -> Iterator[Fault]:
    placement = _placement(settings)
    after_attention, normed = placement["mh_adapter"], placement["original_ln_before"]
    if not any(preset.items() <= placement.items() for preset in _PRESETS.values()):
        key = "mh_adapter" if after_attention else "original_ln_before"
        rule = f"cannot be represented beside original_ln_before={normed} and is_parallel={settings['is_parallel']}"
        if not after_attention:
            rule = "cannot be represented beside mh_adapter=False and is_parallel=False"
        yield fault(f"{where}.{key}", settings[key], rule, _REMEDY)
    # Where no LayerNorm is read, the two residuals are the same; the library then breaks over `post_add`.
    if placement["residual_before_ln"] not in ((True,) if normed else (True, False)):
        rule = "cannot be represented: it moves the adapter's residual behind the LayerNorm"
        yield fault(f"{where}.residual_before_ln", settings["residual_before_ln"], rule, _REMEDY)


def _factor_faults(factors: object, layers: list[int], where: str) -> Iterator[Fault]:
    if not isinstance(factors, dict):
        if not is_number(factors) or factors <= 0:
            yield fault(where, factors, "must be a number above 0, or one for each layer", _REMEDY)
        return
    for number in layers:
        if not {str(number), "default"} & set(factors):
            yield fault(where, factors, f"has no entry for layer {number} and no default", "Add `default` to it")
            return


def _method_faults(method: MethodConfig) -> Iterator[Fault]:
    """What the method has and the library has not."""
    if method.name not in _PRESETS:
        rule = f"is no method of AdapterHub's bottlenecks: {', '.join(_PRESETS)}"
        yield fault("method.name", method.name, rule, "Convert it to another format")
    if method.norms:
        rule = "is not there in AdapterHub: it trains no LayerNorm of the checkpoint"
        yield fault("method.norms", method.norms, rule, "Train with method.norms=false")
    if method.input_norm == "rms":
        rule = "is not there in AdapterHub: its nearest, ln_before, is a trained LayerNorm, which takes off a mean"
        yield fault("method.input_norm", method.input_norm, rule, "Train with method.input_norm=none")


def _factors(method: MethodConfig, hidden_size: int) -> Any:
    """The reduction factor that gives the method's width, or one for each layer."""
    factors = method.reduction_factor
    if isinstance(factors, Mapping):
        return {layer: _plain(factor) for layer, factor in factors.items()}
    if factors is not None:
        return _plain(factors)
    exact = hidden_size / method.width
    # Rounding may leave the quotient just below the width: 49 * (768 / 49) is not 768.
    return _plain(exact if int(hidden_size // exact) == method.width else hidden_size / (method.width + 0.5))


def _plain(number: float) -> int | float:
    """16.0 as 16, as the library's presets have it."""
    return int(number) if number == int(number) else number
