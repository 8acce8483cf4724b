import numpy as np

from pipeline.engine.batches import evaluation_batches, training_batches

LENGTHS = np.random.default_rng(0).integers(5, 60, 1003).tolist()


def test_every_example_is_in_one_batch() -> None:
    batches = training_batches(LENGTHS, 32, seed=1, epoch=1)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    assert sorted(map(len, batches)) == [11] + [32] * 31


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
