"""Two processes train one model: the gradients of their shares are summed by gloo at every step."""

import dataclasses
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline.config import CheckpointConfig, EngineConfig
from pipeline.core.adapters.checkpoint import load_tensors, open_checkpoint
from pipeline.core.engine.base import SharedBase
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import EpochSaved, JobTested
from pipeline.core.engine.trainer import follow
from pipeline.core.engine.trials import Trial
from pipeline.core.engine.workers import Workers
from tests.conftest import TinyBert
from tests.processes import forked
from tests.tiny import tiny_checkpoint, tiny_job

ODD = EngineConfig(epochs=3, batch_size=47, head_dropout=0.0, precision="float32", learning_rate=1e-2)
"""One row more than a full batch has: the last batch leaves a worker without a share."""


def train(folder: Path, workers: Workers) -> JobTested:
    """Train and test a trial, which worker 0 writes below `folder`."""
    torch.set_num_threads(1)
    checkpoint = open_checkpoint(CheckpointConfig(name="tiny", source="path", location=str(folder / "checkpoint")))
    job = tiny_job("films", checkpoint)
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, engine=ODD))
    base = SharedBase(checkpoint, load_tensors(checkpoint), 0, "cpu")
    trial = Trial(job=job.name, index=0, params={}, settings=job.settings, seed=1)
    trained = folder / f"of {workers.size}"
    session = base.session(job, trial, trained, workers)
    events, told = session.events(), None
    while not told or isinstance(told, EpochSaved):
        told = follow(events, None)
    session.close()
    if workers.size > 1:  # an actor asks for the test when the bundle is written
        dist.barrier()
    return base.test(job, trial, trained / f"bundle-{told.best_epoch}", workers)


def work(folder: Path, rank: int) -> None:
    """The life of one of two workers."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    tested = train(folder, Workers(rank, 2))
    (folder / f"scored by {rank}").write_text(repr(tested.scores), "utf-8")
    dist.destroy_process_group()


def test_two_workers_train_and_score_what_one_does(tiny_bert: TinyBert, tmp_path: Path) -> None:
    """Not to the bit: a batch in two shares is padded and summed in another order. In float32 that is some 1e-7 of the
    largest weight a step; a worker that left its share out would be off by more than the tolerance at the first one."""
    tiny_checkpoint(*tiny_bert(), tmp_path / "checkpoint")
    others = [forked().Process(target=work, args=(tmp_path, rank)) for rank in range(2)]
    for other in others:
        other.start()
    alone = train(tmp_path, Workers())
    for other in others:
        other.join(60)
        assert other.exitcode == 0
    bundles = [sorted((tmp_path / f"of {size}").glob("bundle-*")) for size in (1, 2)]
    assert [bundle.name for bundle in bundles[0]] == [bundle.name for bundle in bundles[1]] != []
    for one, two in zip(*bundles, strict=True):
        ours, theirs = read_bundle(one).tensors(), read_bundle(two).tensors()
        assert ours.keys() == theirs.keys() and len(ours) > 8
        for name, tensor in ours.items():
            assert torch.allclose(tensor, theirs[name], rtol=0, atol=1e-5), name
    assert [(tmp_path / f"scored by {rank}").read_text("utf-8") for rank in range(2)] == [repr(alone.scores)] * 2
