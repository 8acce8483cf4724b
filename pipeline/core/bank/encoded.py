"""Rows that were encoded before they are asked: apart while they wait, and together in the batch that answers them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.core.tasks.task import Encoded, Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def one_by_one(encoded: Encoded) -> list[Encoded]:
    """Take rows apart that were encoded together: each alone, with all its examples."""
    examples: list[list[Example]] = [[] for _ in range(encoded.num_rows)]
    for example in encoded.examples:
        examples[example["row"]].append({**example, "row": 0})
    return [
        Encoded(
            examples=some,
            num_rows=1,
            truncated=frozenset([0] if row in encoded.truncated else []),
            tokenizer=encoded.tokenizer,
        )
        for row, some in enumerate(examples)
    ]


def joined(rows: Sequence[Encoded], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
    """Put rows together, in their order, as if they had been encoded together.

    Args:
        tokenizer: Reads outputs that are sub-tokens. It is not the one that encoded the rows: another thread may be
            using that.
    """
    return Encoded(
        examples=[{**one, "row": number} for number, row in enumerate(rows) for one in row.examples],
        num_rows=len(rows),
        truncated=frozenset(number for number, row in enumerate(rows) if row.truncated),
        tokenizer=tokenizer if any(row.tokenizer is not None for row in rows) else None,
    )


def num_tokens(row: Encoded) -> int:
    """Sub-tokens that the model reads of a row: of all its windows, or of all its options, padded to the longest."""
    return sum(one["length"] * len(one.get("inputs", [one])) for one in row.examples)
