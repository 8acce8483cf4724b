"""Generation: templates, bad rows, encoding, scores."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pipeline.config import TaskConfig
from pipeline.config.strict import build
from pipeline.core.tasks import metrics
from pipeline.core.tasks.generation import Generation, render
from pipeline.core.tasks.kinds import task_for
from pipeline.core.tasks.task import Encoded
from pipeline.errors import CheckpointError, ConfigError, DataError, PipelineError
from tests import writers
from tests.writers import PLAIN, ROWS, WORDS

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.core.tasks.conftest import MakeDataset, MakeRows, Values

LETTER = TaskConfig(name="med", kind="generation", prompt="{question}\n{options}\nAnswer:", completion="{answer}")
pytestmark = pytest.mark.usefixtures("one_thread")


# Templates


def test_the_fields_of_prompt_and_completion_are_the_columns() -> None:
    assert (PLAIN.field_names, PLAIN.target) == ({"question": "question", "target": "target"}, "target")
    assert (list(LETTER.field_names), LETTER.target) == (["question", "options", "answer"], "answer")
    blind = replace(LETTER, prompt="{question}", columns={"answer": "key"})
    assert blind.field_names == {"question": "question", "options": "options", "answer": "key"}
    assert TaskConfig(name="any", kind="generation").field_names == {"text": "text", "target": "target"}


def test_a_template_shows_options_as_lines_and_the_answer_as_its_letter(make_rows: MakeRows) -> None:
    (row,) = make_rows(LETTER, [{"question": "Who {is} it?", "options": ["Anna", "Ben", "Carl"], "answer": 2}])
    assert render(LETTER.prompt, row) == "Who {is} it?\nA. Anna\nB. Ben\nC. Carl\nAnswer:"
    assert render(LETTER.completion, row) == "C"
    assert render("{{{answer}}}", row) == "{C}"


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"prompt": "{txt}"}, "task.t.prompt: '{txt}' has {txt}, which is no field. Write fields in braces"),
        ({"prompt": "{}"}, "has {}, which is no field"),
        ({"prompt": "{text.upper}"}, "has {text.upper}, which is no field"),
        ({"prompt": "{text[0]}"}, "has {text[0]}, which is no field"),
        ({"prompt": "{text!r}"}, "is no template ({text} has something after its name)"),
        ({"prompt": "{text:>9}"}, "is no template ({text} has something after its name)"),
        ({"prompt": "{text"}, "task.t.prompt: '{text' is no template"),
        ({"completion": "target}"}, "task.t.completion: 'target}' is no template"),
        ({"prompt": "hello"}, "task.t.prompt: 'hello' has no field: every row would be the same"),
        ({"completion": "yes"}, "must have exactly one field, the target, and has 0"),
        ({"completion": "{label} {target}"}, "must have exactly one field, the target, and has 2"),
        ({"completion": "{text}"}, "task.t.prompt: '{text}' holds the target {text}"),
        ({"max_new_tokens": 0}, "task.t.max_new_tokens: '0' must be above 0"),
        ({"max_new_tokens": 65}, "must be at most half of max_length, which prompt and completion share"),
        ({"beams": 0}, "task.t.beams: '0' must be above 0"),
        ({"metric": "accuracy"}, "task.t.metric: 'accuracy' is no metric of generation"),
        ({"columns": {"tokens": "x"}}, "task.t.columns.tokens: 'tokens' is no field of generation"),
        ({"kind": "tagging", "prompt": "{question}"}, "task.t.prompt: '{question}' means nothing in a task of tagging"),
        ({"kind": "tagging", "completion": "{label}"}, "task.t.completion: '{label}' means nothing in a task of"),
    ],
)
def test_a_bad_template_is_a_fault(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(TaskConfig, {"name": "t", "kind": "generation", **values}, "task.t")
    assert fault in str(caught.value) and len(caught.value.faults) == 1


def test_braces_that_are_doubled_are_braces() -> None:
    config = build(TaskConfig, {"name": "t", "kind": "generation", "prompt": "{{json}} {text}"}, "task.t")
    assert list(config.field_names) == ["text", "target"]


# Rows and items


def test_bad_rows_are_faults_with_file_and_line(make_dataset: MakeDataset) -> None:
    good = {"question": "who", "options": ["anna", "ben"], "answer": 0}
    bad: list[Values] = [good, {**good, "question": " "}, {**good, "options": ["anna", ""]}, {**good, "answer": 2}]
    with pytest.raises(DataError) as caught:
        task_for(LETTER, make_dataset(LETTER, bad, validation=[good], test=[good]))
    messages = [str(fault) for fault in caught.value.faults]
    assert "train.jsonl:2: has an empty question" in messages[0]
    assert "train.jsonl:3:" in messages[1] and "has an empty option at position 1" in messages[1]
    assert "train.jsonl:4: '2' is out of range" in messages[2]
    with pytest.raises(DataError, match=r"train.jsonl:1: has an empty target"):
        task_for(PLAIN, make_dataset(PLAIN, [{"question": "who", "target": ""}], validation=ROWS, test=ROWS))


def test_an_item_has_the_fields_of_the_prompt_or_is_the_only_one() -> None:
    assert Generation(PLAIN).parse_item("w1 w2").fields == {"question": "w1 w2"}
    assert Generation(PLAIN).parse_item({"question": "w1", "target": 7}).fields == {"question": "w1"}
    item = {"question": "who", "options": ["anna", "ben"]}
    assert Generation(LETTER).parse_item(item).fields == item
    with pytest.raises(DataError, match="must be an object with question and options"):
        Generation(LETTER).parse_item("who")
    with pytest.raises(DataError, match="has fewer than 2 options"):
        Generation(LETTER).parse_item({**item, "options": ["anna"]})


# Encoding


@pytest.mark.parametrize(
    ("family", "prompt", "target"),
    [
        ("gpt2", "w8 :", "w9 </s>"),
        ("llama", "<s> w8 :", "w9 </s>"),
        ("t5", "w8 : </s>", "w9 </s>"),
        ("bart", "<s> w8 : </s>", "<s> w9 </s>"),
    ],
)
def test_prompt_and_target_have_the_special_tokens_of_their_tokenizer(
    make_rows: MakeRows, family: str, prompt: str, target: str
) -> None:
    tokenizer = writers.make_tokenizer(family, WORDS)
    encoded = Generation(PLAIN).encode(make_rows(PLAIN, ROWS[1:2]), tokenizer)
    (example,) = encoded.examples
    assert tokenizer.convert_ids_to_tokens(example["prompt"]) == prompt.split()
    assert tokenizer.convert_ids_to_tokens(example["target"]) == target.split()
    assert example["end"] == tokenizer.eos_token_id
    assert example["length"] == len([*prompt.split(), *target.split()])
    assert (encoded.num_rows, encoded.num_truncated) == (1, 0)


def test_a_wordpiece_tokenizer_closes_a_target_with_its_separator(tiny_bert: TinyBert, make_rows: MakeRows) -> None:
    _, tokenizer = tiny_bert()
    rows = make_rows(PLAIN, [{"question": "who was it", "target": "anna"}])
    encoded = Generation(PLAIN).encode(rows, tokenizer)
    (example,) = encoded.examples
    assert tokenizer.convert_ids_to_tokens(example["target"]) == ["[CLS]", "anna", "[SEP]"]
    assert example["end"] == tokenizer.sep_token_id
    ids = torch.tensor(example["target"][:-1]).float().numpy()
    assert Generation(PLAIN).answers(rows, encoded, [ids]) == [{"text": "anna"}]


@pytest.mark.parametrize("family", writers.TEMPLATES)
def test_a_long_prompt_loses_its_beginning_and_a_long_target_its_end(make_rows: MakeRows, family: str) -> None:
    tokenizer = writers.make_tokenizer(family, WORDS, longest=16)
    words = [f"w{i}" for i in range(30)]
    rows = make_rows(
        PLAIN,
        [
            {"question": " ".join(words), "target": "w1"},
            {"question": "w1", "target": " ".join(words)},
            {"question": " ".join(words), "target": " ".join(words)},
            {"question": "w1", "target": "w2"},
        ],
    )
    encoded = Generation(PLAIN).encode(rows, tokenizer)
    assert encoded.num_truncated == 3
    long_prompt, long_target, *_ = encoded.examples
    whole = tokenizer(" ".join([*words, ":"]))["input_ids"]
    num_opening = int(whole[0] == tokenizer.bos_token_id)
    assert len(long_prompt["prompt"]) == 16 - PLAIN.max_new_tokens
    assert long_prompt["prompt"] == [*whole[:num_opening], *whole[len(whole) - 10 + num_opening :]]
    assert tokenizer.decode(long_prompt["target"], skip_special_tokens=True) == "w1"
    assert len(long_target["target"]) == PLAIN.max_new_tokens and long_target["end"] not in long_target["target"]
    assert max(example["length"] for example in encoded.examples) <= 16


def test_a_row_without_target_has_the_same_prompt(make_rows: MakeRows) -> None:
    tokenizer, task = writers.make_tokenizer("gpt2", WORDS), Generation(PLAIN)
    row = task.parse_item(ROWS[0]["question"])
    (asked,), (given,) = (
        task.encode([row], tokenizer).examples,
        task.encode(make_rows(PLAIN, ROWS[:1]), tokenizer).examples,
    )
    assert asked["prompt"] == given["prompt"] and "target" not in asked
    assert set(task.collate([asked], 0)) == {"rows", "end", "prompt_ids", "prompt_mask"}


def test_a_tokenizer_that_ends_no_text_is_refused(make_rows: MakeRows) -> None:
    tokenizer = writers.make_tokenizer("llama", WORDS, ends=False)
    with pytest.raises(CheckpointError, match="without an end-of-text token"):
        Generation(PLAIN).encode(make_rows(PLAIN, ROWS), tokenizer)


def test_a_completion_that_leaves_no_room_for_a_prompt_is_refused(make_rows: MakeRows) -> None:
    tokenizer = writers.make_tokenizer("bart", WORDS, longest=8)
    with pytest.raises(ConfigError, match="'6' leaves no room for a prompt in the 8 sub-tokens"):
        Generation(PLAIN).encode(make_rows(PLAIN, ROWS), tokenizer)


def test_what_is_encoded_can_be_pickled_with_its_tokenizer(make_rows: MakeRows) -> None:
    encoded = Generation(PLAIN).encode(make_rows(PLAIN, ROWS), writers.make_tokenizer("t5", WORDS))
    again: Encoded = pickle.loads(pickle.dumps(encoded))
    assert again.tokenizer is not None and again.tokenizer.decode([7]) == "w3"
    assert again.examples == encoded.examples


def test_prompts_are_padded_on_the_left_and_targets_on_the_right() -> None:
    examples = [
        {"row": 0, "prompt": [5, 6, 7], "target": [8, 2], "end": 2},
        {"row": 1, "prompt": [9], "target": [4, 3, 2], "end": 2},
    ]
    batch = Generation(PLAIN).collate(examples, 0)
    assert batch["prompt_ids"].tolist() == [[5, 6, 7], [0, 0, 9]]
    assert batch["prompt_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch["target_ids"].tolist() == [[8, 2, 0], [4, 3, 2]]
    assert batch["target_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


# Scores


def test_exact_match_compares_stripped_texts_with_the_commonest_completion_as_baseline(make_rows: MakeRows) -> None:
    values = [{"question": "q", "target": target} for target in ("w1 ", "w2", "w2", "w3")]
    rows = make_rows(PLAIN, values)
    task = Generation.from_rows(PLAIN, rows)
    assert task.shares == {"w2": 0.5}
    scores = task.score(rows, [{"text": text} for text in ("w1", " w2", "W2", "w3 w3")])
    assert scores.primary == scores.metrics["exact_match"] == 0.5 and scores.baseline == 0.5
    assert scores.low < 0.5 < scores.high
    restored = Generation(PLAIN)
    assert restored.score(rows[:1], [{"text": "w1"}]).baseline == 1.0


def test_chrf_is_the_mean_of_sacrebleus_sentences(make_rows: MakeRows) -> None:
    from sacrebleu import sentence_chrf

    config = replace(PLAIN, metric="chrf")
    rows = make_rows(config, [{"question": "q", "target": target} for target in ("a red book", "a blue book", "rome")])
    said = ["a red book", "the blue film", "oslo"]
    task = Generation.from_rows(config, rows)
    scores = task.score(rows, [{"text": text} for text in said])
    each = [sentence_chrf(text, [row.fields["target"]]).score / 100 for text, row in zip(said, rows, strict=True)]
    assert scores.primary == scores.metrics["chrf"] == pytest.approx(sum(each) / 3)
    assert scores.metrics["exact_match"] == pytest.approx(1 / 3)
    constant = [sentence_chrf("a blue book", [row.fields["target"]]).score / 100 for row in rows]
    assert scores.baseline == pytest.approx(sum(constant) / 3)


def test_without_sacrebleu_chrf_is_left_out_or_missed(make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "has_chrf", lambda: False)
    rows = make_rows(PLAIN, ROWS)
    answers = [{"text": "w9"}] * 3
    assert Generation(PLAIN).score(rows, answers).metrics == {"exact_match": pytest.approx(1 / 3)}
    with pytest.raises(PipelineError, match="task say is scored by chrf: install sacrebleu"):
        Generation(replace(PLAIN, metric="chrf")).score(rows, answers)
