"""What is forgotten, by how a challenger is trained: `python -m tests.bench.forgetting <data folder> [words ...]`.

Words are names of series, of variants, and `seed=<number>`: all series and variants, and the seeds 0 and 1, if none is
said.
The first period trains a champion; each later one a challenger, which becomes the champion whatever it scores: the gate
is left out, so that what each variant forgets is seen. All rows are of train: those to train on, those to choose epochs
by, and 200 more of each period that nothing else is done with than to measure, so that neither validation nor test rows
have a say in what is kept. Standard output is markdown, progress goes to standard error.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from torch.nn import functional as F

from pipeline.config import RetrainConfig, SweepConfig, TaskConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters.checkpoint import Resident, load_checkpoint, open_checkpoint
from pipeline.core.bank.predictor import Predictor
from pipeline.core.data.rows import Dataset, Row, Split, make_row
from pipeline.core.data.splits import fingerprint
from pipeline.core.engine.assemble import bundle_model, fresh_model, release, trained, warm_start
from pipeline.core.engine.batches import evaluation_batches
from pipeline.core.engine.bundle import Bundle, read_bundle, write_bundle
from pipeline.core.engine.session import Session
from pipeline.core.engine.trials import Job, Settings, Start, trial_of
from pipeline.core.tasks.kinds import restore, task_for
from pipeline.core.tasks.task import Example, Output, Task
from pipeline.rules.news import replayed, shuffled
from pipeline.steps.challenger import rates
from tests.bench.growth import INTENT, labels_of, rows_of
from tests.bench.variants import SHARES, VARIANTS, Softened, Variant, hold_still, mixed

CHOOSE, MEASURE = 100, 200
progress = Console(stderr=True)


def domains(*folders: str, most: int = 200) -> Callable[[Path], list[list[dict[str, Any]]]]:
    """A period for each folder: rows to train on, and those that are left for choosing and measuring."""
    return lambda data: [rows_of(data / one, "train", most + CHOOSE + MEASURE) for one in folders]


def labels(folder: str, *groups: Sequence[str], most: int = 200) -> Callable[[Path], list[list[dict[str, Any]]]]:
    """A period for each group of labels."""

    def make(data: Path) -> list[list[dict[str, Any]]]:
        rows = rows_of(data / folder, "train")
        return [[row for row in rows if labels_of(row) <= {*one}][: most + CHOOSE + MEASURE] for one in groups]

    return make


SERIES: Mapping[str, tuple[str, Callable[[Path], list[list[dict[str, Any]]]]]] = {
    "intent": ("intent", domains(*(f"intent/{one}" for one in INTENT[:4]))),
    "question": ("question_type", labels("question_type", ["DESC", "HUM"], ["NUM"], ["LOC"], ["ENTY"])),
    "emotion": ("emotion", labels("emotion", ["anger", "joy"], ["sadness"])),
    "opinions": ("sentiment", domains(*(f"sentiment/{one}" for one in ("movies", "products", "amazon", "yelp")))),
    "tweets": ("ner", domains(*(f"ner/tweets_{one}" for one in "abfg"), most=300)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    train: list[Row]
    chosen: list[Row]
    measured: list[Row]


class Chain:
    """Champions of one series, each after the one before."""

    def __init__(self, name: str, data: Path, resident: Resident, seed: int, folder: Path) -> None:
        task, make = SERIES[name]
        words = [f"tasks=[{task}]", f"seed={seed}"]
        self.sweep = read_config("sweep", SweepConfig, words)
        self.retrain = read_config("retrain", RetrainConfig, words)
        self.name, self.resident, self.seed, self.folder = name, resident, seed, folder
        self.config: TaskConfig = self.sweep.task[task]
        self.predictor = Predictor(resident)
        self.periods = []
        for values in make(data):
            rows = [row for one in values for row in make_row(one, self.config, name) if isinstance(row, Row)]
            rows = list({row.key: row for row in rows}.values())
            cut = len(rows) - CHOOSE - MEASURE
            self.periods.append(Period(train=rows[:cut], chosen=rows[cut:-MEASURE], measured=rows[-MEASURE:]))
        self.first = self.fit(Variant(cold=True, replay=0.0), None, 0)

    def job(self, variant: Variant, champion: Bundle | None, number: int) -> Job:
        """Of a period; the rows and rates as `challenger_job` has them."""
        now, before = self.periods[number], self.periods[:number]
        old = [row for one in before for row in one.train]
        seed = f"{self.seed} {number}"
        replay = CHOICES[variant.choose](self, champion, old, variant.replay, seed) if champion and old else []
        chosen_before = shuffled([row for one in before for row in one.chosen], seed)[: len(now.chosen)]
        rows = {
            "train": [*now.train, *(row for row, _ in replay)],
            "validation": [*now.chosen, *chosen_before],
            "test": [*now.measured],
        }
        splits = {name: Split(name, tuple(part), fingerprint(part), None) for name, part in rows.items()}
        dataset = Dataset(
            task=self.config.name,
            domain="default",
            source="",
            overlap={},
            notes=(),
            **splits,  # type: ignore[arg-type]
        )
        config, known = self.config, set[str]()
        if champion is not None:
            its = restore(self.config, champion.record.labels)
            config = dataclasses.replace(config, labels=its.grown(now.train))
            known = {label for row in old for label in its.labels_of(row)}
        shares = [*now.train, *old] if variant.weighted and replay else None
        task = task_for(config, dataset, set() if variant.cold else known, shares=shares)
        encoded = task.encoded(dataset, self.resident.tokenizer)
        if variant.weighted:
            encoded["train"] = encoded["train"].weighted([*[1.0] * len(now.train), *(weight for _, weight in replay)])
        engine, start = self.sweep.engine, None
        if champion is not None and not variant.cold:
            challenger = dataclasses.replace(self.retrain.challenger, start="still" if variant.untouched else "warm")
            rate, learning_rate = rates(
                champion.record, challenger, grown=not set(task.labels) <= set(champion.record.labels)
            )
            epochs = self.retrain.engine.epochs * (2 if variant.untouched else 1)
            engine = dataclasses.replace(self.retrain.engine, learning_rate=learning_rate, epochs=epochs)
            start = Start(
                tensors=champion.tensors(),
                labels=tuple(champion.record.labels),
                rate=rate,
                cold_epochs=champion.record.cold_epochs,
                still=variant.untouched,
            )
            task.fresh = tuple(label for label in task.labels if label not in start.labels) if start.still else ()
        job = Job(
            name=f"{self.config.name}/{number}",
            registered_name=self.config.name,
            task=task,
            dataset=dataset,
            encoded=encoded,
            settings=Settings(method=self.sweep.method, engine=engine),
            seed=self.seed,
            start=start,
        )
        if variant.soft and champion is not None:
            num = len(now.train) if variant.soft == "replayed" else 0
            job = self.softened(job, champion, num)
        return job

    def fit(self, variant: Variant, champion: Bundle | None, number: int) -> Bundle:
        """Train a challenger."""
        job = self.job(variant, champion, number)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        base, checkpoint, pad = self.resident.base, self.resident.checkpoint, self.pad
        session = Session(base, checkpoint, pad, job, trial_of(job, 0, {}), folder)
        if variant.still and champion is not None:
            hold_still(session, job, champion)
        for _ in session.events():
            pass
        session.close()
        assert session.bundle is not None
        bundle = read_bundle(session.bundle)
        return self.averaged(job, champion, bundle) if variant.average and champion is not None else bundle

    @property
    def pad(self) -> int:
        return int(self.resident.tokenizer.pad_token_id)

    def averaged(self, job: Job, champion: Bundle, challenger: Bundle) -> Bundle:
        """The mean of both that is best on the choosing rows (WiSE-FT, Wortsman et al. 2022)."""
        record = challenger.record
        model = fresh_model(
            self.resident.base, self.resident.checkpoint, job.task, record.method, record.engine, record.seed
        )
        new = challenger.tensors()
        try:
            start = Start(tensors=champion.tensors(), labels=tuple(champion.record.labels))
            warm_start(model, record.method, start, job.task.labels)
            old = trained(model, record.method)
            fresh = [i for i, label in enumerate(job.task.labels) if label not in champion.record.labels]
            for name in old:  # the champion has no answer where a label is new
                if name.startswith("head.") and len(old[name]) == len(job.task.labels):
                    old[name] = old[name].detach().clone()
                    old[name][fresh] = new[name][fresh].to(old[name])
            old = {name: one.detach().clone() for name, one in old.items()}
        finally:
            release(model, record.method)
        best: tuple[float, Bundle] | None = None
        for share in SHARES:
            mean = {name: (1 - share) * old[name] + share * new[name] for name in new}
            folder = self.folder / f"{challenger.folder.parent.name}-{share}"
            write_bundle(folder, record, mean)
            made = read_bundle(folder)
            score = self.score(made, job.dataset.validation.rows, job.task)
            if best is None or score >= best[0]:
                best = score, made
        assert best is not None
        return best[1]

    def softened(self, job: Job, champion: Bundle, num: int) -> Job:
        """The job with the champion's outputs as further targets of all training rows but the first `num`."""
        encoded = job.encoded["train"]
        outputs = self.outputs(champion, job.dataset.train.rows)
        examples: list[Example] = [
            {**one, "soft": torch.from_numpy(outputs[i]).float(), "is_soft": one["row"] >= num}
            for i, one in enumerate(encoded.examples)
        ]
        task = mixed(Softened, job.task)
        task.places = [job.task.labels.index(label) for label in champion.record.labels]
        return dataclasses.replace(
            job, task=task, encoded={**job.encoded, "train": dataclasses.replace(encoded, examples=examples)}
        )

    def outputs(self, bundle: Bundle, rows: Sequence[Row]) -> list[Output]:
        """The logits of a bundle for each row's example; rows are cut into no windows here."""
        model, task = bundle_model(self.resident.base, self.resident.checkpoint, bundle)
        try:
            encoded = task.encode(rows, self.resident.tokenizer)
            lengths = [example["length"] for example in encoded.examples]
            found: dict[int, Output] = {}
            for indices in evaluation_batches(lengths, 64):
                batch = task.collate([encoded.examples[i] for i in indices], self.pad)
                found |= dict(zip(indices, task.outputs(model, batch), strict=True))
            return [found[i] for i in range(len(encoded.examples))]
        finally:
            release(model, bundle.record.method)

    def score(self, bundle: Bundle, rows: Sequence[Row], task: Task) -> float:
        """Accuracy, or micro F1 of entities."""
        scores = task.score(rows, self.predictor.answer(bundle, rows))
        return scores.metrics.get("accuracy", scores.primary)

    def run(self, name: str) -> tuple[list[list[float]], float, float]:
        """Go through the periods; return champion x period -> score, rows times epochs and seconds a pass."""
        variant, champion, matrix = VARIANTS[name], self.first, []
        work, seconds = [], []
        for number in range(len(self.periods)):
            if number:
                begun = time.perf_counter()
                champion = self.fit(variant, champion, number)
                seconds.append(time.perf_counter() - begun)
                old = sum(len(one.train) for one in self.periods[:number])
                epochs = champion.record.engine.epochs
                work.append((len(self.periods[number].train) + round(variant.replay * old)) * epochs)
            task = restore(champion.record.task, champion.record.labels)
            matrix.append([self.score(champion, one.measured, task) for one in self.periods])
            progress.print(
                f"{self.name}, seed {self.seed}, {name}: " + " ".join(f"{100 * one:.1f}" for one in matrix[-1]),
                soft_wrap=True,
            )
        return matrix, fmean(work), fmean(seconds)


