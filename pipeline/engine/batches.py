"""Which rows go together: batches of like length, in an order that depends on seed and epoch alone."""

from collections.abc import Sequence

import numpy as np

_JITTER = 0.1  # relative; enough that neighbours change from epoch to epoch, too little to cost padding


def training_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Group all examples by like length, then shuffle the batches.

    Args:
        lengths: Sub-tokens of each example.
        batch_size: Examples a batch; the last may be smaller.
        seed: Of the training.
        epoch: From 1; every epoch has batches of its own.

    Returns:
        Indices into `lengths`, each once.
    """
    random = np.random.default_rng([seed, epoch])
    noisy = np.asarray(lengths) * random.uniform(1 - _JITTER, 1 + _JITTER, len(lengths))
    order = random.permutation(len(lengths))
    order = order[np.argsort(noisy[order], kind="stable")]
    batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    random.shuffle(batches)
    return batches


def evaluation_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Group all examples by length, longest first, so that running out of memory shows at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
