"""Tagging: BIO, first sub-tokens, entities, scores, learning; long texts are in `test_windows.py`."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from transformers import PreTrainedTokenizerFast

from pipeline.config import TaskConfig
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.core.tasks.tagging import Tagging
from pipeline.errors import ConfigError, DataError
from pipeline.reports.plots import answers_figure

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import AnswerAll, Learn, MakeDataset, MakeRows, Values

CONFIG = TaskConfig(name="ner", kind="tagging")
TAGS = {"anna": "B-per", "ben": "B-per", "paris": "B-loc", "rome": "B-loc"}


def sentence(text: str) -> dict[str, Any]:
    """Names and cities are entities of one word."""
    return {"tokens": text.split(), "tags": [TAGS.get(word, "O") for word in text.split()]}


TRAIN: list[Values] = [
    sentence("anna went to paris"),
    sentence("ben saw rome ."),
    sentence("the film was in paris"),
    sentence("ben met anna in rome"),
    sentence("who is it ?"),
]


def faults(make_dataset: MakeDataset, bad: Values) -> list[str]:
    with pytest.raises(DataError) as caught:
        task_for(CONFIG, make_dataset(CONFIG, [*TRAIN, bad], validation=TRAIN, test=TRAIN))
    return [str(fault) for fault in caught.value.faults]


def test_labels_are_o_and_two_a_type_sorted_or_in_the_order_of_the_config(make_dataset: MakeDataset) -> None:
    task = task_for(CONFIG, make_dataset(CONFIG, TRAIN))
    assert task.labels == ("O", "B-loc", "I-loc", "B-per", "I-per")
    config = replace(CONFIG, labels=["per", "loc"])
    assert task_for(config, make_dataset(config, TRAIN)).labels == ("O", "B-per", "I-per", "B-loc", "I-loc")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_words_are_tokenised_as_in_running_text(make_rows: MakeRows, family: str) -> None:
    """GPT-2's byte-level sub-tokens and Llama's, of which the first of a word holds the blank before it."""
    blank = "\u0120" if family == "gpt2" else "\u2581"
    pieces = ["<unk>", "s", "o", "a", "n", blank, "so", "an", f"{blank}so", f"{blank}an"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("s", "o"), ("a", "n"), (blank, "so"), (blank, "an")]
    inner = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>"))
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False) if family == "gpt2" else Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<unk>")
    (row,) = make_rows(CONFIG, [{"tokens": ["so", "an", "soan"], "tags": ["O", "O", "O"]}])
    (example,) = Tagging(CONFIG, ["O"]).encode([row], tokenizer).examples
    read = tokenizer.convert_ids_to_tokens(example["input_ids"])
    assert [read[place] for place in example["firsts"]] == [
        "so" if family == "gpt2" else blank + "so",
        blank + "an",
        blank + "so",
    ]
    assert read[-1] == "an" and example["words"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("tags", "before"), [(["O", "I-per", "O"], "O"), (["B-loc", "I-per", "O"], "B-loc"), (["I-per"] * 3, "O")]
)
def test_broken_bio_names_file_line_and_tag_and_is_not_repaired(
    make_dataset: MakeDataset, tags: list[str], before: str
) -> None:
    (message,) = faults(make_dataset, {"tokens": ["a", "anna", "b"], "tags": tags})
    assert message.startswith("train.jsonl:6: 'I-per'")
    assert f"stands after {before!r}, where no 'per' is open; nothing is repaired" in message
    assert message.endswith("Write B-per where the entity begins.")


@pytest.mark.parametrize("tag", ["per", "E-per", "B-", "B", "b-per", ""])
def test_a_tag_that_is_no_bio_is_a_fault(make_dataset: MakeDataset, tag: str) -> None:
    (message,) = faults(make_dataset, {"tokens": ["anna"], "tags": [tag]})
    assert message.startswith("train.jsonl:6:") and "is no BIO tag" in message


def test_other_bad_rows_are_faults(make_dataset: MakeDataset) -> None:
    assert faults(make_dataset, {"tokens": [], "tags": []})[0].startswith("train.jsonl:6: has no tokens.")
    assert "has 1 tokens and 2 tags" in faults(make_dataset, {"tokens": ["a"], "tags": ["O", "O"]})[0]
    assert "empty token at position 2" in faults(make_dataset, {"tokens": ["a", " "], "tags": ["O", "O"]})[0]


DISH = {"tokens": ["fine", "food"], "tags": ["B-dish", "I-dish"]}


def test_an_entity_type_that_train_lacks_names_type_line_and_remedy(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match=r"test.jsonl:6: 'dish' is no entity type of train: ") as caught:
        task_for(CONFIG, make_dataset(CONFIG, TRAIN, test=[*TRAIN, DISH]))
    assert "remove it from test, or raise data.max_unseen" in str(caught.value)


def test_a_rare_entity_type_that_train_lacks_is_counted_as_wrong_and_said_with_its_share(
    tiny_bert: TinyBert, make_dataset: MakeDataset, learn: Learn, answer_all: AnswerAll
) -> None:
    """Of slot filling: 39 types, of which a few are in validation alone."""
    dataset = make_dataset(CONFIG, TRAIN, validation=[*TRAIN * 10, DISH])
    task = task_for(CONFIG, dataset)
    number = sum(tag.startswith("B-") for row in dataset.validation.rows for tag in row.fields["tags"])
    share = f"{1 / number:.1%}"
    rule = f"no entity type of train, cannot be predicted and are counted as wrong, {share} of the entity types"
    assert list(task.notes(dataset)) == [f"'dish': {rule} of validation."]
    rows = dataset.validation.rows[-6:]
    answers = answer_all(task, learn(task, dataset.train.rows), rows)
    scores = task.score(rows, answers)
    assert scores.found["dish"] == (0, 1)
    assert 0 < scores.primary < 1
    (figure,) = task.figures([row.fields["tags"] for row in rows], answers)
    assert answers_figure(figure, job="t/d").axes


def test_an_entity_type_that_the_config_does_not_list_is_a_fault(make_dataset: MakeDataset) -> None:
    config = replace(CONFIG, labels=["per"])
    with pytest.raises(DataError, match=r"train.jsonl:1: 'loc' is no entity type of task ner, which lists per"):
        task_for(config, make_dataset(config, TRAIN))


def test_training_rows_without_any_entity_are_a_fault(make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match="has no entity in any row"):
        task_for(CONFIG, make_dataset(CONFIG, TRAIN[4:]))


def test_only_first_sub_tokens_have_targets(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    rows = make_rows(CONFIG, [{"tokens": ["zzz", "anna", "\u200d", "xy"], "tags": ["O", "B-per", "O", "B-loc"]}])
    task = Tagging(CONFIG, ["O", "B-loc", "I-loc", "B-per", "I-per"])
    encoded = task.encode(rows, tiny_bert()[1])
    (example,) = encoded.examples
    # [CLS] z ##z ##z anna x ##y [SEP]; the joiner has no sub-token
    assert example["words"] == [0, 1, 3] and example["firsts"] == [1, 4, 5]
    assert example["labels"] == [0, 3, 1]
    batch = task.collate(encoded.examples, 0)
    assert (batch["firsts"].tolist(), batch["example_of"].tolist()) == ([1, 4, 5], [0, 0, 0])
    assert batch["labels"].tolist() == [0, 3, 1]


def test_the_loss_is_the_mean_over_words(tiny_bert: TinyBert, make_rows: MakeRows, learn: Learn) -> None:
    rows = make_rows(CONFIG, TRAIN)
    task = Tagging.from_rows(CONFIG, rows)
    model = learn(task, rows, steps=0)
    batch = task.collate(task.encode(rows, tiny_bert()[1]).examples, 0)
    loss, number = task.loss(model, batch)
    outputs = task.outputs(model, batch)
    assert [len(one) for one in outputs] == [len(row["tokens"]) for row in TRAIN]
    assert number == sum(len(row["tokens"]) for row in TRAIN)
    gold = torch.tensor([task.labels.index(tag) for row in TRAIN for tag in row["tags"]])
    logits = torch.tensor(np.concatenate(outputs))
    torch.testing.assert_close(loss.detach(), torch.nn.functional.cross_entropy(logits, gold))


def test_a_batch_in_which_no_word_has_a_sub_token_has_a_loss_of_0(
    tiny_bert: TinyBert, make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    rows = make_rows(CONFIG, [{"tokens": ["\u200d"], "tags": ["O"]}])
    task = Tagging(CONFIG, ["O", "B-per", "I-per"])
    model = learn(task, rows, steps=0)
    loss, number = task.loss(model, task.collate(task.encode(rows, tiny_bert()[1]).examples, 0))
    assert (float(loss.detach()), number) == (0.0, 0)
    assert answer_all(task, model, rows) == [{"tags": ["O"], "entities": []}]


def test_it_learns_and_answers_with_tags_and_entities(make_rows: MakeRows, learn: Learn, answer_all: AnswerAll) -> None:
    rows = make_rows(CONFIG, TRAIN)
    task = Tagging.from_rows(CONFIG, rows)
    model = learn(task, rows)
    answers = answer_all(task, model, rows, batch_size=2)
    assert [answer["tags"] for answer in answers] == [row["tags"] for row in TRAIN]
    found = answers[0]["entities"]
    assert all(0.5 < entity.pop("score") <= 1 for entity in found)
    assert found == [
        {"type": "per", "text": "anna", "start": 0, "end": 1, "start_char": 0, "end_char": 4},
        {"type": "loc", "text": "paris", "start": 3, "end": 4, "start_char": 13, "end_char": 18},
    ]
    scores = task.score(rows, answers)
    assert scores.metrics == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    assert scores.primary == 1 and scores.baseline == 0


def test_the_head_begins_with_the_shares_of_the_training_tags(make_rows: MakeRows) -> None:
    task = Tagging.from_rows(CONFIG, make_rows(CONFIG, TRAIN))
    bias = task.head(32, 0.1).linear.bias
    words = [tag for row in TRAIN for tag in row["tags"]]
    for tag in ("O", "B-per", "B-loc"):
        assert bias[task.labels.index(tag)].item() == pytest.approx(np.log(words.count(tag) / len(words)))
    assert torch.equal(restore(CONFIG, task.labels).head(32, 0.1).linear.bias, torch.zeros(5))  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("दिल्ली में बारिश।", ["दिल्ली", "में", "बारिश", "।"]),
        ("தமிழ்நாடு நல்லது", ["தமிழ்நாடு", "நல்லது"]),
        ("Cafe\u0301 Zu\u0308rich.", ["Cafe\u0301", "Zu\u0308rich", "."]),
        ("می\u200cروم به خانه", ["می\u200cروم", "به", "خانه"]),
        ("مَكَّة المكرمة", ["مَكَّة", "المكرمة"]),
        ("בְּרֵאשִׁית", ["בְּרֵאשִׁית"]),
        ("서울에서 만나요", ["서울에서", "만나요"]),
        ("Don\u00adau, AT&T", ["Don\u00adau", ",", "AT", "&", "T"]),
        ("a_b 3.5 😀\ufe0f!", ["a_b", "3", ".", "5", "😀\ufe0f", "!"]),
        ("\u0301x ]^-\u0300", ["\u0301", "x", "]", "^", "-\u0300"]),
        ("the sign 馬", ["the", "sign", "馬"]),
        ("", []),
    ],
)
def test_the_words_of_a_text_are_whole_in_every_script_with_blanks(text: str, tokens: list[str]) -> None:
    assert restore(CONFIG, LABELS).parse_field("tokens", text) == tokens


@pytest.mark.parametrize(
    "text", ["東京に行く", "我在北京", "ฉันอยู่กรุงเทพ", "ຂ້ອຍຢູ່", "ខ្ញុំនៅភ្នំពេញ", "ရန်ကုန်မြို့", "ﾄｳｷｮｳ", "Visit 東京タワー!"]
)
def test_a_text_without_blanks_between_words_is_refused_and_its_tokens_are_taken(text: str) -> None:
    config = replace(CONFIG, columns={"tokens": "words"})
    for item in (text, {"words": text}, {"tokens": text}):
        with pytest.raises(DataError, match=r'TEXT: .* is in a script without blanks.* Give the words: {"words": \['):
            restore(config, LABELS).parse_item(item, where="TEXT")
    assert restore(config, LABELS).parse_item({"words": [text]}).fields == {"tokens": [text]}


@pytest.mark.parametrize(
    ("item", "text", "place"),
    [
        ("So said  O'Neill of\nAT&T .", "O'Neill", (9, 16)),
        ({"tokens": "So said  O'Neill of AT&T."}, "O'Neill", (9, 16)),
        ({"tokens": ["So", "said", "O", "'", "Neill", "of"]}, "O ' Neill", (8, 17)),
    ],
)
def test_an_entity_is_what_stands_in_the_text_and_where(
    tiny_bert: TinyBert, item: Any, text: str, place: tuple[int, int]
) -> None:
    task = restore(CONFIG, LABELS)
    row = task.parse_item(item)
    logits = np.zeros((len(row.fields["tokens"]), 5), dtype=np.float32)
    logits[:, 0], logits[2, 3], logits[3:5, 4] = 1, 9, 9
    (answer,) = task.answers([row], task.encode([row], tiny_bert()[1]), [logits])
    entity = {"type": "per", "text": text, "start": 2, "end": 5, "start_char": place[0], "end_char": place[1]}
    assert answer["entities"] == [{**entity, "score": pytest.approx(0.82, abs=0.02)}]
    given = item["tokens"] if isinstance(item, dict) else item
    assert isinstance(given, list) or given[slice(*place)] == text
    assert answer.get("tokens") == (None if isinstance(given, list) else row.fields["tokens"])


def decode(tiny_bert: TinyBert, make_rows: MakeRows, words: str, logits: Any) -> list[str]:
    """The tags that PER and LOC logits of the words are turned into."""
    task = restore(CONFIG, LABELS)
    rows = make_rows(CONFIG, [sentence(words)])
    (answer,) = task.answers(rows, task.encode(rows, tiny_bert()[1]), [np.asarray(logits, dtype=np.float32)])
    tags: list[str] = answer["tags"]
    return tags


LABELS = ["O", "B-loc", "I-loc", "B-per", "I-per"]


@pytest.mark.parametrize(
    ("logits", "tags"),
    [
        ([[5, 0, 0, 0, 0], [0, 0, 0, 1, 4]], ["O", "B-per"]),  # the next best that is BIO
        ([[5, 0, 0, 4.5, 0], [0, 0, 0, 0, 4]], ["B-per", "I-per"]),  # or the word before was the mistake
        ([[0, 0, 0, 0, 9], [0, 0, 0, 0, 9]], ["B-per", "I-per"]),  # nothing is open at the beginning
        ([[0, 9, 0, 0, 0], [1, 0, 0, 0, 9]], ["B-loc", "O"]),  # I- of another type
        ([[0, 9, 0, 0, 0], [0, 0, 9, 1, 0]], ["B-loc", "I-loc"]),
    ],
)
def test_predicted_tags_are_the_likeliest_that_are_bio(
    tiny_bert: TinyBert, make_rows: MakeRows, logits: Any, tags: list[str]
) -> None:
    assert decode(tiny_bert, make_rows, "anna ben", logits) == tags


def test_no_sequence_of_bio_tags_has_a_higher_score(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    valid = [
        numbers
        for numbers in product(range(5), repeat=4)
        if all(
            LABELS[tag][:2] != "I-" or (LABELS[before] != "O" and LABELS[before][2:] == LABELS[tag][2:])
            for before, tag in pairwise((0, *numbers))
        )
    ]
    differ = 0
    for seed in range(30):
        logits = np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32)
        best = max(valid, key=lambda numbers: sum(logits[i, number] for i, number in enumerate(numbers)))
        assert decode(tiny_bert, make_rows, "anna ben carl dora", logits) == [LABELS[number] for number in best]
        differ += tuple(logits.argmax(-1)) != best
    assert differ > 10


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 1, 3, 0]])
def test_the_answer_is_the_same_whatever_the_order_of_a_heads_labels(
    make_rows: MakeRows, tiny_bert: TinyBert, order: list[int]
) -> None:
    rows = make_rows(CONFIG, [sentence("anna ben carl dora")])
    ours, theirs = restore(CONFIG, LABELS), restore(CONFIG, [LABELS[number] for number in order])
    encoded = ours.encode(rows, tiny_bert()[1])
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32)
        (their,), (our,) = theirs.answers(rows, encoded, [logits[:, order]]), ours.answers(rows, encoded, [logits])
        for one, other in zip(their["entities"], our["entities"], strict=True):
            assert one.pop("score") == pytest.approx(other.pop("score"))  # sums in another order
        assert their == our


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (["B-per", "I-per"], "have no O"),
        (["O", "PER", "LOC"], "are not BIO: PER is neither O nor"),
        (["O", "S-per", "B-per", "I-per"], "are not BIO: S-per is neither O nor"),
        (["I-per", "O"], "are not BIO: there is I-per and no B-per"),
        (["O", "B-"], "are not BIO: B- is neither O nor"),
    ],
)
def test_a_head_whose_outputs_are_no_bio_tags_is_refused(labels: list[str], rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"task\.ner: tags: '{', '.join(labels)}' {rule}.* Use a head whose outputs"):
        restore(CONFIG, labels)
    assert restore(CONFIG, ["B-per", "O"]).labels == ("B-per", "O")


def test_a_word_without_a_sub_token_is_o_and_ends_the_entity(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    logits = [[0, 0, 0, 9, 0], [0, 0, 0, 1, 9]]
    assert decode(tiny_bert, make_rows, "anna \u200d ben", logits) == ["B-per", "O", "B-per"]


def test_right_answers_have_the_counts_that_are_said_of_them_without_a_model(make_rows: MakeRows) -> None:
    task, rows = restore(CONFIG, ["O", "B-loc", "I-loc", "B-per", "I-per"]), make_rows(CONFIG, TRAIN)
    scores = task.score(rows, [{"tags": row.fields["tags"]} for row in rows])
    counts, statistic, labels = task.right_counts(rows)
    assert counts.tolist() == scores.counts.tolist() == [[2, 2, 2], [2, 2, 2], [1, 1, 1], [3, 3, 3], [0, 0, 0]]
    assert (statistic, labels) == (scores.statistic, scores.labels)


def test_the_interval_spans_the_score(make_rows: MakeRows) -> None:
    task = restore(CONFIG, ["O", "B-per", "I-per"])
    rows = make_rows(CONFIG, [sentence("anna met ben")] * 50)
    hit, half, miss = ["B-per", "O", "B-per"], ["B-per", "O", "O"], ["O", "B-per", "O"]
    answers = [{"tags": tags} for tags in [*[hit] * 30, *[half] * 10, *[miss] * 10]]
    scores = task.score(rows, answers)
    assert scores.primary == pytest.approx(2 * 70 / (100 + 80))
    assert 0.6 < scores.low < scores.primary < scores.high < 0.95


def test_items_and_rows_with_unknown_tags_are_answered(
    make_rows: MakeRows, learn: Learn, answer_all: AnswerAll
) -> None:
    rows = make_rows(CONFIG, TRAIN)
    task = Tagging.from_rows(CONFIG, rows)
    model = learn(task, rows)
    strange = make_rows(CONFIG, [{"tokens": ["anna"], "tags": ["B-dish"]}])
    answers = answer_all(task, model, [task.parse_item("Anna, Paris"), *strange])
    assert [answer["tags"] for answer in answers] == [["B-per", "O", "B-loc"], ["B-per"]]


def test_a_task_pickles(make_rows: MakeRows) -> None:
    task = Tagging.from_rows(CONFIG, make_rows(CONFIG, TRAIN))
    assert pickle.loads(pickle.dumps(task)).labels == task.labels


def test_what_a_warm_start_has_learnt_may_be_missing_in_train(make_dataset: MakeDataset) -> None:
    other = [*TRAIN, {"tokens": ["fine", "food"], "tags": ["B-dish", "I-dish"]}]
    assert task_for(CONFIG, make_dataset(CONFIG, TRAIN, test=other), known=["dish"]).labels
    assert task_for(CONFIG, make_dataset(CONFIG, TRAIN[4:]), known=["per"]).config == CONFIG
