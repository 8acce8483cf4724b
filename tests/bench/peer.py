"""Trainings by other libraries; runs in `.venv-peer`, and imports nothing of ours.

`python tests/bench/peer.py <speed | score | search> <seq_bn | lora | full> <settings as JSON>`; the last line is JSON.
Settings: checkpoint, train, validation (jsonl with text and label), batch_size, max_length, precision, learning_rates,
and of `speed` seconds, of the others epochs. `score` trains once with the first learning rate and tells score and
seconds of each epoch; `search` trains with each learning rate, one after another.
"""

import json
import math
import resource
import sys
import tempfile
import time
from typing import Any

import adapters
import numpy as np
import peft
import torch
import transformers
from adapters import AdapterTrainer, AutoAdapterModel
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

WARM_UP_STEPS = 5


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Stops the training when the time is over; steps are counted after the warm-up."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start, self.steps, self.elapsed = seconds, 0.0, 0, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step == WARM_UP_STEPS:
            self.start = time.perf_counter()
        elif state.global_step > WARM_UP_STEPS:
            self.steps, self.elapsed = self.steps + 1, time.perf_counter() - self.start
            control.should_training_stop = self.elapsed > self.seconds
        return control


class Curve(TrainerCallback):  # type: ignore[misc]
    """Seconds since training began, and the score, of each epoch."""

    def __init__(self) -> None:
        self.start, self.points = 0.0, []  # type: ignore[var-annotated]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.start = time.perf_counter()
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.points.append([time.perf_counter() - self.start, kwargs["metrics"]["eval_accuracy"]])
        return control


class Bench:
    """A task, and the models that are trained on it."""

    def __init__(self, method: str, given: dict[str, Any]) -> None:
        self.method, self.given = method, given
        self.tokenizer = AutoTokenizer.from_pretrained(given["checkpoint"])
        rows = {}
        for name in ("train", "validation"):
            with open(given[name], encoding="utf-8") as stream:
                rows[name] = [json.loads(line) for line in stream]
        self.labels = sorted({row["label"] for row in rows["train"]})
        self.data = {name: [self._example(row) for row in some] for name, some in rows.items()}

    def _example(self, row: dict[str, str]) -> dict[str, Any]:
        found = dict(self.tokenizer(row["text"], truncation=True, max_length=self.given["max_length"]))
        return found | {"labels": self.labels.index(row["label"])}

    def train(self, learning_rate: float, callback: TrainerCallback, epochs: float, *, scored: bool) -> None:
        """Train a fresh model."""
        set_seed(0)
        checkpoint = self.given["checkpoint"]
        if self.method == "seq_bn":
            model = AutoAdapterModel.from_pretrained(checkpoint)
            model.add_adapter("bench", config="seq_bn")  # reduction factor 16: width 24 of 384
            model.add_classification_head("bench", num_labels=len(self.labels), layers=1)
            model.train_adapter("bench")
        else:
            model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(self.labels))
            if self.method == "lora":
                layout = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
                model = peft.get_peft_model(model, layout)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=self.given["batch_size"],
                per_device_eval_batch_size=64,
                learning_rate=learning_rate,
                bf16=self.given["precision"] == "bfloat16",
                use_cpu=not torch.cuda.is_available(),  # else bfloat16 is refused there
                num_train_epochs=epochs,
                eval_strategy="epoch" if scored else "no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
            )
            trainer = AdapterTrainer if self.method == "seq_bn" else Trainer
            trainer(
                model=model,
                args=arguments,
                train_dataset=self.data["train"],
                eval_dataset=self.data["validation"],
                data_collator=DataCollatorWithPadding(self.tokenizer),
                compute_metrics=lambda said: {"accuracy": float(np.mean(said[0].argmax(-1) == said[1]))},
                callbacks=[callback],
            ).train()


def peak_bytes() -> int:
    """Most memory that this process had; of a GPU, that of its tensors."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    what, method, written = sys.argv[1:]
    given = json.loads(written)
    bench, rates = Bench(method, given), given["learning_rates"]
    result: dict[str, Any] = {}
    if what == "speed":
        watch = Stopwatch(given["seconds"])
        bench.train(rates[0], watch, 1000, scored=False)
        rows, size = len(bench.data["train"]), given["batch_size"]
        # An epoch's last batch is smaller.
        result = {"rows_per_s": watch.steps * rows / math.ceil(rows / size) / watch.elapsed, "steps": watch.steps}
    elif what == "score":
        curve = Curve()
        bench.train(rates[0], curve, given["epochs"], scored=True)
        result = {"curve": curve.points}
    else:
        bests = []
        for rate in rates:
            curve = Curve()
            bench.train(rate, curve, given["epochs"], scored=True)
            bests.append(max(score for _, score in curve.points))
        result = {"validation": max(bests)}
    versions = {name.__name__: name.__version__ for name in (torch, transformers, adapters, peft)}
    facts = {"peak_bytes": peak_bytes(), "threads": torch.get_num_threads(), "versions": versions}
    print(json.dumps(result | facts))


if __name__ == "__main__":
    main()
