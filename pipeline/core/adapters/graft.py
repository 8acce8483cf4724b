"""What one candidate trains in the Transformer, kept beside the base, which carries it for the time of a batch."""

from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from pipeline.config import MethodConfig
from pipeline.core.adapters.anatomy import settled
from pipeline.core.adapters.insert import chosen_layers, load_into, made, state_of
from pipeline.core.adapters.sites import Placed, Sites, placed_modules


@final
class Graft(nn.Module):
    """Modules by the names under which a bundle has their weights, and where they are in the base."""

    def __init__(
        self, modules: Mapping[str, nn.Module], placed: Placed, *, lowest: int | None, mixes: bool = True
    ) -> None:
        """Keep them.

        Args:
            modules: What has gradients.
            placed: What `Sites.carrying` puts into the base: of the same modules.
            lowest: The first layer that has something of it; None where none has.
            mixes: Whether the base can tell the rows of several apart where it carries them together.
        """
        super().__init__()
        self.names = list(modules)
        self.parts = nn.ModuleList(modules.values())
        self.placed = placed
        self.lowest = lowest
        self.mixes = mixes

    def state(self) -> dict[str, Tensor]:
        """Collect the weights by name, as the method's own `state` does."""
        return state_of(zip(self.names, self.parts, strict=True))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the weights from what `state` returned.

        Raises:
            RuntimeError: The names or shapes differ.
        """
        load_into(zip(self.names, self.parts, strict=True), tensors)


def grafted(sites: Sites, config: MethodConfig, seed: int) -> Graft:
    """Make the bottlenecks, and norms, of `houlsby`, `pfeiffer` and `parallel` as `insert.attach` would.

    Raises:
        ConfigError: A layer number is not one of the model's.
    """
    config = settled(config, sites.family)
    modules = made(sites.base, config, seed)
    lowest = min(chosen_layers(config.layers, sites.num_layers))
    return Graft(modules, placed_modules(sites, config, modules), lowest=lowest)
