"""What a GPU gains, in under eight minutes: `python -m tests.bench.gpu [--small]`.

It needs torch, transformers and safetensors, this folder and `pipeline/` (of it `core/` and the settings), and brings
its own data and random weights: a BERT of the base size, or with `--small` one of two layers for a look on a CPU.

* Packed = alone: float64 weights after two epochs, and float32 losses step by step.
* Steps at many lengths, padded to a few or not: the first time that a process meets them, and again; their waits.
* Training rows times candidates a second: packs, one process a candidate, and these with NVIDIA's MPS where it starts.
* Batches of the bank, whose rows have 1, 4, 16 and 32 different adapters, beside the bare base.
* What it costs to compare the base's copy with the shared tensors, as each trial does once an epoch.
* Scores with bfloat16 beside float32, of the two layers, since random ones that are deeper learn little.

Everything is printed as markdown; a line that begins with "Not" says what could not be measured, and why.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, Resident, load_checkpoint, load_tensors, open_checkpoint
from pipeline.core.adapters.sites import Sites
from pipeline.core.data.rows import Dataset, Row, Split
from pipeline.core.engine.base import SharedBase
from pipeline.core.engine.batches import collated, training_batches
from pipeline.core.engine.events import Evaluated, StepDone
from pipeline.core.engine.session import Session, train_together
from pipeline.core.engine.step import take_step
from pipeline.core.engine.trials import Job, Settings, trial_of
from pipeline.core.engine.workers import ALONE
from pipeline.core.tasks.kinds import task_for
from tests.bench.routed import carried
from tests.bench.waits import waits
from tests.families import default_checkpoint

COLOURS = ("red", "blue", "green", "grey")
WORDS = ("the", "of", "in", "book", "film", "song", "food", "fire", "water", "plot", "house", "paris", "rome", "oslo")
_BATCH = 16  # rows of a step
DEVICE: Literal["cuda", "cpu"] = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is measured."""

    model: BertConfig | None
    """None: that of the tests, two layers."""
    packs: Sequence[int]
    processes: Sequence[int]
    steps: int
    rows: int
    length: int
    """Words of a text."""
    rounds: int


FULL = Size(
    model=BertConfig(vocab_size=len(COLOURS + WORDS) + 8, max_position_embeddings=512),
    packs=(1, 2, 4, 8, 16, 32),
    processes=(2, 4, 8),
    steps=40,
    rows=2048,
    length=32,
    rounds=5,
)
SMALL = Size(model=None, packs=(1, 2), processes=(2,), steps=3, rows=64, length=8, rounds=2)


def made(size: Size, folder: Path) -> Checkpoint:
    """Write a checkpoint with random weights and a tokenizer of whole words."""
    default_checkpoint("bert", [*WORDS, *COLOURS], folder)
    if size.model is not None:
        torch.manual_seed(0)
        BertModel(size.model, add_pooling_layer=False).save_pretrained(folder)
    return open_checkpoint(CheckpointConfig(name="random", source="path", location=str(folder)))


def job_of(
    size: Size,
    on: Resident,
    precision: Literal["float32", "bfloat16"] = "float32",
    epochs: int = 2,
    learning_rate: float = 1e-3,
) -> Job:
    """Which colour a text names."""
    draw = random.Random(0)
    splits: dict[str, Any] = {}
    for name, count in (("train", size.rows), ("validation", 64), ("test", 8)):
        rows = []
        for number in range(count):
            colour, words = draw.choice(COLOURS), draw.choices(WORDS, k=size.length - 3)
            words.insert(draw.randrange(len(words)), colour)
            fields = {"text": " ".join(words), "label": colour}
            rows.append(Row(fields=fields, origin=f"{name}:{number}", digest=f"{name}{number}", key=f"{name}{number}"))
        splits[name] = Split(name=name, rows=tuple(rows), fingerprint=name, cut_from=None)
    dataset = Dataset(task="colour", domain="d", source="made", overlap={}, notes=(), **splits)
    task = task_for(TaskConfig(name="colour", kind="classification"), dataset)
    engine = EngineConfig(epochs=epochs, batch_size=_BATCH, precision=precision, learning_rate=learning_rate)
    return Job(
        name="colour/d",
        registered_name="colour",
        task=task,
        dataset=dataset,
        encoded={name: task.encode(split.rows, on.tokenizer) for name, split in splits.items()},
        settings=Settings(method=MethodConfig(name="houlsby", width=48), engine=engine),
        seed=0,
    )


