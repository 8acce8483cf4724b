"""Of all sequences of tags that may be: which is the likeliest, and how likely its entities are.

A tag has a logit for each token, and of two neighbouring tags the second may follow the first or not. The probability
of a sequence is the product of its tags' probabilities, over the same sum of all sequences in which each tag may follow
the one before it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.tasks.metrics import Span
from pipeline.core.tasks.task import Output
from pipeline.core.tasks.tensors import softmax

_LEAST = 1e-90
"""Taken for the probability of a tag that is less likely, so that no sum over sequences is 0."""


def likeliest(logits_TL: Output, follows_LL: NDArray[np.bool_], outside: int) -> list[int]:
    """The likeliest sequence of tags (Viterbi 1967).

    Args:
        logits_TL: Logit of each tag for each token; what a softmax would subtract is the same for all tags.
        follows_LL: Whether the second tag may follow the first.
        outside: The tag that stands before the first token, as it were.
    """
    penalty_LL = np.where(follows_LL, 0.0, -np.inf).astype(np.float32)
    best_L = logits_TL[0] + penalty_LL[outside]
    before_TL = []
    for logits_L in logits_TL[1:]:
        paths_LL = best_L[:, None] + penalty_LL
        before_TL.append(paths_LL.argmax(0))
        best_L = paths_LL.max(0) + logits_L
    tags = [int(best_L.argmax())]
    for before_L in reversed(before_TL):
        tags.append(int(before_L[tags[-1]]))
    return tags[::-1]


def span_probabilities(
    logits_TL: Output, follows_LL: NDArray[np.bool_], outside: int, tags: Sequence[int], found: Sequence[Span]
) -> list[float]:
    """The probability of each entity: that its tags stand where they do, and that it does not go on behind them.

    Sums over all sequences by the forward and backward recursions (Rabiner 1989, section III.A). Tags are a Markov
    chain, so that what stands behind a tag depends on it alone.

    Args:
        logits_TL, follows_LL, outside: As of `likeliest`.
        tags: Tag of each token.
        found: The entities in these tags; behind its first tag an entity has the inner tag of its type alone.
    """
    if not found:
        return []
    likely_TL, may_LL = np.maximum(softmax(logits_TL), _LEAST), follows_LL.astype(np.float64)
    num_tokens = len(likely_TL)
    behind_TL = np.ones_like(likely_TL)
    """What may come behind each tag, up to a factor a token."""
    for t in range(num_tokens - 1, 0, -1):
        weight_L = may_LL @ (likely_TL[t] * behind_TL[t])
        behind_TL[t - 1] = weight_L / weight_L.max()
    before_L = may_LL[outside]
    share_TL = np.empty_like(likely_TL)
    """The probability of each tag, whatever the others are."""
    for t in range(num_tokens):
        ahead_L = before_L * likely_TL[t]
        share_L = ahead_L * behind_TL[t]
        share_TL[t] = share_L / share_L.sum()
        before_L = (ahead_L / ahead_L.sum()) @ may_LL

    def next_(t: int) -> NDArray[np.float64]:
        """The probability of each tag of token `t`, given the tag before it."""
        weight_L = may_LL[tags[t - 1]] * likely_TL[t] * behind_TL[t]
        return np.asarray(weight_L / weight_L.sum())

    scores = []
    for _, start, end in found:
        score = share_TL[start, tags[start]]
        for t in range(start + 1, end):
            score *= next_(t)[tags[t]]
        if end < num_tokens:
            goes_on_L = ~follows_LL[outside] & follows_LL[tags[end - 1]]
            score *= 1 - next_(end)[goes_on_L].sum()
        scores.append(float(score))
    return scores
