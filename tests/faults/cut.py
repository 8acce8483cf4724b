"""Runs a pass that kills itself, as `kill -9` would, before or after the n-th call of some function.

python -m tests.faults.cut <before|after> <module>:<name in it> <n> <arguments of the pass>
"""

import importlib
import os
import signal
import sys
from operator import attrgetter
from typing import Any

from jobs.__main__ import main


def cut(when: str, place: str, number: int) -> None:
    """Have this process killed at the place: a function or method that is looked up there at each call."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    if owners:
        owner = attrgetter(".".join(owners))(owner)
    function, calls = getattr(owner, name), 0

    def watched(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **options)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, watched)


if __name__ == "__main__":
    cut(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.exit(main(["retrain", *sys.argv[4:]]))
