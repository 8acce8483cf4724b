"""What a command loads before it answers: a package that it does not need costs its user seconds."""

import sys

import pytest

from tests.commands.workplace import Workplace

pytestmark = pytest.mark.commands

SLOW = {"ray", "mlflow", "datasets", "pyarrow", "pandas", "optuna", "peft", "matplotlib", "sklearn", "fastapi"}
SLOWER = SLOW | {"torch", "transformers", "scipy", "numpy"}


@pytest.mark.parametrize(
    ("words", "code", "slow", "said"),
    [
        (["predict", "TASK=sentiment", "TEXT=a good film"], 0, SLOW, '{"label": "positive"'),
        (["predict", "TASK=sentimen", "TEXT=a good film"], 2, SLOWER, "Did you mean sentiment"),
        (["status"], 0, SLOWER, "champion"),
        (["help"], 0, SLOWER, "TRIALS"),
        (["sweep", "TASKS=sentiment", "TRAILS=3"], 2, SLOWER, "TRAILS: '3' is no variable. Did you mean TRIALS"),
        (["sweep", "tasks=[sentimant]"], 2, SLOW, "TASKS: 'sentimant' is no known task. Did you mean sentiment"),
    ],
)
def test_a_command_loads_nothing_slow_that_it_does_not_need(
    earlier: Workplace, words: list[str], code: int, slow: set[str], said: str
) -> None:
    before = earlier.left()
    done = earlier.run(sys.executable, "-X", "importtime", "-m", "jobs", *words)
    assert done.code == code, done.err
    lines = done.err.splitlines()
    told = [line for line in lines if not line.startswith("import time:")]
    assert said in done.out + "\n".join(told)
    assert "Traceback" not in done.out + done.err
    assert earlier.left() == before
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines} & {*slow, "pipeline"}
    assert loaded == {"pipeline"}
