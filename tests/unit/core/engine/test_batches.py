import threading

import numpy as np
import pytest

from pipeline.core.engine.batches import evaluation_batches, made_ahead, training_batches

LENGTHS = np.random.default_rng(0).integers(5, 60, 1003).tolist()


def test_every_example_is_in_one_batch() -> None:
    batches = training_batches(LENGTHS, 32, seed=1, epoch=1)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    assert sorted(map(len, batches)) == [31] * 21 + [32] * 11


@pytest.mark.parametrize(("num", "size"), [(513, 16), (17, 16), (16, 16), (5, 16), (1, 4), (33, 8), (7, 1)])
def test_no_example_has_the_weight_of_many(num: int, size: int) -> None:
    lengths, epochs = list(range(5, 5 + num)), range(1, 201)
    weights = np.zeros((len(epochs), num))  # a batch's loss is the mean of its rows'
    for epoch in epochs:
        batches = training_batches(lengths, size, 0, epoch)
        assert len(batches) == -(-num // size)
        assert max(map(len, batches)) <= size and max(map(len, batches)) - min(map(len, batches)) <= 1
        assert sorted(i for batch in batches for i in batch) == list(range(num))
        for batch in batches:
            weights[epoch - 1, batch] = num / len(batches) / len(batch)
    means = weights.mean(0)  # whether short or long, over the epochs every row counts alike
    assert 0.85 < means.min() <= means.max() < 1.15


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    assert training_batches(LENGTHS, 32, 1, 1) == training_batches(LENGTHS, 32, 1, 1)
    assert training_batches(LENGTHS, 32, 1, 1) != training_batches(LENGTHS, 32, 1, 2)
    assert training_batches(LENGTHS, 32, 1, 1) != training_batches(LENGTHS, 32, 2, 1)


def test_padding_is_under_a_tenth_and_batches_come_in_no_order_of_length() -> None:
    batches = training_batches(LENGTHS, 32, 1, 1)
    padded = sum(len(batch) * max(LENGTHS[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(LENGTHS)
    means = [np.mean([LENGTHS[i] for i in batch]) for batch in batches]
    assert means != sorted(means)


def test_evaluation_takes_the_longest_first() -> None:
    batches = evaluation_batches(LENGTHS, 100)
    order = [LENGTHS[i] for batch in batches for i in batch]
    assert order == sorted(LENGTHS, reverse=True)
    assert len(batches) == 11


def test_the_next_is_made_while_one_is_used() -> None:
    begun = {n: threading.Event() for n in range(3)}

    def make(n: int) -> tuple[int, str]:
        begun[n].set()
        return n, threading.current_thread().name

    made = made_ahead([0, 1, 2], make)
    assert next(made)[0] == 0
    assert begun[1].wait(10)
    assert not begun[2].is_set()
    rest = list(made)
    assert [n for n, _ in rest] == [1, 2]
    assert all(name.startswith("batches") for _, name in rest)
    assert list(made_ahead([], make)) == []


def test_what_goes_wrong_ahead_is_raised_in_its_turn_and_no_thread_stays() -> None:
    made = made_ahead([2, 1, 0], lambda n: 2 // n)
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(made)
    left = made_ahead([1, 1, 1], lambda n: n)
    next(left)
    left.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