def sessions_of(job: Job, on: Resident, folder: Path, count: int) -> list[Session]:
    """Candidates with two widths and learning rates of their own."""
    sites, pad = Sites(on.base), pad_of(on)
    rate = job.settings.engine.learning_rate
    given = [{"engine.learning_rate": rate / (n + 1), "method.width": (48, 24)[n % 2]} for n in range(count)]
    return [
        Session(on.base, on.checkpoint, pad, job, trial_of(job, n, one), folder / str(n), sites=sites)
        for n, one in enumerate(given)
    ]


def pad_of(on: Resident) -> int:
    assert isinstance(on.tokenizer.pad_token_id, int)
    return on.tokenizer.pad_token_id


def clock() -> float:
    """Now, when the device has done all that it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# Packed and alone


def equality(size: Size, checkpoint: Checkpoint, folder: Path) -> Iterator[str]:
    """Train three candidates together and each alone: weights in float64, losses in float32."""
    small = Size(model=None, packs=(), processes=(), steps=0, rows=48, length=8, rounds=0)
    tiny = made(small, folder / "tiny")
    for name, on in (("float64, two layers", load_checkpoint(tiny)), ("float32", load_checkpoint(checkpoint))):
        dtype = torch.float64 if name.startswith("float64") else torch.float32
        on.base.to(DEVICE, dtype)
        job = job_of(small, on)
        ends: list[list[Tensor]] = []
        losses: list[dict[tuple[int, int], float]] = []
        for way, groups in (("packed", [[0, 1, 2]]), ("alone", [[0], [1], [2]])):
            weights, told = {}, {}
            for group in groups:
                where = folder / f"{name[:7]}-{way}-{group[0]}"
                every = sessions_of(job, on, where, 3)
                for parameter in (p for session in every for p in session.training.parameters):
                    parameter.data = parameter.data.to(dtype)
                some = [every[number] for number in group]
                for place, event in train_together(some, [0] * len(some)):
                    if isinstance(event, StepDone):
                        told[group[place], event.step] = event.loss
                for number, session in zip(group, some, strict=True):
                    weights[number] = [p.detach().clone() for p in session.training.parameters]
                for session in every:
                    session.close()
            ends.append([tensor for number in sorted(weights) for tensor in weights[number]])
            losses.append(told)
        if name.startswith("float64"):
            apart = max(float((a - b).abs().max()) for a, b in zip(*ends, strict=True))
            yield f"Packed = alone, {name}, three candidates, two epochs: weights differ by at most {apart:.1e}."
        else:
            apart = max(abs(value / losses[1][key] - 1) for key, value in losses[0].items() if key[1] <= 6)
            yield f"Packed = alone, {name}: the losses of the first six steps differ by at most {apart:.1e} of them."


# Training


def steps_s(sessions: Sequence[Session], job: Job, pad: int, steps: int) -> float:
    """Seconds of so many steps of all together, after two to warm up."""
    examples = job.encoded["train"].examples
    trainings = [session.training for session in sessions]
    batches = training_batches([example["length"] for example in examples], _BATCH, 0, 1)
    start = 0.0
    for number in range(steps + 2):
        if number == 2:
            start = clock()
        batch = collated(job.task, [examples[i] for i in batches[number % len(batches)]], pad, trainings[0].model)
        take_step(trainings, job.task, batch, number + 1)
    return clock() - start


def lengths(size: Size, checkpoint: Checkpoint, folder: Path) -> Iterator[str]:
    """A step at each length, twice, exact ones last, since to have met them makes less of padding; and its waits."""
    on = load_checkpoint(checkpoint)
    on.base.to(DEVICE)
    job, every = job_of(size, on), range(3, size.length + 1)
    (session,), rows = sessions_of(job, on, folder / "lengths", 1), job.encoded["train"].examples[:_BATCH]
    session.model.train()
    for how, make in (("padded", partial(collated, model=session.model)), ("exact", type(job.task).collate)):
        rates = []
        for _ in range(2):
            start = clock()
            for length in every:
                cut = [{"row": 0, "label": one["label"], "input_ids": one["input_ids"][:length]} for one in rows]
                take_step([session.training], job.task, make(job.task, cut, pad_of(on)), 1)
            rates.append(_BATCH * len(every) / (clock() - start))
        yield f"Steps at {len(every)} lengths, {how}: {rates[0]:,.0f} rows/s the first time, {rates[1]:,.0f} again."
    if DEVICE == "cuda":
        step = partial(take_step, [session.training], job.task, collated(job.task, rows, pad_of(on), session.model), 1)
        yield f"A step waits {waits(step)} times for all that the GPU was given."


def training(size: Size, checkpoint: Checkpoint, folder: Path) -> Iterator[str]:
    """Packs and processes, in turn."""
    on = load_checkpoint(checkpoint)
    on.base.to(DEVICE)
    job = job_of(size, on)
    sessions = sessions_of(job, on, folder / "packs", max(size.packs))
    for session in sessions:
        session.model.train()
    rates: dict[int, list[float]] = {count: [] for count in size.packs}
    peaks: dict[int, float] = {}
    for _ in range(size.rounds):
        for count in size.packs:
            if DEVICE == "cuda":
                torch.cuda.reset_peak_memory_stats()
            took = steps_s(sessions[:count], job, pad_of(on), size.steps)
            rates[count].append(_BATCH * size.steps * count / took)
            peaks[count] = torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else 0.0
    for session in sessions:
        session.close()
    yield "| candidates | how | rows x candidates / s | against one | peak, GiB |"
    yield "| ---: | --- | ---: | ---: | ---: |"
    one = statistics.median(rates[1])
    for count, some in rates.items():
        speed = statistics.median(some)
        yield f"| {count} | one pack | {speed:,.0f} | {speed / one:.2f} | {peaks[count]:.2f} |"
    del sessions, on
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    for count in size.processes:
        speed = together(checkpoint, folder, size, count)
        yield f"| {count} | a process each | {speed:,.0f} | {speed / one:.2f} | |"
    if DEVICE != "cuda" or not (control := shutil.which("nvidia-cuda-mps-control")):
        yield f"\nNot measured: processes with MPS, {'for it is not there' if DEVICE == 'cuda' else 'without a GPU'}."
        return
    pipes = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "mps"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "mps")}
    (folder / "mps").mkdir()
    environment = os.environ | pipes
    if subprocess.run([control, "-d"], env=environment, capture_output=True, check=False).returncode:
        yield "\nNot measured: processes with MPS, which did not start."
        return
    try:
        for count in size.processes:
            speed = together(checkpoint, folder, size, count, environment)
            yield f"| {count} | a process each, MPS | {speed:,.0f} | {speed / one:.2f} | |"
    except RuntimeError as error:
        yield f"\nNot measured: processes with MPS: {error}"
    finally:
        subprocess.run([control], input="quit\n", text=True, env=environment, capture_output=True, check=False)


def together(
    checkpoint: Checkpoint, folder: Path, size: Size, count: int, environment: dict[str, str] | None = None
) -> float:
    """Rows times candidates a second of so many processes that train one each, at once."""
    go = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "tests.bench.gpu", "--one", str(checkpoint.folder), str(go)]
    command += ["--small"] if size is SMALL else []
    own = (environment or dict(os.environ)) | ({} if DEVICE == "cuda" else {"OMP_NUM_THREADS": "1"})
    running = [
        subprocess.Popen(command, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(count)
    ]
    while len(list(go.glob("ready-*"))) < count:
        if any(process.poll() for process in running):
            break  # its error is told below
        time.sleep(0.05)
    (go / "go").touch()
    spans = []
    for process in running:
        out, err = process.communicate(timeout=300)
        if process.returncode:
            raise RuntimeError(f"a process ended with {process.returncode}: {err[-500:]}")
        spans.append([float(word) for word in out.split()[-2:]])
    seconds = max(end for _, end in spans) - min(start for start, _ in spans)
    return _BATCH * size.steps * count / seconds


def one(size: Size, location: str, go: Path) -> None:
    """Train one candidate when all are ready; say when it began and ended."""
    checkpoint = open_checkpoint(CheckpointConfig(name="random", source="path", location=location))
    on = load_checkpoint(checkpoint)
    on.base.to(DEVICE)
    job = job_of(size, on)
    (session,) = sessions_of(job, on, go / str(os.getpid()), 1)
    session.model.train()
    steps_s([session], job, pad_of(on), 1)
    (go / f"ready-{os.getpid()}").touch()
    while not (go / "go").exists():
        time.sleep(0.005)
    start = time.time()
    steps_s([session], job, pad_of(on), size.steps)
    print(start, time.time())


# The bank, the base's copy, bfloat16


def bank(size: Size, checkpoint: Checkpoint) -> Iterator[str]:
    """Forward passes of 32 rows with so many different adapters."""
    on = load_checkpoint(checkpoint)
    yield "| precision | length | bare, rows/s | 1 different | 4 | 16 | 32 |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for dtype in (torch.float32, torch.bfloat16) if DEVICE == "cuda" else (torch.float32,):
        base = on.base.to(DEVICE, dtype)
        for length in (size.length, 4 * size.length):
            ids = torch.randint(8, len(WORDS), (32, length), generator=torch.Generator().manual_seed(0)).to(DEVICE)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            runs: dict[str, Callable[[], object]] = {"bare": partial(base, **inputs)}
            for count in (1, 4, 16, 32):
                runs[str(count)] = carried(base, MethodConfig(name="houlsby", width=48), count, inputs)
            times: dict[str, list[float]] = {name: [] for name in runs}
            with torch.inference_mode():
                for number in range(size.rounds * 4 + 1):
                    for name, run in runs.items():
                        start = clock()
                        run()
                        if number:
                            times[name].append(clock() - start)
            bare = statistics.median(times["bare"])
            shares = " | ".join(f"{bare / statistics.median(times[str(count)]):.2f}" for count in (1, 4, 16, 32))
            yield f"| {str(dtype).removeprefix('torch.')} | {length} | {32 / bare:,.0f} | {shares} |"


def copies(checkpoint: Checkpoint, size: Size) -> Iterator[str]:
    """Compare the base's copy with the shared tensors; on a CPU nothing is copied, and so nothing compared."""
    shared = SharedBase(checkpoint, load_tensors(checkpoint), 0, DEVICE)
    times = []
    for _ in range(size.rounds):
        start = clock()
        shared.verify(ALONE)
        times.append(clock() - start)
    yield f"Comparing the base's copy with the shared tensors: {statistics.median(times) * 1000:.1f} ms an epoch."


