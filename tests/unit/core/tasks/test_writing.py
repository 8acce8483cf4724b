"""Generation: the loss on the target alone, and what is written, greedily and by beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedModel

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig
from pipeline.core.adapters.anatomy import ANATOMIES
from pipeline.core.adapters.bottleneck import Bottleneck
from pipeline.core.adapters.checkpoint import build_base, load_tensors, load_tokenizer, open_checkpoint
from pipeline.core.adapters.insert import adapter_modules, attach
from pipeline.core.engine.evaluate import answer, validate
from pipeline.core.engine.lengths import widened
from pipeline.core.tasks.generation import Generation
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Encoded, Example
from pipeline.core.tasks.tensors import WIDTH
from tests import families, writers
from tests.asked import asked
from tests.unit.core.tasks.test_families import assert_weighted
from tests.writers import PLAIN, ROWS, WORDS

if TYPE_CHECKING:
    from tests.unit.core.tasks.conftest import MakeRows

STDS = {"gpt2": 0.3, "t5": 0.3, "bart": 0.8}
"""Of random matrices, with which each prompt is continued in its own way."""
pytestmark = pytest.mark.usefixtures("one_thread")
EACH = pytest.mark.parametrize("family", writers.FAMILIES)


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
def test_in_training_rows_count_by_their_weights(make_rows: MakeRows, family: str) -> None:
    rows = make_rows(PLAIN, ROWS[:2])
    task, model, examples = make(family, rows)
    assert_weighted(task, model.eval(), Encoded(examples=examples, num_rows=2), 0)


@EACH
def test_a_gpu_is_asked_nothing_for_the_loss(make_rows: MakeRows, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model, examples = make(family, make_rows(PLAIN, ROWS))
    batch = task.collate([{**example, "weight": 1.0 + i} for i, example in enumerate(examples)], 0)
    with asked(monkeypatch) as told:
        task.loss(model, batch)
    assert told == []


@EACH
def test_padding_changes_no_loss(make_rows: MakeRows, family: str) -> None:
    task, model, examples = make(family, make_rows(PLAIN, ROWS))
    alone = task.collate(examples[1:2], 0)
    padded = {name: tensor[1:2] for name, tensor in task.collate(examples, 0).items()}
    padded |= {name: alone[name] for name in ("end", "example_of", "places")}
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
def test_prompts_of_one_of_a_few_lengths_as_a_gpu_reads_them_change_nothing(make_rows: MakeRows, family: str) -> None:
    task, model, examples = make(family, make_rows(PLAIN, ROWS))
    wide = [{**widened(one, 64), WIDTH: 24} for one in examples]
    widths = [task.collate(some, 0)["prompt_ids"].shape[1] for some in (examples, wide)]
    assert widths[0] < widths[1] == 24
    loss, _ = task.loss(model, task.collate(examples, 0))
    torch.testing.assert_close(task.loss(model, task.collate(wide, 0))[0], loss, atol=1e-5, rtol=0)
    assert written(task, model, wide) == written(task, model, examples)


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
def test_rows_are_answered_in_their_order_and_a_cpu_writes_in_float32_always(make_rows: MakeRows, family: str) -> None:
    rows = make_rows(PLAIN, ROWS)
    task, model, _ = make(family, rows)
    encoded = task.encode(rows, writers.make_tokenizer(family, WORDS))
    exact = [
        answer(model, task, rows, encoded, EngineConfig(eval_batch_size=size, precision="float32"), 0)
        for size in (1, 8)
    ]
    assert exact[0] == exact[1] and [list(one) for one in exact[0]] == [["text"]] * 3
    assert all(set(one["text"].split()) <= {*WORDS, writers.UNKNOWN} for one in exact[0])
    assert answer(model, task, rows, encoded, EngineConfig(eval_batch_size=8, precision="bfloat16"), 0) == exact[1]


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


def test_the_validation_loss_is_that_of_the_targets_though_outputs_do_not_show_it(make_rows: MakeRows) -> None:
    rows = make_rows(PLAIN, ROWS)
    task, model, examples = make("gpt2", rows)
    tokenizer = writers.make_tokenizer("gpt2", WORDS)
    encoded = Encoded(examples=examples, num_rows=len(rows), tokenizer=tokenizer)
    loss, _ = task.loss(model, task.collate(examples, 0))
    (scores,) = validate([model], task, rows, encoded, EngineConfig(batch_size=2, precision="float32"), 0)
    assert scores.loss == pytest.approx(float(loss.detach()), abs=1e-5)
    assert task.loss_of(examples, []) is None