def evenly(chain: Chain, champion: Bundle, old: Sequence[Row], share: float, seed: str) -> list[tuple[Row, float]]:
    task = restore(chain.config, champion.record.labels)
    return replayed(old, share, {row.digest: task.labels_of(row) for row in old}, seed)


def balanced(chain: Chain, champion: Bundle, old: Sequence[Row], share: float, seed: str) -> list[tuple[Row, float]]:
    """As many rows, the same number of each label as far as it has so many; a row goes with its first label."""
    task = restore(chain.config, champion.record.labels)
    groups: dict[str, list[Row]] = {}
    for row in shuffled(old, seed):
        groups.setdefault(min(task.labels_of(row), default=""), []).append(row)
    return [(row, 1.0) for row in in_turn(groups.values(), round(share * len(old)))]


def by_loss(chain: Chain, champion: Bundle, old: Sequence[Row], share: float, seed: str) -> list[tuple[Row, float]]:
    """Of each label the rows that the champion finds hardest."""
    del seed
    task = restore(champion.record.task, champion.record.labels)
    encoded = task.encode(old, chain.resident.tokenizer)
    losses = {}
    for example, logits in zip(encoded.examples, chain.outputs(champion, old), strict=True):
        given = torch.from_numpy(logits).reshape(-1, len(task.labels)).float()
        label = example["label"] if "label" in example else example["labels"]
        losses[old[example["row"]].digest] = F.cross_entropy(given, torch.tensor(label).reshape(-1)).item()
    groups: dict[str, list[Row]] = {}
    for row in sorted(old, key=lambda row: -losses[row.digest]):
        groups.setdefault(min(task.labels_of(row), default=""), []).append(row)
    wanted = {row.digest for one in groups.values() for row in one[: max(1, round(share * len(one)))]}
    return [(row, 1.0) for row in old if row.digest in wanted]


