"""The actor: Tune's face of a `Trainer`, which keeps the checkpoint and the jobs' data resident from trial to trial."""

import functools
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import ray
from ray import tune
from ray.train import TrainingFailedError

from pipeline.cluster.depot import Depot
from pipeline.cluster.searcher import PACK, RESULTS
from pipeline.core.engine.trainer import Bench, Trainer
from pipeline.core.engine.trials import Job


@dataclass(frozen=True, kw_only=True)
class Supplies:
    """What every actor needs to begin: small, or a reference into the object store."""

    bench: Callable[[], Bench]
    """Makes what trains and tests; called once in each process."""
    jobs: Mapping[str, "ray.ObjectRef[Job]"]
    depot: Depot
    """Where the trials' folders are."""
    num_threads: int


@final
class Trainee(tune.Trainable):  # type: ignore[misc]
    """One trial of Tune after another on the same base, each of which is a pack; `step` is an epoch.

    A process that is killed costs the trial the steps since its last snapshot, and so does a worker of a group.
    """

    def setup(self, config: dict[str, Any], supplies: Supplies | None = None) -> None:
        assert supplies is not None
        jobs, depot, scratch = supplies.jobs, supplies.depot, Path(self.logdir) / "folders"
        self._trainer = Trainer(
            functools.partial(_made, supplies.bench),
            lambda name: ray.get(jobs[name]),
            lambda key: depot.folder(key, scratch),
            root=depot.root,
            num_threads=supplies.num_threads,
            fatal=(TrainingFailedError,),  # a worker has died: as bad as the death of this process
        )
        self._trainer.take_up(config[PACK])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._trainer.take_up(new_config[PACK])
        return True

    def step(self) -> dict[str, Any]:
        stepped = self._trainer.step()
        return {RESULTS: list(stepped["results"].items()), "done": stepped["done"]}

    def cleanup(self) -> None:
        self._trainer.close()


def _made(bench: Callable[[], Bench]) -> Bench:
    """What trains and tests, without a look for garbage meanwhile: thousands of modules are imported, and they stay."""
    gc.disable()
    try:
        return bench()
    finally:
        gc.enable()
