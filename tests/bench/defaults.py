"""One setting at a time from the present default: `python -m tests.bench.defaults FOLDER [hours=1] [seeds=0,1] ...`.

Further words are those of `tests.bench.search`; `factors=method,engine.epochs` chooses what is varied. A cell is a
task, a seed and one setting; it is trained at two learning rates of its method's own range, and the better best
validation score counts, since each setting has rates of its own. At most 500 training rows a task, no test row.
FOLDER keeps the curves, and a later call goes on. A difference is told beside the spread of the default over seeds; a
cell that is not trained when the hours are over is left out, and counted.
"""

import dataclasses
import sys
from collections.abc import Sequence
from statistics import fmean, stdev

from pipeline.config import Range
from pipeline.core.engine.trials import Job, Settings
from pipeline.steps.prepare import Prepared
from tests.bench.curves import Asked, Curves, asked, best_of, config_of, jobs_of, line

STARTER = ("sentiment/films", "ner/news")
BROUGHT = ("sentiment/movies", "ner/disease", "ner/social", "question_type", "intent/banking", "emotion")
PRESET = ("data.max_train_rows=500", "engine.precision=float32")
FACTORS = {
    "method": ["METHOD=houlsby", "METHOD=pfeiffer", "METHOD=lora"],
    "search.space": ["search.space.engine.learning_rate={log_uniform:[0.0005,0.005]}"],
    "engine.batch_size": ["engine.batch_size=8", "engine.batch_size=32"],
    "engine.epochs": ["EPOCHS=8", "EPOCHS=3"],
    "method.norms": ["method.norms=true"],
    "method.activation": ["method.activation=gelu", "method.activation=relu", "method.activation=tanh"],
    "method.width": ["method.width=96", "method.width=24"],
    "method.layers": ["method.layers=top-4", "method.layers=top-3"],
    "engine.head_dropout": ["engine.head_dropout=0.0"],
    "method.init": ["method.init=bert"],
    "method.dropout": ["method.dropout=0.1"],
    "engine.schedule": ["engine.schedule=cosine"],
    "engine.precision": ["engine.precision=bfloat16"],
}
"""Setting -> the words that change it alone, in the order in which they are trained while there is time. The width is
searched by default; here it is that of the method's file. What trains all or nothing of the checkpoint, `full` and
`probe`, is compared by `make compare`."""
DEFAULT = "default"
SHARES = (0.4, 0.8)
"""Of the learning rates' range, on its log scale."""


def rates_of(range_: Range | None, otherwise: float) -> list[float]:
    """The learning rates of a cell."""
    if range_ is None or range_.log_uniform is None:
        return [otherwise]
    low, high = range_.log_uniform
    return [float(f"{low * (high / low) ** share:.2g}") for share in SHARES]


def cell(kept: Curves, prepared: Prepared, of_job: Job, seed: int, given: Asked, variant: str) -> float | None:
    """The best validation score of one setting, in points; None if it is not known and time is up."""
    own = [] if variant == DEFAULT else [variant]
    config = config_of([of_job.name], given.data if of_job.name not in STARTER else None, [*PRESET, *given.words, *own])
    settings = Settings(method=config.method, engine=config.engine)
    params = [
        {"engine.learning_rate": rate}
        for rate in rates_of(config.search.space.get("engine.learning_rate"), config.engine.learning_rate)
    ]
    job = dataclasses.replace(of_job, seed=seed, settings=settings)
    curves = [kept.of(prepared, job, one) for one in params]
    return None if None in curves else 100 * max(best_of(curve) for curve in curves if curve is not None)


def main(words: Sequence[str]) -> None:
    """Train what is not known yet, and print the table."""
    chosen = [word.partition("=")[2].split(",") for word in words if word.startswith("factors=")]
    given = asked([word for word in words if not word.startswith("factors=")], STARTER, BROUGHT)
    kept = Curves(given.folder, given.hours)
    variants = [DEFAULT, *(one for name, some in FACTORS.items() if not chosen or name in chosen[0] for one in some)]
    jobs = jobs_of(given, STARTER, PRESET)
    scores: dict[tuple[str, str], dict[int, float]] = {}
    missing = 0
    for seed in given.seeds:
        for variant in variants:
            for prepared, _, job in jobs:
                score = cell(kept, prepared, job, seed, given, variant)
                missing += score is None
                if score is not None:
                    scores.setdefault((variant, job.name), {})[seed] = score
    names = [job.name for _, _, job in jobs]
    print(line(["setting", *names, "mean difference", "tasks better"]))
    print(line(["---", *["---:"] * (len(names) + 2)]))
    for variant in variants:
        cells, differences = [], []
        for name in names:
            own, usual = scores.get((variant, name), {}), scores.get((DEFAULT, name), {})
            pairs = [own[seed] - usual[seed] for seed in own.keys() & usual.keys()]
            if variant == DEFAULT:
                spread = f" ± {stdev(own.values()):.1f}" if len(own) > 1 else ""
                cells.append(f"{fmean(own.values()):.1f}{spread}" if own else "")
            else:
                cells.append(f"{fmean(pairs):+.1f}" if pairs else "")
                differences += [fmean(pairs)] if pairs else []
        better = f"{sum(one > 0 for one in differences)} of {len(differences)}"
        mean = f"{fmean(differences):+.2f}" if differences else ""
        print(line([variant, *cells, mean, better if differences else ""]))
    if missing:
        print(f"\n{missing} of {len(variants) * len(jobs) * len(given.seeds)} cells were left out, as time was up.")


if __name__ == "__main__":
    main(sys.argv[1:])
