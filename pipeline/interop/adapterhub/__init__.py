"""Adapters of AdapterHub's `adapters` 1.x, by name of its presets: seq_bn, double_seq_bn, par_bn.

They are pfeiffer, houlsby and parallel here. What the library's other settings do is refused by name, all of it at
once; nothing is left out in silence.
"""

from pipeline.interop.adapterhub.folder import RECORD, Foreign, read, write
from pipeline.interop.adapterhub.heads import ForeignHead, has_head
from pipeline.interop.adapterhub.names import NAMINGS, Shape

__all__ = ["NAMINGS", "RECORD", "Foreign", "ForeignHead", "Shape", "has_head", "read", "write"]
