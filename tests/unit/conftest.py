"""A real SQLite store, and a sweep of one job made by hand: for all who register something."""

from tests.unit.tracking.conftest import facts, job, store, story, tracking

__all__ = ["facts", "job", "store", "story", "tracking"]
