"""Every family computed from where its adapters begin, against the same model computed whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig
from pipeline.core.adapters.anatomy import ANATOMIES, layers_of
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.adapters.entry import Entry, entry_of, is_shut
from pipeline.core.engine.prefix import Prefix
from pipeline.core.engine.shelf import Shelf
from pipeline.core.methods import METHODS
from pipeline.core.tasks.model import KEPT, TaskModel
from pipeline.core.tasks.task import Encoded
from pipeline.core.tasks.tensors import pad_inputs
from tests.families import CONFIGS, make

pytestmark = pytest.mark.long

METHODS_TRIED: dict[str, dict[str, Any]] = {
    "houlsby": {"name": "houlsby", "width": 4},
    "pfeiffer": {"name": "pfeiffer", "width": 3, "dropout": 0.5},
    "parallel": {"name": "parallel", "width": 3, "scaling": "learned"},
    "norms": {"name": "pfeiffer", "width": 3, "norms": True},
    "lora": {"name": "lora", "width": 2},
}
ENGINE = EngineConfig(precision="float32")
CONVOLVED = {"conv_kernel_size": 3, "conv_act": "gelu"}
"""DeBERTa's larger checkpoints have a convolution behind the first layer."""


def prefix(model: TaskModel, folder: Path, pad_token_id: int) -> Prefix:
    config = CheckpointConfig(name="tiny", source="path", location=".")
    checkpoint = Checkpoint(
        config=config, folder=Path(), sha256="0" * 64, architecture=model.base.config, has_lm_head=False
    )
    return Prefix(Shelf(folder, 2**30), checkpoint, pad_token_id)


def outcome(model: TaskModel, batch: dict[str, Tensor]) -> list[Tensor]:
    """Hidden states of the tokens, and the gradients of all that is trained."""
    model.zero_grad()
    model.eval()
    hidden = model.hidden(batch)
    hidden = hidden * batch["attention_mask"].unsqueeze(-1)
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view(hidden.shape)
    torch.autograd.backward((hidden * weights).sum())
    gradients = [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert gradients
    return [hidden.detach(), *gradients]


@pytest.mark.parametrize(("family", "changes"), [*((family, {}) for family in CONFIGS), ("deberta-v2", CONVOLVED)])
def test_from_where_it_is_entered_a_model_computes_what_it_computes_whole(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    base = make(family, **changes).double()
    pad = 1 if family in ("roberta", "xlm-roberta") else 0
    examples = [{"row": i, "input_ids": list(range(5 + i, 5 + i + n))} for i, n in enumerate((5, 9, 2))]
    encoded = Encoded(examples=examples, num_rows=len(examples))
    two = ANATOMIES[family].kind == "encoder-decoder"
    entered = 0
    for name, settings in METHODS_TRIED.items():
        tried: list[Any] = ["top-2", "top-1", [1, 3]] if two else ["all"] if family == "albert" else ["top-2"]
        for layers in tried:
            method = MethodConfig(**settings, layers=layers)
            adapted = METHODS[method.name].attach(base, method, 1)
            with torch.no_grad():
                for parameter in adapted.parameters():
                    if parameter.requires_grad:
                        parameter.data = torch.randn(parameter.shape, dtype=torch.float64) * 0.3
            model = TaskModel(adapted, nn.Identity(), pooling="mean")
            kept = prefix(model, tmp_path / f"{name} {layers}", pad)
            known = kept.known(model, method, ENGINE, [encoded], pooled=False)
            if known is not None:
                entered += 1
                batch = pad_inputs(known[0].examples, pad)
                assert f"{KEPT}0" in batch
                plain = {key: tensor for key, tensor in batch.items() if not key.startswith(KEPT)}
                for one, other in zip(outcome(model, batch), outcome(model, plain), strict=True):
                    torch.testing.assert_close(one, other, rtol=0, atol=1e-9 * max(1.0, float(other.abs().max())))
            METHODS[method.name].undo(adapted)
    assert entered == (0 if family == "albert" else 15 if two else 5)


@pytest.mark.parametrize("family", ["albert", "t5", "gpt2"])
def test_a_probe_reads_what_is_kept_of_every_build(family: str, tmp_path: Path) -> None:
    model = TaskModel(make(family).double(), nn.Identity(), pooling="last")
    encoded = Encoded(examples=[{"row": i, "input_ids": list(range(5, 7 + 3 * i))} for i in (0, 2, 1)], num_rows=3)
    for pooled in (True, False):
        known = prefix(model, tmp_path, 0).known(model, MethodConfig(name="probe"), ENGINE, [encoded], pooled=pooled)
        assert known is not None
        batch = pad_inputs(known[0].examples, 0)
        assert batch[f"{KEPT}0"].ndim == (2 if pooled else 3)
        torch.testing.assert_close(
            model.pooled(batch), model.pooled(pad_inputs(encoded.examples, 0)), rtol=0, atol=1e-9
        )


def test_below_the_entry_nothing_is_computed(tmp_path: Path) -> None:
    base = make("bert")
    method = MethodConfig(name="pfeiffer", width=3, layers="top-1")
    model = TaskModel(METHODS["pfeiffer"].attach(base, method, 1), nn.Identity(), pooling="mean")
    encoded = Encoded(examples=[{"row": 0, "input_ids": [5, 6, 7]}], num_rows=1)
    known = prefix(model, tmp_path, 0).known(model, method, ENGINE, [encoded], pooled=False)
    assert known is not None
    called: list[str] = []
    for name, module in base.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    model.hidden(pad_inputs(known[0].examples, 0))
    assert called == ["encoder.layer.2.output.dense.bottleneck.down", "encoder.layer.2.output.dense.bottleneck.up"]


@pytest.mark.parametrize(
    ("family", "settings", "wanted"),
    [
        ("bert", {"name": "houlsby", "layers": "top-2"}, Entry(layer=1, place="attention")),
        ("bert", {"name": "pfeiffer", "layers": [2]}, Entry(layer=2, place="feed_forward")),
        ("bert", {"name": "pfeiffer", "layers": "all"}, None),
        ("bert", {"name": "pfeiffer", "layers": "top-1", "norms": True}, Entry(layer=2)),
        ("bert", {"name": "lora", "layers": "top-1"}, Entry(layer=2)),
        ("bert", {"name": "prompt"}, None),
        ("bert", {"name": "full"}, None),
        ("bert", {"name": "probe"}, Entry(layer=3, pooling="first")),
        ("albert", {"name": "probe"}, Entry(layer=1, pooling="first")),
        ("gpt_neox", {"name": "pfeiffer", "layers": "top-1"}, Entry(layer=2)),
    ],
)
def test_it_is_entered_at_the_first_adapter(family: str, settings: dict[str, Any], wanted: Entry | None) -> None:
    assert entry_of(MethodConfig(**settings), make(family), "first") == wanted


def test_a_family_whose_layers_share_weights_is_shut() -> None:
    albert = make("albert", num_hidden_groups=3)
    numbers: Sequence[int] = range(len(layers_of(albert)))
    assert len(numbers) == 3
    method = MethodConfig(name="pfeiffer", layers="top-1")
    assert entry_of(method, albert) is None and is_shut(method, albert)
    assert not is_shut(MethodConfig(name="pfeiffer"), albert)
    assert not is_shut(method, make("bert"))