def in_turn(groups: Iterable[Sequence[Row]], number: int) -> list[Row]:
    """One of each group, then another, until there are so many."""
    groups = list(groups)
    order = [one[place] for place in range(max(map(len, groups))) for one in groups if place < len(one)]
    return order[:number]


CHOICES = {"evenly": evenly, "balanced": balanced, "loss": by_loss}


def figures(matrix: Sequence[Sequence[float]]) -> dict[str, float]:
    """ACC and BWT (Lopez-Paz and Ranzato 2017), forgetting (Chaudhry et al. 2018), and the new rows when they came."""
    last, number = matrix[-1], len(matrix)
    own = [matrix[i][i] for i in range(number)]
    return {
        "ACC": fmean(last),
        "BWT": fmean(last[i] - own[i] for i in range(number - 1)),
        "forgetting": fmean(max(row[i] for row in matrix[i:-1]) - last[i] for i in range(number - 1)),
        "step": fmean(matrix[i][j] - matrix[i - 1][j] for i in range(1, number) for j in range(i)),
        "new": fmean(own[1:]),
    }


def main() -> None:
    data, words = Path(sys.argv[1]).absolute(), sys.argv[2:]
    resident = load_checkpoint(open_checkpoint(read_config("sweep", SweepConfig, []).checkpoint))
    seeds = [int(word.removeprefix("seed=")) for word in words if word.startswith("seed=")] or [0, 1]
    print("| series | variant | seed | ACC | BWT | forgetting | past, a pass | new rows | rows x epochs | seconds |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in [word for word in words if word in SERIES] or SERIES:
        for seed in seeds:
            with tempfile.TemporaryDirectory(prefix="forgetting-") as folder:
                chain = Chain(name, data, resident, seed, Path(folder))
                for variant in [word for word in words if word in VARIANTS] or VARIANTS:
                    matrix, work, seconds = chain.run(variant)
                    shown = " | ".join(f"{100 * one:.1f}" for one in figures(matrix).values())
                    print(f"| {name} | {variant} | {seed} | {shown} | {work:.0f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
