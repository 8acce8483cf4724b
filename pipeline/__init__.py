"""Adapter tuning for many tasks over one frozen checkpoint."""

import time

__version__ = "0.1.0"
BEGUN = time.monotonic()
"""When this process first needed the package: a command's own beginning."""
