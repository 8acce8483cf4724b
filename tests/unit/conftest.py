"""A real SQLite store, and a sweep of one job made by hand: for all who register something."""

from tests.unit.tracking.conftest import empty_database, facts, job, store, story, tracking

__all__ = ["empty_database", "facts", "job", "store", "story", "tracking"]
