"""What a command loads before it answers: a package that it does not need costs its user seconds."""

import sys

import pytest

from tests.commands.workplace import Workplace

pytestmark = pytest.mark.commands

CALL = """
import sys
from jobs.__main__ import main
code = main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""
SLOW = {"ray", "mlflow", "datasets", "pyarrow", "pandas", "optuna", "peft", "matplotlib", "sklearn", "fastapi"}
SLOWER = SLOW | {"torch", "transformers", "scipy", "numpy"}


@pytest.mark.parametrize(
    ("words", "code", "slow"),
    [
        (["predict", "TASK=sentiment", "TEXT=a good film"], 0, SLOW),
        (["predict", "TASK=sentimen", "TEXT=a good film"], 2, SLOWER),
        (["status"], 0, SLOWER),
        (["help"], 0, SLOWER),
        (["sweep", "TASKS=sentiment", "TRAILS=3"], 2, SLOWER),
    ],
)
def test_a_command_loads_nothing_slow_that_it_does_not_need(
    earlier: Workplace, words: list[str], code: int, slow: set[str]
) -> None:
    done = earlier.run(sys.executable, "-c", CALL, *words)
    assert done.code == code, done.err
    loaded = set(done.err.splitlines()[-1].split())
    assert "pipeline" in loaded
    assert not loaded & slow
