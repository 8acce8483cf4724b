"""Measured by `make bench` in the peers' environment, where our package is not: `python peer.py <seq_bn|full>`.

`seq_bn` is AdapterHub's own AdapterTrainer as its documentation uses it; `full` is Hugging Face's Trainer on all
weights. Reads a request, writes rows and seconds.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import adapters
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Clock(TrainerCallback):
    """Wall time from the first batch to the end of training."""

    start = seconds = 0.0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = self.start or time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.start


def measure(request: dict[str, Any], method: str) -> dict[str, float]:
    """Train once briefly, to warm up, and once on the clock."""
    rows = [json.loads(line) for line in Path(request["rows"]).read_text("utf-8").splitlines()]
    number = {label: i for i, label in enumerate(sorted({row["label"] for row in rows}))}
    tokenizer = AutoTokenizer.from_pretrained(request["checkpoint"])
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=request["max_length"])
    dataset = [
        {**{name: values[i] for name, values in encoded.items()}, "labels": number[row["label"]]}
        for i, row in enumerate(rows)
    ]
    model = AutoModelForSequenceClassification.from_pretrained(request["checkpoint"], num_labels=len(number))
    trainer_class = Trainer
    if method == "seq_bn":
        adapters.init(model)
        reduction = model.config.hidden_size / request["width"]
        model.add_adapter("bench", config=adapters.SeqBnConfig(reduction_factor=reduction))
        model.train_adapter("bench")
        trainer_class = adapters.AdapterTrainer
    collator = DataCollatorWithPadding(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        for part, passes in ((dataset[: request["warmup_rows"]], 1), (dataset, request["passes"])):
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=request["batch_size"],
                num_train_epochs=passes,
                learning_rate=1e-4 if method == "seq_bn" else 5e-5,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            clock = Clock()
            trainer_class(model, arguments, collator, part, callbacks=[clock]).train()
    return {"rows": len(rows) * request["passes"], "seconds": clock.seconds}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    result = measure(request, sys.argv[1])
    print(json.dumps(result))
