"""Generation: templates, bad rows, encoding, the loss on the target alone, decoding, scores."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedModel

from pipeline.adapters.anatomy import ANATOMIES
from pipeline.adapters.bottleneck import Bottleneck
from pipeline.adapters.checkpoint import build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.adapters.insert import adapter_modules, attach
from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.engine.evaluate import answer
from pipeline.errors import CheckpointError, ConfigError, DataError, PipelineError
from pipeline.strict import build
from pipeline.tasks import metrics
from pipeline.tasks.generation import Generation, render
from pipeline.tasks.kinds import task_for
from pipeline.tasks.model import TaskModel
from pipeline.tasks.task import Encoded, Example
from tests import families, writers

if TYPE_CHECKING:
    from tests.conftest import TinyBert
    from tests.unit.tasks.conftest import MakeDataset, MakeRows, Values

PLAIN = TaskConfig(name="say", kind="generation", prompt="{question} :", completion="{target}", max_new_tokens=6)
LETTER = TaskConfig(name="med", kind="generation", prompt="{question}\n{options}\nAnswer:", completion="{answer}")
WORDS = [f"w{i}" for i in range(40)] + [":"]
STDS = {"gpt2": 0.3, "t5": 0.3, "bart": 0.8}
"""Of random matrices, with which each prompt is continued in its own way."""
pytestmark = pytest.mark.usefixtures("one_thread")
EACH = pytest.mark.parametrize("family", writers.FAMILIES)

ROWS: list[Values] = [
    {"question": "w1 w2 w3 w4 w5", "target": "w6 w7"},
    {"question": "w8", "target": "w9"},
    {"question": "w3 w10 w11", "target": "w12 w13 w14 w15"},
]


# Templates


def test_the_fields_of_prompt_and_completion_are_the_columns() -> None:
    assert (PLAIN.columns, PLAIN.target) == ({"question": "question", "target": "target"}, "target")
    assert (list(LETTER.columns), LETTER.target) == (["question", "options", "answer"], "answer")
    blind = replace(LETTER, prompt="{question}", fields={"answer": "key"})
    assert blind.columns == {"question": "question", "options": "options", "answer": "key"}
    assert TaskConfig(name="any", kind="generation").columns == {"text": "text", "target": "target"}


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
        ({"fields": {"tokens": "x"}}, "task.t.fields.tokens: 'tokens' is no field of generation"),
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
    assert list(config.columns) == ["text", "target"]


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


# Loss and outputs


def written(task: Generation, model: TaskModel, examples: Sequence[Example]) -> list[list[int]]:
    """What is written behind each prompt of one batch."""
    return [[int(token) for token in one] for one in task.outputs(model, task.collate(examples, 0))]


def make(family: str, rows: Any, **changes: Any) -> tuple[Generation, TaskModel, list[Example]]:
    """A task, a random model whose adapters do something, and the rows as examples."""
    tokenizer = writers.make_tokenizer(family, WORDS)
    base = writers.make_model(family, len(tokenizer), std=STDS[family])
    if family != "gpt2":  # with tied embeddings a random model repeats itself
        weights = torch.randn(len(tokenizer), 32, generator=torch.Generator().manual_seed(3))
        base.get_output_embeddings().weight = torch.nn.Parameter(weights, requires_grad=False)
    attach(base, MethodConfig(name="houlsby", width=4, init="bert"), seed=1)
    for _, bottleneck in adapter_modules(base):
        assert isinstance(bottleneck, Bottleneck)
        bottleneck.up.weight.data.mul_(30)
    task = Generation(replace(PLAIN, **changes))
    return task, TaskModel(base, task.head(32, 0.0), pooling="last"), task.encode(rows, tokenizer).examples


@torch.no_grad()
def log_probs(base: PreTrainedModel, prompt: Sequence[int], written: Sequence[int]) -> Tensor:
    """Log-probabilities of the token behind what was written: one text, no padding, no cache, (vocabulary)."""
    if base.config.model_type == "gpt2":
        logits = base(input_ids=torch.tensor([[*prompt, *written]])).logits
    else:
        start = base.config.decoder_start_token_id
        decoder = torch.tensor([[start, *written]])
        logits = base(input_ids=torch.tensor([prompt]), decoder_input_ids=decoder).logits
    return F.log_softmax(logits[0, -1], dim=-1)


def log_prob(base: PreTrainedModel, prompt: Sequence[int], target: Sequence[int]) -> float:
    return sum(float(log_probs(base, prompt, target[:i])[token]) for i, token in enumerate(target))


@EACH
def test_the_loss_is_the_cross_entropy_of_the_target_alone(make_rows: MakeRows, family: str) -> None:
    task, model, examples = make(family, make_rows(PLAIN, ROWS))
    loss, num_targets = task.loss(model, task.collate(examples, 0))
    assert num_targets == sum(len(example["target"]) for example in examples)
    expected = -sum(log_prob(model.base, one["prompt"], one["target"]) for one in examples) / num_targets
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-5)


@EACH
def test_padding_changes_no_loss(make_rows: MakeRows, family: str) -> None:
    task, model, examples = make(family, make_rows(PLAIN, ROWS))
    alone = task.collate(examples[1:2], 0)
    padded = {name: tensor[1:2] for name, tensor in task.collate(examples, 0).items()} | {"end": alone["end"]}
    assert padded["prompt_ids"].shape[1] > alone["prompt_ids"].shape[1]
    filled = padded | {
        "prompt_ids": padded["prompt_ids"].masked_fill(padded["prompt_mask"] == 0, 17),
        "target_ids": padded["target_ids"].masked_fill(padded["target_mask"] == 0, 23),
    }
    expected, num_targets = task.loss(model, alone)
    for batch in (padded, filled):
        loss, number = task.loss(model, batch)
        assert number == num_targets
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)


@EACH
def test_greedy_decoding_takes_the_likeliest_token_each_time(make_rows: MakeRows, family: str) -> None:
    task, model, examples = make(family, make_rows(PLAIN, ROWS))
    together = written(task, model, examples)
    assert len({tuple(one) for one in together}) == len(examples)
    for example, said in zip(examples, together, strict=True):
        expected: list[int] = []
        while len(expected) < PLAIN.max_new_tokens:
            token = int(log_probs(model.base, example["prompt"], expected).argmax())
            if token == example["end"]:
                break
            expected.append(token)
        assert said == expected == written(task, model, [example])[0]


@EACH
def test_beams_find_what_is_at_least_as_likely(make_rows: MakeRows, family: str) -> None:
    values = [{"question": f"w{i} w{i + 1} w{i + 2}", "target": "w1"} for i in range(8)]
    task, model, examples = make(family, make_rows(PLAIN, values))
    wide = Generation(replace(PLAIN, beams=4))
    greedy, found = written(task, model, examples), written(wide, model, examples)
    alone = [written(wide, model, [example])[0] for example in examples]
    assert found == alone and found != greedy
    mean = [
        [_mean_log_prob(model.base, example, one[i]) for i, example in enumerate(examples)] for one in (greedy, found)
    ]
    assert all(better >= plain - 1e-4 for plain, better in zip(*mean, strict=True))


def _mean_log_prob(base: PreTrainedModel, example: Example, written: list[int]) -> float:
    """What beam search compares; the end is a token too, where the text ended before it was full."""
    target = written if len(written) == PLAIN.max_new_tokens else [*written, example["end"]]
    return log_prob(base, example["prompt"], target) / len(target)


@EACH
@pytest.mark.parametrize("beams", [1, 3])
def test_writing_stops_at_the_end_which_is_left_out(make_rows: MakeRows, family: str, beams: int) -> None:
    task, model, examples = make(family, make_rows(PLAIN, ROWS), beams=beams)
    free = written(task, model, examples)
    number = next(i for i, one in enumerate(free) if len({*one}) > 1)
    end = next(token for token in free[number] if token != free[number][0])
    stopped = written(task, model, [{**example, "end": end} for example in examples])
    assert all(end not in one for one in stopped)
    if beams == 1:
        assert stopped[number] == free[number][: free[number].index(end)] != []
        calls: list[object] = []
        model.base.register_forward_hook(lambda *_: calls.append(None))
        assert written(task, model, [{**examples[number], "end": end}]) == [stopped[number]]
        assert len(calls) == len(stopped[number]) + 1  # and no step is taken behind it


def test_settings_that_were_saved_with_a_checkpoint_have_no_effect(make_rows: MakeRows, tmp_path: Path) -> None:
    tokenizer = writers.make_tokenizer("bart", WORDS)
    base = writers.make_model("bart", len(tokenizer), std=0.3)
    rows, task = make_rows(PLAIN, ROWS), Generation(PLAIN)
    examples = task.encode(rows, tokenizer).examples
    expected = written(task, TaskModel(base, task.head(32, 0.0), pooling="last"), examples)
    base.generation_config = GenerationConfig(
        do_sample=True, temperature=9.0, num_beams=3, min_length=6, forced_bos_token_id=7, repetition_penalty=5.0
    )
    base.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(CheckpointConfig(name="saved", source="path", location=str(tmp_path)))
    assert load_tokenizer(checkpoint)("w3")["input_ids"] == tokenizer("w3")["input_ids"]
    model = TaskModel(build_base(checkpoint, load_tensors(checkpoint)), task.head(32, 0.0), pooling="last")
    assert written(task, model, examples) == expected


@EACH
def test_rows_are_answered_in_their_order_in_bfloat16_too(make_rows: MakeRows, family: str) -> None:
    rows = make_rows(PLAIN, ROWS)
    task, model, _ = make(family, rows)
    encoded = task.encode(rows, writers.make_tokenizer(family, WORDS))
    exact = [
        answer(model, task, rows, encoded, EngineConfig(eval_batch_size=size, precision="float32"), 0)
        for size in (1, 8)
    ]
    assert exact[0] == exact[1] and [list(one) for one in exact[0]] == [["text"]] * 3
    assert all(set(one["text"].split()) <= {*WORDS, writers.UNKNOWN} for one in exact[0])
    assert len(answer(model, task, rows, encoded, EngineConfig(precision="bfloat16"), 0)) == 3


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


# Every family


@pytest.mark.parametrize("family", [name for name in families.CONFIGS if ANATOMIES[name].kind != "encoder"])
def test_each_family_writes_and_is_taught_in_a_batch_as_alone(family: str) -> None:
    has_encoder = ANATOMIES[family].kind == "encoder-decoder"
    base = families.make(family, AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM)
    ids = {name: getattr(base.config, name, None) for name in ("pad_token_id", "decoder_start_token_id")}
    base.generation_config = GenerationConfig(**ids)
    task = Generation(PLAIN)
    model = TaskModel(base, task.head(16, 0.0), pooling="last")
    prompts, targets = [[5, 6, 7, 8, 9], [15, 16], [25, 26, 33]], [[11, 12, 2], [21, 2], [21, 22, 23, 2]]
    examples: list[Example] = [
        {"row": i, "prompt": prompt, "target": target, "end": 2}
        for i, (prompt, target) in enumerate(zip(prompts, targets, strict=True))
    ]
    loss, num_targets = task.loss(model, task.collate(examples, 0))
    alone = [task.loss(model, task.collate([example], 0)) for example in examples]
    assert float(loss) == pytest.approx(sum(float(one) * count for one, count in alone) / num_targets, abs=1e-5)
    for beams in (1, 3):
        kind = Generation(replace(PLAIN, beams=beams))
        assert written(kind, model, examples) == [written(kind, model, [example])[0] for example in examples]
