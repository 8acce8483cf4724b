"""Bundles for tests: written as a trial leaves them, without a training."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint
from pipeline.core.engine.assemble import trained
from pipeline.core.engine.bundle import BundleRecord, write_bundle
from pipeline.core.tasks.model import TaskModel

ENGINE = EngineConfig()


def write(
    folder: Path,
    model: TaskModel,
    *,
    checkpoint: Checkpoint,
    task: TaskConfig,
    labels: Sequence[str],
    method: MethodConfig,
    seed: int,
) -> None:
    """Write the model's adapter and head, with made-up figures beside them."""
    record = BundleRecord(
        job=f"{task.name}/default",
        task=task,
        labels=list(labels),
        method=method,
        engine=ENGINE,
        checkpoint=checkpoint.config,
        checkpoint_sha256=checkpoint.sha256,
        seed=seed,
        epoch=1,
        validation={"accuracy": 0.5},
        data={},
        num_trained=1,
        num_checkpoint=1,
    )
    write_bundle(folder, record, trained(model, method))
