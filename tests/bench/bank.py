"""What a batch of many adapters costs, and what it costs that many are registered: `python -m tests.bench.bank`.

Two tables in Markdown. All figures of one row are measured in turn, in one process, so that what else the machine does
meets them alike. With `.venv-peer` (`make bench` makes it) the adapters library is measured too, in its own process.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedModel

from pipeline.config import CheckpointConfig, MethodConfig, SweepConfig, TaskConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.checkpoint import load_checkpoint, open_checkpoint
from pipeline.core.adapters.sites import Placed, Sites
from pipeline.core.bank.bank import Ask, Bank
from tests import residents
from tests.bench.routed import random_placed

ROWS, DIFFERENT, LENGTHS, REGISTERED = 32, (1, 4, 16, 32), (16, 32, 128), (1, 10, 100, 1000)
HOULSBY, LORA = MethodConfig(name="houlsby", width=48), MethodConfig(name="lora", width=8)
SECONDS = 12.0
"""Of measuring, for each row of the second table; a slow row is measured twice all the same."""
PEER = Path(".venv-peer/bin/python")
Groups = list[tuple[int, Placed]]


def minilm() -> CheckpointConfig:
    """The embedded default."""
    return read_config("sweep", SweepConfig, []).checkpoint


def in_turn(measured: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The median time of each, in s: all once to warm up, then one after another until the time is over."""
    for run in measured.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in measured}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[next(iter(times))]) < 2:
        for name, run in measured.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(some) for name, some in times.items()}


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def registered(folder: Path) -> Iterator[str]:
    """Lines of the first table: what does, and does not, grow with the adapters that are registered."""
    on = load_checkpoint(open_checkpoint(minilm()))
    task, labels = TaskConfig(name="intent", kind="classification"), [f"label {number}" for number in range(20)]
    made = [residents.bundle(on, folder / str(number), task, labels, HOULSBY, number) for number in range(32)]
    bank = Bank(on)
    text = "please book a table for two in the evening near the station"
    bank.admit("0", "1", made[0])
    row = bank.task("0").parse_item(text)
    bank.answer([Ask("0", row)] * 8)
    bank.drop("0", "1")
    yield "| registered | admit, ms | drop, ms | same adapters, ms | others, ms | difference, ms | memory / bundles |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    before, admitted = resident_bytes(), 0
    for count in REGISTERED:
        while admitted < count:
            bank.admit(str(admitted), "1", made[admitted % len(made)])
            admitted += 1
        memory = (resident_bytes() - before) / sum(bank.sizes().values())
        admits, drops = [], []
        for _ in range(30):
            start = time.perf_counter()
            bank.admit("one more", "1", made[0])
            middle = time.perf_counter()
            bank.drop("one more", "1")
            admits.append(middle - start)
            drops.append(time.perf_counter() - middle)
        several = min(max(count // 2, 1), 8)
        sets = [[str((first + number) % count) for number in range(several)] for first in range(0, count, several)]
        same: list[float] = []
        others: list[float] = []
        for names in (sets * 60)[:60]:
            asks = [Ask(names[number % several], row) for number in range(8)]
            for times in (others, same):
                start = time.perf_counter()
                bank.answer(asks)
                times.append(time.perf_counter() - start)
        difference = statistics.median(other - one for other, one in zip(others, same, strict=True))
        figures = [statistics.median(some) * 1000 for some in (admits, drops, same, others)]
        shown = " | ".join(f"{figure:.2f}" for figure in (*figures, difference * 1000))
        yield f"| {count:,} | {shown} | {memory:.2f} |"


def rates(name: str, base: PreTrainedModel) -> Iterator[str]:
    """Lines of the second table: forward passes of the base with adapters, as shares of the bare base's rate."""
    import peft

    sites = Sites(base)
    bottled = [random_placed(sites, HOULSBY, number) for number in range(ROWS)]
    updates = [random_placed(sites, LORA, number) for number in range(ROWS)]
    targets = [path for layer in sites.projections.values() for path in layer]
    base.requires_grad_(False)

    def mixed(adapters: Sequence[Placed], inputs: dict[str, Tensor]) -> None:
        groups: Groups = [(ROWS // len(adapters), one) for one in adapters]
        with sites.carrying(groups):
            base(**inputs)

    def one_by_one(adapters: Sequence[Placed], inputs: dict[str, Tensor]) -> None:
        for number, one in enumerate(adapters):
            with sites.carrying([(1, one)]):
                base(**{key: tensor[number : number + 1] for key, tensor in inputs.items()})

    for length in LENGTHS:
        ids = torch.randint(1000, 20000, (ROWS, length), generator=torch.Generator().manual_seed(length))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        measured: dict[str, Callable[[], object]] = {"bare": lambda inputs=inputs: base(**inputs)}  # type: ignore[misc]
        for count in DIFFERENT:
            measured[str(count)] = lambda inputs=inputs, count=count: mixed(bottled[:count], inputs)  # type: ignore[misc]
        measured["SeqS"] = lambda inputs=inputs: one_by_one(bottled, inputs)  # type: ignore[misc]
        measured["LoRA"] = lambda inputs=inputs: mixed(updates, inputs)  # type: ignore[misc]
        with torch.inference_mode():
            times = in_turn(measured, SECONDS)
        layout = peft.LoraConfig(r=LORA.width, lora_alpha=LORA.width, target_modules=targets)
        theirs = peft.get_peft_model(base, layout, "a0").eval()
        for number in range(1, ROWS):
            theirs.add_adapter(f"a{number}", layout)
        names = [f"a{number}" for number in range(ROWS)]
        with torch.inference_mode():
            peers = in_turn({"peft": lambda: theirs(**inputs, adapter_names=names)}, SECONDS / 6)  # noqa: B023
        theirs.unload()
        if hasattr(base, "peft_config"):
            del base.peft_config
        with torch.inference_mode():
            again = in_turn({"bare": measured["bare"]}, SECONDS / 6)
        shares = [f"{times['bare'] / times[key]:.2f}" for key in (*map(str, DIFFERENT), "SeqS", "LoRA")]
        shares.append(f"{again['bare'] / peers['peft']:.2f}")
        yield f"| {name} | {length} | {ROWS / times['bare']:.0f} | {' | '.join(shares)} |"


def batch_split(folder: Path, base: PreTrainedModel) -> Iterator[str]:
    """What the adapters library says of itself, where it is installed: `BatchSplit` as a share of its plain forward."""
    if not PEER.exists():
        yield "`.venv-peer` is not there: BatchSplit of adapters was not measured."
        return
    base.save_pretrained(folder)
    script = str(Path(__file__).with_name("peer_split.py"))
    said = subprocess.run(
        [str(PEER), script, str(folder), str(ROWS), str(HOULSBY.width), *map(str, LENGTHS)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for length, share in json.loads(said.strip().splitlines()[-1]).items():
        yield f"BatchSplit of adapters, {ROWS} different, length {length}: {share:.2f} of its plain forward pass."


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        for line in registered(Path(folder) / "bundles"):
            print(line, flush=True)
        print(f"\nForward passes of {ROWS} rows; the columns 1 to {ROWS} are how many different adapters they have.\n")
        print("| base | length | bare, rows/s | 1 | 4 | 16 | 32 | one after another | LoRA, 32 | peft's LoRA, 32 |")
        print("| --- | " + "---: | " * 9)
        small = load_checkpoint(open_checkpoint(minilm())).base
        for line in rates("MiniLM", small):
            print(line, flush=True)
        if "--small" not in sys.argv:
            large = BertModel(BertConfig(), add_pooling_layer=False).eval()
            for line in rates("BERT base, random", large):
                print(line, flush=True)
        for line in batch_split(Path(folder) / "peer", small):
            print(line)


if __name__ == "__main__":
    main()
