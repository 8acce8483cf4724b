"""Where the bottlenecks of each method sit and what they read, as data.

In the formulas x is the sub-block's residual, h its output before the residual is added, LN the checkpoint's own
LayerNorm after it, B the bottleneck. In pre-norm families there is no norm after it: leave out LN. What B reads it may
divide by its root mean square first (`MethodConfig.input_norm`); the places and the sums are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Place = Literal["attention", "feed_forward"]
PLACES: tuple[Place, ...] = ("attention", "feed_forward")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way to place bottlenecks in a Transformer layer."""

    places: tuple[Place, ...]
    """Sub-blocks that get a bottleneck."""
    reads: Literal["output", "normed", "input"]
    """What B reads: h, LN(h + x), or x."""


LAYOUTS: Mapping[str, Layout] = {
    # LN(h + B(h) + x). Houlsby et al. 2019 (arXiv 1902.00751), figure 2; AdapterHub's double_seq_bn.
    "houlsby": Layout(places=("attention", "feed_forward"), reads="output"),
    # LN(h + B(LN(h + x)) + x). Pfeiffer et al. 2021 (arXiv 2005.00247), appendix A; AdapterHub's seq_bn, which
    # applies the same LayerNorm twice.
    "pfeiffer": Layout(places=("feed_forward",), reads="normed"),
    # LN(h + B(x) + x). He et al. 2022 (arXiv 2110.04366), table 1; AdapterHub's par_bn.
    "parallel": Layout(places=("feed_forward",), reads="input"),
}
