"""Bundles at work on one resident checkpoint."""
