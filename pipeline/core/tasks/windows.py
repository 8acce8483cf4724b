"""A text that is longer than the model reads, cut into windows, so that every word stands in one with some context."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A stretch of a text, and the words that are answered from it; all places are sub-tokens of the text."""

    start: int
    end: int
    """Exclusive."""
    words: list[int] = field(default_factory=list)
    """In their order; each word of a text belongs to one of its windows."""


def windows(firsts: Sequence[int], lasts: Sequence[int], size: int, room: int, overlap: int) -> list[Window]:
    """Cut a text into windows. A text that fits is one.

    All windows but the first begin with a word. A word that fits into a window stands whole in one at least. It is
    answered from the window in which it is farthest from an edge behind which the text goes on.

    Args:
        firsts, lasts: Where the first and the last sub-token of each word are, in the order of the text.
        size: Sub-tokens of the text.
        room: Sub-tokens of a window, at least 1.
        overlap: Sub-tokens that neighbouring windows share, or fewer, at most half of `room`.

    Returns:
        Those from which a word is answered, in the order of the text; of a text without words the first one.
    """
    found = [Window(start=start, end=min(start + room, size)) for start in _starts(firsts, lasts, size, room, overlap)]
    best: dict[int, tuple[float, Window]] = {}
    for window in found:
        for word in range(bisect_left(firsts, window.start), bisect_left(firsts, window.end)):
            before = firsts[word] - window.start if window.start > 0 else size
            behind = window.end - 1 - lasts[word] if window.end < size else size
            distance = min(before, behind)
            if word not in best or distance > best[word][0]:
                best[word] = (distance, window)
    for word, (_, window) in best.items():
        window.words.append(word)
    return [window for window in found if window.words] or found[:1]


def _starts(firsts: Sequence[int], lasts: Sequence[int], size: int, room: int, overlap: int) -> list[int]:
    """Where the windows begin."""
    starts = [0]
    while (end := starts[-1] + room) < size:
        last = bisect_right(firsts, end) - 1  # the word that the end cuts, or the first one behind it
        if last < 0:
            break
        first, behind = firsts[last], lasts[last] + 1
        if first <= starts[-1]:  # a word that is longer than a window: nothing more is read of it
            if behind >= size or last + 1 == len(firsts):
                break
            starts.append(firsts[last + 1])
            continue
        wanted = bisect_left(firsts, max(end - overlap, behind - room))
        starts.append(firsts[min(wanted, last)])
    return starts