def precisions(folder: Path) -> Iterator[str]:
    """Validation scores of the same candidate."""
    size = Size(model=None, packs=(), processes=(), steps=0, rows=256, length=8, rounds=0)
    checkpoint, scores = made(size, folder / "scored"), []
    kinds: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    for precision in kinds:
        on = load_checkpoint(checkpoint)
        on.base.to(DEVICE)
        job = job_of(size, on, precision, epochs=8, learning_rate=0.01)
        (session,) = sessions_of(job, on, folder / precision, 1)
        best = max(event.primary for event in session.events() if isinstance(event, Evaluated))
        scores.append(f"{precision} {best:.3f}")
        session.close()
    yield f"Best validation accuracy of eight epochs, 64 rows of four colours: {', '.join(scores)}."


def main() -> None:
    size = SMALL if "--small" in sys.argv else FULL
    if "--one" in sys.argv:
        location, go = sys.argv[sys.argv.index("--one") + 1 :][:2]
        one(size, location, Path(go))
        return
    begun = time.perf_counter()
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {'two layers' if size is SMALL else 'BERT base'}, random weights\n")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoint = made(size, root / "checkpoint")
        for part in (
            equality(size, checkpoint, root),
            lengths(size, checkpoint, root),
            training(size, checkpoint, root),
            bank(size, checkpoint),
            copies(checkpoint, size),
            precisions(root),
        ):
            for line in part:
                print(line, flush=True)
            print()
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
