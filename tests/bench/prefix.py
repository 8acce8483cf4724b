"""An epoch with what lies below the adapters kept, beside the same without: `python -m tests.bench.prefix [key=value]`.

Of each method both are trained in turn, several times, in one process. An epoch is the second one, without evaluation:
the first computes what is kept, if it is not there yet. Beside the seconds stand those of the processor, which other
work on the machine disturbs less. Of the probe whole epochs are measured, evaluation included, with nothing kept before
the first. Further words are settings of a sweep: `tasks=[sentiment/movies] rounds=7`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.config import MethodConfig
from pipeline.core.adapters.anatomy import layers_of
from pipeline.core.engine.events import EpochSaved, Evaluated, StepDone
from pipeline.core.engine.prefix import Prefix
from pipeline.core.engine.session import Session
from pipeline.core.engine.shelf import Shelf
from pipeline.core.engine.trials import trial_of
from pipeline.steps.prepare import Prepared, prepare
from tests.bench.__main__ import bench_config

METHODS = ("pfeiffer", "houlsby", "parallel", "lora")
LIMIT = 2**32


def train(
    prepared: Prepared, method: MethodConfig, folder: Path, kept: Path | None, epochs: int = 2
) -> tuple[list[Evaluated], float]:
    """Train a job; return the reports of its epochs, and the processor's seconds in the steps of the last one."""
    job, pad_token_id = prepared.jobs[0], prepared.tokenizer.pad_token_id
    assert pad_token_id is not None
    params = {f"method.{name}": getattr(method, name) for name in method.__dataclass_fields__}
    trial = trial_of(job, 0, {**params, "engine.epochs": epochs})
    prefix = Prefix(Shelf(kept, LIMIT), prepared.checkpoint, pad_token_id) if kept else None
    session = Session(prepared.base, prepared.checkpoint, pad_token_id, job, trial, folder, prefix=prefix)
    reports: list[Evaluated] = []
    begun = ended = 0.0
    try:
        for event in session.events():
            if isinstance(event, StepDone):
                ended = time.process_time()
            elif isinstance(event, EpochSaved):
                reports.append(event.evaluated)
                begun = time.process_time() if len(reports) < epochs else begun
    finally:
        session.close()
    return reports, ended - begun


def shown(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def ratio(whole: Sequence[float], kept: Sequence[float]) -> str:
    """The median over the rounds."""
    return f"{statistics.median(one / other for one, other in zip(whole, kept, strict=True)):.2f}"


def main() -> None:
    config = bench_config(sys.argv[1:])
    prepared = prepare(config)
    half = len(layers_of(prepared.base)) // 2
    rows, threads = len(prepared.jobs[0].dataset.train.rows), torch.get_num_threads()
    print(f"{prepared.jobs[0].name}, {rows} rows, {prepared.checkpoint.config.name}, {threads} threads\n")
    print("| method | layers | an epoch, computed whole | with the lower layers kept | ratio | of processor time |")
    print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(prefix="prefix-") as place:
        root = Path(place)
        for name in METHODS:
            method = MethodConfig(name=name, layers=f"top-{half}")  # type: ignore[arg-type]
            both: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            for number in range(config.rounds):
                for is_kept, measured in both.items():
                    folder = root / f"{name}-{is_kept}-{number}"
                    (_, last), processor_s = train(prepared, method, folder, root / name if is_kept else None)
                    measured.append((last.train_s, processor_s))
            whole, kept = (list(zip(*measured, strict=True)) for measured in both.values())
            ratios = [ratio(one, other) for one, other in zip(whole, kept, strict=True)]
            print(f"| {name} | top-{half} | {shown(whole[0])} | {shown(kept[0])} | {' | '.join(ratios)} |", flush=True)
        print("\n| probe | first epoch | later epochs | ratio | computed whole |")
        print("| --- | ---: | ---: | ---: | ---: |", flush=True)
        probe = MethodConfig(name="probe")
        (first, *later), _ = train(prepared, probe, root / "probe", root / "pooled", 5)
        (_, plain), _ = train(prepared, probe, root / "probe-whole", None)
        begun, whole_s, *rest = [one.train_s + one.eval_s for one in (first, plain, *later)]
        times = f"{begun / statistics.median(rest):.0f}"
        print(f"| training and evaluation | {begun:.2f} s | {shown(rest)} | {times} | {whole_s:.2f} s |")


if __name__ == "__main__":
    main()
