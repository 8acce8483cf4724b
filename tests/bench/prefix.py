"""An epoch with what lies below the adapters kept, beside the same without: `python -m tests.bench.prefix [key=value]`.

Of each method both are trained in turn, several times, in one process. An epoch is the second one: the first computes
what is kept, if it is not there yet. Evaluation is left out, but for the probe, whose epochs are shown whole and beside
its first, with nothing kept before. Further words are settings of a sweep: `tasks=[sentiment/movies] rounds=7`.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.config import MethodConfig
from pipeline.core.adapters.anatomy import layers_of
from pipeline.core.engine.events import EpochSaved, Evaluated
from pipeline.core.engine.prefix import Prefix
from pipeline.core.engine.session import Session
from pipeline.core.engine.shelf import Shelf
from pipeline.core.engine.trials import trial_of
from pipeline.steps.prepare import Prepared, prepare
from tests.bench.__main__ import bench_config

METHODS = ("pfeiffer", "houlsby", "parallel", "lora")
LIMIT = 2**32


def epochs(
    prepared: Prepared, method: MethodConfig, folder: Path, kept: Path | None, number: int = 2
) -> list[Evaluated]:
    """Train some epochs of a job and return their reports."""
    job, pad_token_id = prepared.jobs[0], prepared.tokenizer.pad_token_id
    assert pad_token_id is not None
    params = {f"method.{name}": getattr(method, name) for name in method.__dataclass_fields__}
    trial = trial_of(job, 0, {**params, "engine.epochs": number})
    prefix = Prefix(Shelf(kept, LIMIT), prepared.checkpoint, pad_token_id) if kept else None
    session = Session(prepared.base, prepared.checkpoint, pad_token_id, job, trial, folder, prefix=prefix)
    try:
        return [event.evaluated for event in session.events() if isinstance(event, EpochSaved)]
    finally:
        session.close()


def shown(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def main() -> None:
    config = bench_config(sys.argv[1:])
    prepared = prepare(config)
    half = len(layers_of(prepared.base)) // 2
    rows, threads = len(prepared.jobs[0].dataset.train.rows), torch.get_num_threads()
    print(f"{prepared.jobs[0].name}, {rows} rows, {prepared.checkpoint.config.name}, {threads} threads")
    print("| method | layers | an epoch, computed whole | with the lower layers kept | ratio of each round, median |")
    print("| --- | --- | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(prefix="prefix-") as place:
        root = Path(place)
        for name in METHODS:
            method = MethodConfig(name=name, layers=f"top-{half}")  # type: ignore[arg-type]
            whole, kept = [], []
            for number in range(config.rounds):
                whole.append(epochs(prepared, method, root / f"{name}-whole-{number}", None)[1].train_s)
                kept.append(epochs(prepared, method, root / f"{name}-kept-{number}", root / name)[1].train_s)
            ratio = statistics.median(one / other for one, other in zip(whole, kept, strict=True))
            print(f"| {name} | top-{half} | {shown(whole)} | {shown(kept)} | {ratio:.2f} |", flush=True)
        print("\n| probe | first epoch | later epochs | ratio | the same without, an epoch |")
        print("| --- | ---: | ---: | ---: | ---: |", flush=True)
        probe = MethodConfig(name="probe")
        first, *later = epochs(prepared, probe, root / "probe", root / "pooled", 5)
        _, plain = epochs(prepared, probe, root / "probe-whole", None)
        begun, whole_s, *rest = [one.train_s + one.eval_s for one in (first, plain, *later)]
        ratio = begun / statistics.median(rest)
        print(f"| training and evaluation | {begun:.2f} s | {shown(rest)} | {ratio:.0f} | {whole_s:.2f} s |")


if __name__ == "__main__":
    main()
