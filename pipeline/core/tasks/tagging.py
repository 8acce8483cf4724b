"""A BIO tag for every word of a sentence: entities of several types."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config import TaskConfig
from pipeline.core.data.rows import WARNING, Dataset, Row, Split
from pipeline.core.tasks import metrics
from pipeline.core.tasks.faults import row_fault, shorten, unlisted_faults, unseen_faults
from pipeline.core.tasks.figures import Entities, Figure
from pipeline.core.tasks.metrics import spans
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.scores import Scores
from pipeline.core.tasks.sequences import likeliest, span_probabilities
from pipeline.core.tasks.task import Answer, Batch, Encoded, Example, Output, RightCounts, Task, shares_of
from pipeline.core.tasks.tensors import (
    cross_entropy,
    held_back,
    mean_of,
    of_examples,
    owners,
    pad_inputs,
    pieces,
    to_arrays,
    truncated,
)
from pipeline.core.tasks.windows import windows
from pipeline.errors import ConfigError, DataError, Fault, fault

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_UNSPACED = (
    *("CJK ", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "IDEOGRAPHIC", "BOPOMOFO", "THAI ", "LAO ", "KHMER "),
    *("MYANMAR ", "TIBETAN ", "TAI ", "NEW TAI ", "JAVANESE ", "BALINESE "),
)
"""How the Unicode names of letters begin whose words have no blanks between them."""


@final
class Tagging(Task):
    """Softmax over the tags from one sub-token of each word; the word's other sub-tokens have no target.

    It is the first one, as is usual, but in a decoder the last, which alone has seen the whole word.

    `labels` are the tags: O, then B- and I- of every entity type; those of a head from elsewhere may come in any
    order. Of all sequences of tags that are BIO, the likeliest is predicted: an I- tag never stands where none of its
    type is open. A row that is longer than the model reads is trained on as far as that goes, and answered in windows
    that share `stride` sub-tokens, at most half of what they hold: each word from the one in which it stands farthest
    from an edge. A word that has no sub-token is predicted O; of one longer than a window the beginning is read.

    Raises a ConfigError where the labels are no tags in BIO, as in a head that knows no O.
    """

    has_labels = True
    label_name = "entity type"
    pipeline_tag = "token-classification"

    def __init__(
        self, config: TaskConfig, labels: Sequence[str] = (), shares: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(config, labels, shares)
        if self.labels and (rule := _not_bio(self.labels)):
            remedy = "Use a head whose outputs are O, and B-<type> and I-<type> of every type"
            raise ConfigError(fault(f"task.{config.name}: tags", ", ".join(self.labels), rule, remedy))
        follows = [[tag[:2] != "I-" or tag[2:] == before[2:] for tag in self.labels] for before in self.labels]
        self._follows_LL = np.array(follows, dtype=np.bool_).reshape(len(self.labels), len(self.labels))

    @classmethod
    def from_rows(cls, config: TaskConfig, rows: Sequence[Row]) -> Self:
        shares = shares_of(tag for row in rows for tag in row.fields["tags"])
        types = config.labels if config.labels is not None else sorted({tag[2:] for tag in shares if tag != "O"})
        return cls(config, ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")], shares)

    @classmethod
    def input_faults(cls, row: Row) -> Iterator[Fault]:
        tokens = row.fields["tokens"]
        if not tokens:
            yield row_fault(row, "", "has no tokens", "Give at least one token, or remove the row")
        for i, token in enumerate(tokens):
            if not token.strip():
                rule = f"has an empty token at position {i + 1}"
                yield fault(row.at(i), token, rule, "Remove the token, and its tag with it")
                return

    @classmethod
    def target_faults(cls, row: Row) -> Iterator[Fault]:
        tokens, tags = row.fields["tokens"], row.fields["tags"]
        if len(tokens) != len(tags):
            yield row_fault(row, "", f"has {len(tokens)} tokens and {len(tags)} tags", "Give one tag for each token")
            return
        for i, (before, tag) in enumerate(pairwise(["O", *tags])):
            place = f"tag {i + 1}, of {tokens[i]!r}"
            if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
                rule = f"({place}) is no BIO tag: a tag is O, B-<type> or I-<type>"
                yield fault(
                    row.at(i),
                    shorten(tag),
                    rule,
                    "Write the tags in BIO; tags of single words, such as parts of speech, are no kind of task",
                )
                return
            if tag.startswith("I-") and before[2:] != tag[2:]:
                rule = f"({place}) stands after {before!r}, where no {tag[2:]!r} is open; nothing is repaired"
                yield fault(row.at(i), shorten(tag), rule, f"Write B-{tag[2:]} where the entity begins")
                return

    @classmethod
    def split_faults(cls, config: TaskConfig, dataset: Dataset, known: Collection[str] = ()) -> Iterator[Fault]:
        found = _first_rows(dataset.train)
        yield from unlisted_faults(config, found, what="entity type")
        if not found and not known:
            rule = "has no entity in any row: every tag is O"
            yield row_fault(dataset.train.rows[0], "", rule, "Add training rows with entities")
        seen = {*found, *known}
        yield from unseen_faults(config, dataset, seen, _types_of, what="entity type", first_rows=_first_rows)

    def notes(self, dataset: Dataset) -> Iterator[str]:
        """As of any labels, and where each row of train is one token, as of files with a token a row."""
        yield from super().notes(dataset)
        rows = dataset.train.rows
        if len(rows) > 1 and all(len(row.fields["tokens"]) == 1 for row in rows):
            said = f"each of the {len(rows)} rows of train has one token"
            yield f"{WARNING}{said}. A row is a whole sentence, with a list of its tokens."

    def text_of(self, row: Row) -> str:
        """The tokens with blanks between them, which is how they are read."""
        return " ".join(row.fields["tokens"])

    def labels_of(self, row: Row) -> tuple[str, ...]:
        """The types of its entities."""
        return tuple(_types_of(row))

    def names(self) -> list[str]:
        """The types that its tags are of."""
        return list(dict.fromkeys(tag[2:] for tag in self.labels if tag != "O"))

    def outputs_of(self, names: Collection[str]) -> set[str]:
        """Both tags of each type."""
        return {tag for tag in self.labels if tag != "O" and tag[2:] in names}

    def example(self, row: Row) -> str:
        return self.text_of(row)

    def parse_item(self, item: Any, *, where: str = "ITEM") -> Row:
        """As for any task, and a `text` may stand for the tokens; of a text that is split into tokens the row keeps the
        text itself, as `text`.

        Raises:
            DataError: Also where words cannot be told in the text, since its script has no blanks between them.
        """
        column = self.config.field_names["tokens"]
        if isinstance(item, Mapping) and not {column, "tokens"} & {*item} and isinstance(item.get("text"), str):
            item = {"tokens": item["text"], "id": item.get("id")}
        text = item.get(column, item.get("tokens")) if isinstance(item, Mapping) else item
        if isinstance(text, str) and (unsplit := next(filter(_is_unspaced, map(text.__getitem__, _words(text))), "")):
            rule = "is in a script without blanks between words, which are not told here"
            raise DataError(fault(where, unsplit[:60], rule, f'Give the words: {{"{column}": ["...", "..."]}}'))
        row = super().parse_item(item, where=where)
        return replace(row, fields={**row.fields, "text": text}) if isinstance(text, str) else row

    def parse_field(self, name: str, value: Any) -> Any:
        """Split a text into words and punctuation marks; a list of tokens stays as it is."""
        return [value[place] for place in _words(value)] if isinstance(value, str) else value

    def encode(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Tokenise the rows, long ones in windows; `words` are those that are answered from an example, `firsts` and
        `lasts` where their sub-tokens are in it.

        As one text with blanks between the words, which is what every family was pretrained on: word by word, Llama's
        and GPT's tokenizers would take each for the middle of one.
        """
        return self._encode(rows, tokenizer(self._sentences(rows), verbose=False), self.limit(tokenizer))

    def encode_train(self, rows: Sequence[Row], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
        """Tokenise the beginning of each row, as far as the model reads."""
        limit = self.limit(tokenizer)
        encoded = tokenizer(self._sentences(rows), truncation="longest_first", max_length=limit)
        return replace(self._encode(rows, encoded, limit), truncated=truncated(encoded.encodings))

    def _sentences(self, rows: Sequence[Row]) -> list[str]:
        return [self.text_of(row) for row in rows]

    def _encode(self, rows: Sequence[Row], encoded: "BatchEncoding", limit: int) -> Encoded:
        """Cut tokenised rows into windows of `limit` sub-tokens, the special ones among them."""
        examples: list[Example] = []
        cut: set[int] = set()
        for i, (row, encoding) in enumerate(zip(rows, encoded.encodings or (), strict=True)):
            inside = [place for place, part in enumerate(encoding.sequence_ids) if part is not None]
            head, size = (inside[0], inside[-1] + 1 - inside[0]) if inside else (len(encoding.ids), 0)
            first: dict[int, int] = {}
            last: dict[int, int] = {}
            behind = list(accumulate(len(token) + 1 for token in row.fields["tokens"]))
            for place in range(size):
                start, end = encoding.offsets[head + place]
                if start < end:  # its last character, for the first may be the blank before it
                    word = bisect_right(behind, end - 1)
                    first.setdefault(word, place)
                    last[word] = place
            words, firsts, lasts = list(first), list(first.values()), [last[word] for word in first]
            room = max(limit - (len(encoding.ids) - size), 1)
            whole: Example = pieces(encoded, i)
            tags = row.fields.get("tags", [None])
            for one in windows(firsts, lasts, size, room, min(self.config.stride, room // 2)):
                kept = [slice(head), slice(head + one.start, head + one.end), slice(head + size, None)]
                read: Example = {name: [piece for part in kept for piece in ids[part]] for name, ids in whole.items()}
                if any(lasts[word] >= one.end for word in one.words):
                    cut.add(i)
                example = {"row": i, "length": len(read["input_ids"]), **read}
                example["words"] = [words[word] for word in one.words]
                example["firsts"] = [head + firsts[word] - one.start for word in one.words]
                example["lasts"] = [head + min(lasts[word], one.end - 1) - one.start for word in one.words]
                if all(tag in self.number for tag in tags):
                    example["labels"] = [self.number[tags[word]] for word in example["words"]]
                examples.append(example)
        return Encoded(examples=examples, num_rows=len(rows), truncated=frozenset(cut))

    def truncation(self, tokenizer: "PreTrainedTokenizerBase") -> str:
        """Of rows that are trained on: answers read the others in windows."""
        return f"read to the end in answers, and {super().truncation(tokenizer)} in training"

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Besides the inputs, of all N words: `example_of`, `firsts` and `lasts`, the places of those sub-tokens in it,
        and `labels`; and `sizes`, (B,), the words of each example."""
        batch = {**of_examples(examples), **pad_inputs(examples, pad_token_id)}
        sizes = [len(example["words"]) for example in examples]
        batch["sizes"], batch["example_of"] = torch.tensor(sizes), owners(sizes)
        for name in ("firsts", "lasts"):
            places = [place for example in examples for place in example[name]]
            batch[name] = torch.tensor(places, dtype=torch.long)
        if all("labels" in example for example in examples):
            labels = [tag for example in examples for tag in example["labels"]]
            batch["labels"] = torch.tensor(labels, dtype=torch.long)
        return batch

    def head(self, hidden_size: int, dropout: float) -> LinearHead:
        return LinearHead(hidden_size, len(self.labels), dropout=dropout, shares=self.prior())

    def loss(self, model: TaskModel, batch: Batch) -> tuple[Tensor, int]:
        logits_NL = _logits(model, batch)
        return cross_entropy(logits_NL, batch["labels"], batch), len(logits_NL)

    @torch.no_grad()
    def outputs(self, model: TaskModel, batch: Batch) -> list[Output]:
        """Logits over the tags of every word that the model sees, (words, tags) each."""
        logits_NL = _logits(model, batch)
        return to_arrays(logits_NL, batch["sizes"].tolist())

    def tuned(
        self, model: TaskModel, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]
    ) -> Sequence[Output]:
        if not self.fresh:
            return outputs
        tags = [rows[example["row"]].fields["tags"] for example in encoded.examples]
        targets = [of[word] for of, example in zip(tags, encoded.examples, strict=True) for word in example["words"]]
        held_L = held_back(model, self.labels, self.fresh, targets, np.concatenate(outputs))
        return [logits_WL - held_L for logits_WL in outputs]

    def loss_of(self, examples: Sequence[Example], outputs: Sequence[Output]) -> float:
        """As in training a target is a word; one that stands in two windows of a long row counts once in each."""
        return mean_of(
            F.cross_entropy(torch.from_numpy(logits_WL), torch.tensor(example["labels"]), reduction="none")
            for example, logits_WL in zip(examples, outputs, strict=True)
            if example.get("labels")
        )

    def answers(self, rows: Sequence[Row], encoded: Encoded, outputs: Sequence[Output]) -> list[Answer]:
        """`{"tags": [one a token], "entities": [{"type", "text", "start", "end", "start_char", "end_char", "score"}]}`.

        Start and end are counted in tokens and in characters of the text, the ends exclusive; the entity's text is
        what stands there, and its score the probability that it stands exactly there. Where the row was given as
        tokens, its text has blanks between them; where it was given as a text, the answer has its `tokens` too.
        """
        answers: list[Answer] = []
        windows_of: dict[int, list[tuple[Example, Output]]] = {}
        for example, logits_WL in zip(encoded.examples, outputs, strict=True):
            windows_of.setdefault(example["row"], []).append((example, logits_WL))
        for i, row in enumerate(rows):
            fields = row.fields
            tokens, text = fields["tokens"], fields.get("text", " ".join(fields["tokens"]))
            scores_TL = np.full((len(tokens), len(self.labels)), -np.inf, dtype=np.float32)
            scores_TL[:, self.number["O"]] = 0.0  # all that a word without logits can be
            for example, logits_WL in windows_of[i]:
                scores_TL[example["words"]] = logits_WL
            numbers = likeliest(scores_TL, self._follows_LL, self.number["O"])
            tags = [self.labels[number] for number in numbers]
            found = spans(tags)
            scores = span_probabilities(scores_TL, self._follows_LL, self.number["O"], numbers, found)
            places = _words(text) if "text" in fields else _places(tokens)
            entities: list[dict[str, Any]] = []
            for (type_, start, end), score in zip(found, scores, strict=True):
                first, last = places[start].start, places[end - 1].stop
                chars = {"start_char": first, "end_char": last}
                one = {"type": type_, "text": text[first:last], "start": start, "end": end, **chars, "score": score}
                entities.append(one)
            answers.append({"tags": tags, "entities": entities, **({"tokens": tokens} if "text" in fields else {})})
        return answers

    @classmethod
    def parts(cls, row: Row, answer: Answer) -> list[dict[str, Any]]:
        """`[{entity_group, score, word, start, end}]`, in characters of the text."""
        names = {"entity_group": "type", "score": "score", "word": "text", "start": "start_char", "end": "end_char"}
        return [{name: one[key] for name, key in names.items()} for one in answer["entities"]]

    def score(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Scores:
        """Micro F1, precision and recall of entities; the baseline, every word O, has an F1 of 0."""
        gold = [row.fields["tags"] for row in rows]
        predicted = [answer["tags"] for answer in answers]
        counts = metrics.span_counts([spans(tags) for tags in gold], [spans(tags) for tags in predicted])
        found = metrics.found_entities(gold, predicted)
        return self.scores(metrics.span_scores(gold, predicted), counts, metrics.f1_of, baseline=0.0, found=found)

    def right_counts(self, rows: Sequence[Row]) -> RightCounts:
        """A row without an entity carries nothing."""
        gold = [spans(row.fields["tags"]) for row in rows]
        return metrics.span_counts(gold, gold), metrics.f1_of, ()

    def figures(self, gold: Sequence[Any], answers: Sequence[Answer]) -> Iterator[Figure]:
        yield Entities(scores=metrics.entity_scores(gold, [answer["tags"] for answer in answers]))


def _words(text: str) -> list[slice]:
    """Where the words and punctuation marks of a text stand.

    Marks stay with the letter before them, which in many scripts are its vowels, and so do characters that have no
    width, such as those that join letters: `\\w` alone would tear a word at each of them.
    """
    bound = "".join(re.escape(one) for one in sorted({*text}) if unicodedata.category(one) in ("Mn", "Mc", "Me", "Cf"))
    more = f"[{bound}]*" if bound else ""
    return [slice(*found.span()) for found in re.finditer(rf"(?:\w{more})+|[^\w\s]{more}", text)]


def _places(tokens: Sequence[str]) -> list[slice]:
    """Where the tokens stand in a text in which there is a blank between each two."""
    ends = list(accumulate(len(token) + 1 for token in tokens))
    return [slice(end - len(token) - 1, end - 1) for end, token in zip(ends, tokens, strict=True)]


def _is_unspaced(word: str) -> bool:
    """Whether what looks like one word may be many: it has several letters of a script without blanks between words."""
    letters = [one for one in word if one.isalpha() and unicodedata.name(one, "").startswith(_UNSPACED)]
    return len(letters) > 1


def _logits(model: TaskModel, batch: Batch) -> Tensor:
    """The tags' logits for each word of the batch, (N, L)."""
    places_N = batch["lasts" if model.anatomy.kind == "decoder" else "firsts"]
    return model.logits(model.hidden(batch)[batch["example_of"], places_N])


def _not_bio(tags: Sequence[str]) -> str:
    """Say why entities cannot be told by these tags; empty where they can."""
    if "O" not in tags:
        return "have no O, which a word outside all entities has"
    for tag in tags:
        if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
            return f"are not BIO: {tag} is neither O nor B-<type> nor I-<type>"
        if tag[:2] == "I-" and f"B-{tag[2:]}" not in tags:
            return f"are not BIO: there is {tag} and no B-{tag[2:]}, with which an entity begins"
    return ""


def _types_of(row: Row) -> list[str]:
    """The type of each entity of a row."""
    return [type_ for type_, _, _ in spans(row.fields["tags"])]


def _first_rows(split: Split) -> dict[str, Row]:
    """Entity type -> the first row of the split with it, at the place of its tag."""
    found: dict[str, Row] = {}
    for row in split.rows:
        for i, tag in enumerate(row.fields["tags"]):
            if tag != "O" and tag[2:] not in found:
                found[tag[2:]] = replace(row, origin=row.at(i))
    return found
