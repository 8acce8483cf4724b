"""`BatchSplit` of the adapters library beside its plain forward pass; `tests.bench.bank` runs it in `.venv-peer`."""

import json
import statistics
import sys
import time

import adapters
import torch
from adapters.composition import BatchSplit
from transformers import AutoModel


def main() -> None:
    """Print a JSON object: length -> share."""
    folder, rows, width, *lengths = sys.argv[1:]
    model = AutoModel.from_pretrained(folder).eval()
    adapters.init(model)
    names = [f"a{number}" for number in range(int(rows))]
    config = adapters.DoubleSeqBnConfig(reduction_factor=model.config.hidden_size / int(width))
    for name in names:
        model.add_adapter(name, config=config)
    shares = {}
    for length in lengths:
        ids = torch.randint(1000, 20000, (int(rows), int(length)))
        times: dict[bool, list[float]] = {True: [], False: []}
        with torch.inference_mode():
            for number in range(12):
                for split in times:
                    model.active_adapters = BatchSplit(*names, batch_sizes=[1] * len(names)) if split else None
                    start = time.perf_counter()
                    model(input_ids=ids, attention_mask=torch.ones_like(ids))
                    if number > 1:  # the first ones warm up
                        times[split].append(time.perf_counter() - start)
        shares[length] = statistics.median(times[False]) / statistics.median(times[True])
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
