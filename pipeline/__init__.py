"""Adapter tuning for many tasks over one frozen checkpoint."""

__version__ = "0.1.0"
