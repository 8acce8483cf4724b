"""An adapter and its head on a model of transformers; needs nothing else of the pipeline.

Exported folders hold this file as `adapter.py`, beside `adapter.json` and `adapter.safetensors`.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN


class AdaptedModel(nn.Module):
    """Logits of a text, (B, labels), or of each of its tokens, (B, T, labels).

    Args:
        base: `AutoModel.from_pretrained(checkpoint)`; it is changed, and serves this adapter alone.
        folder: The exported folder.
    """

    def __init__(self, base: nn.Module, folder: str | Path) -> None:
        super().__init__()
        self.facts: dict[str, Any] = json.loads((Path(folder) / "adapter.json").read_text("utf-8"))
        self.labels: list[str] = self.facts["labels"]
        weights = load_file(Path(folder) / "adapter.safetensors")
        self.base = base
        self.head = nn.Linear(*weights["head.linear.weight"].shape[::-1])
        self.head.load_state_dict({"weight": weights["head.linear.weight"], "bias": weights["head.linear.bias"]})
        self._x: dict[str, Tensor] = {}
        with torch.no_grad():
            for path, name in self.facts["norms"].items():
                for key, parameter in base.get_submodule(path).named_parameters():
                    parameter.copy_(weights[f"{name}.{key}"])
        for place in self.facts["places"]:
            own = {key.removeprefix(place["name"] + "."): value for key, value in weights.items()}
            self._adapt(place, own)
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **more: Tensor) -> Tensor:
        """Texts padded on the right, (B, T)."""
        hidden = self.base(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        if self.facts["pooling"] == "mean":
            hidden = (hidden * mask).sum(1) / mask.sum(1)
        elif self.facts["pooling"] == "first":
            hidden = hidden[:, 0]
        elif self.facts["pooling"] == "last":
            hidden = hidden[torch.arange(len(hidden)), attention_mask.sum(1) - 1]
        logits: Tensor = self.head(hidden)
        return logits

    def _adapt(self, place: dict[str, Any], own: dict[str, Tensor]) -> None:
        """Let hooks add the bottleneck to what a module puts out."""
        activation, scaling = ACT2FN[self.facts["activation"]], own.get("scaling", self.facts["scaling"])
        norm = self.base.get_submodule(place["norm"]) if place["norm"] else None
        name, reads = place["name"], self.facts["reads"]

        def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._x[name] = args[0] if args else kwargs["hidden_states"]

        def add(_: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
            h = out[0] if isinstance(out, tuple) else out
            read = {"output": h, "input": self._x[name]}.get(reads, h + self._x[name])
            if reads == "normed" and norm is not None:
                read = norm(read)
            if self.facts.get("input_norm") == "rms":  # an older folder does not say, and means no
                read = F.rms_norm(read.float(), read.shape[-1:], eps=1e-6).to(read.dtype)
            down = activation(F.linear(read, own["down.weight"], own["down.bias"]))
            h = h + scaling * F.linear(down, own["up.weight"], own["up.bias"])
            return (h, *out[1:]) if isinstance(out, tuple) else h

        self.base.get_submodule(place["source"]).register_forward_pre_hook(see, with_kwargs=True)
        self.base.get_submodule(place["module"]).register_forward_hook(add)
