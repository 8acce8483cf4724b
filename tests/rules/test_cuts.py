"""Where slow tests kill a pass there is something to kill it at: they run too seldom to tell when it has moved."""

import importlib
from operator import attrgetter

import pytest

from tests.faults.test_passes import STEPS


@pytest.mark.parametrize("step", STEPS)
def test_a_place_where_a_pass_is_cut_off_is_there(step: str) -> None:
    module, _, path = STEPS[step][1].partition(":")
    assert callable(attrgetter(path)(importlib.import_module(module)))
