"""Rows a second of AdapterHub's trainer and of full fine-tuning; runs in `.venv-peer`, and imports nothing of ours.

`python tests/bench/peer.py <seq_bn | full> <seconds> <checkpoint> <rows.jsonl> <batch size> <max length> <precision>`
"""

import json
import math
import sys
import tempfile
import time
from typing import Any

import adapters
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


def main() -> None:
    method, seconds, checkpoint, rows_file, batch_size, max_length, precision = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with open(rows_file, encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    labels = sorted({row["label"] for row in rows})
    data = []
    for row in rows:
        example = dict(tokenizer(row["text"], truncation=True, max_length=int(max_length)))
        data.append(example | {"labels": labels.index(row["label"])})
    if method == "seq_bn":
        model = AutoAdapterModel.from_pretrained(checkpoint)
        model.add_adapter("bench", config="seq_bn")  # reduction factor 16: width 24 of 384
        model.add_classification_head("bench", num_labels=len(labels), layers=1)
        model.train_adapter("bench")
        trainer_class = AdapterTrainer
    else:
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(labels))
        trainer_class = Trainer
    watch = Stopwatch(float(seconds))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=int(batch_size),
            learning_rate=1e-4,
            bf16=precision == "bfloat16",
            num_train_epochs=1000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer_class(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[watch],
        ).train()
    num_rows = watch.steps * len(data) / math.ceil(len(data) / int(batch_size))  # an epoch's last batch is smaller
    versions = {name.__name__: name.__version__ for name in (torch, transformers, adapters)}
    result = {"rows_per_s": num_rows / watch.elapsed, "steps": watch.steps, "threads": torch.get_num_threads()}
    print(json.dumps(result | {"versions": versions}))


if __name__ == "__main__":
    main()
