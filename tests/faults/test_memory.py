"""Trials at once on one node cost one checkpoint, and each an increment without one."""

import pytest

from tests.bench.memory import Memory, Node

pytestmark = pytest.mark.faults

COUNT = 3


@pytest.fixture(scope="module")
def node() -> Node:
    return Node(["tasks=[sentiment]", "data.max_train_rows=32"])


def test_more_trials_map_the_same_checkpoint_and_private_copies_would_show(node: Node) -> None:
    shared, own = ({count: node.measure(count, own) for count in (1, COUNT)} for own in (False, True))
    for memory in shared.values():
        assert memory.weights == pytest.approx(node.size, rel=0.1)

    def increment(found: dict[int, Memory]) -> float:
        """What one more trial costs altogether, wherever its pages are counted."""
        return (found[COUNT].sum - found[1].sum) / (COUNT - 1)

    # All else is alike, so that the difference is the checkpoint that is not copied.
    assert increment(own) - increment(shared) == pytest.approx(node.size, rel=0.2)
