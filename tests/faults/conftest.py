"""The corpus and the checkpoints of the command tests, for commands that are broken on purpose."""

from tests.commands.conftest import checkpoints, formats, own_tasks, workplace

__all__ = ["checkpoints", "formats", "own_tasks", "workplace"]
