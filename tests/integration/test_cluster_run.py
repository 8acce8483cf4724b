"""`run` with the real engine on a tiny BERT: the whole way from jobs to tested winners, interrupted and not."""

import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import pytest
import ray
import torch
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.cluster import connection, experiment, weights
from pipeline.cluster.connection import connected
from pipeline.cluster.experiment import run
from pipeline.cluster.parallel import _backend
from pipeline.cluster.weights import SharedWeights, share
from pipeline.config import (
    ClusterConfig,
    EngineConfig,
    Range,
    SearchConfig,
)
from pipeline.core.adapters.checkpoint import Checkpoint, Resident, build_base, load_checkpoint, load_tensors
from pipeline.core.engine import base as frozen
from pipeline.core.engine.base import SharedBase
from pipeline.core.engine.events import EpochSaved, JobTested, SweepEvent, TrialReported
from pipeline.core.engine.precision import has_bfloat16
from pipeline.core.engine.trainer import follow
from pipeline.core.engine.trials import Job, Trial
from pipeline.errors import SweepError
from pipeline.rules.race import Outcome
from pipeline.steps import here
from tests.conftest import TinyBert
from tests.tiny import outcome, tiny_checkpoint, tiny_job, weights_of

pytestmark = pytest.mark.ray

TWO_SLOTS = ClusterConfig(num_cpus=2, object_store_bytes=100 * 2**20)
HALVES = dataclasses.replace(TWO_SLOTS, gpus_per_trial=0.5)
TWO_OF_EACH = pytest.mark.parametrize(
    "two_slots",
    [TWO_SLOTS, pytest.param(HALVES, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
    ids=["two cores", "two halves of a GPU"],
)
SEARCH = SearchConfig(trials=3, space={"engine.learning_rate": Range(log_uniform=[1e-3, 1e-1])})


@pytest.fixture
def checkpoint(tiny_bert: TinyBert, tmp_path: Path) -> Checkpoint:
    return tiny_checkpoint(*tiny_bert(), tmp_path / "checkpoint")


@pytest.fixture
def resident(checkpoint: Checkpoint) -> Resident:
    return load_checkpoint(checkpoint)


@pytest.fixture
def jobs(checkpoint: Checkpoint) -> list[Job]:
    return [tiny_job(name, checkpoint) for name in ("films", "books")]


@pytest.mark.faults
@TWO_OF_EACH
def test_a_sweep_that_was_interrupted_ends_bit_for_bit_like_one_that_was_not(
    two_slots: ClusterConfig, jobs: list[Job], resident: Resident, tmp_path: Path
) -> None:
    whole: list[SweepEvent] = []
    ended = run(jobs, resident, search=SEARCH, cluster=two_slots, folder=tmp_path / "whole", sink=whole.append)
    winners = ended.winners
    assert not ray.is_initialized()
    assert [won.trial.job for won in winners] == ["films/d", "books/d"]
    assert sorted(map(id, winners)) == sorted(id(event) for event in whole if isinstance(event, JobTested))
    assert len(outcome(whole)) == 6
    for won in winners:
        best = max(end[3] for key, end in outcome(whole).items() if key.startswith(won.trial.key[:-3]))
        assert won.validation == best
        assert len(won.predictions) == 18

    cut: list[SweepEvent] = []

    def interrupting(event: SweepEvent) -> None:
        cut.append(event)
        if len([e for e in cut if isinstance(e, TrialReported)]) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    folder, one_slot = tmp_path / "cut", dataclasses.replace(two_slots, num_cpus=1)
    with pytest.raises(KeyboardInterrupt):
        run(jobs, resident, search=SEARCH, cluster=one_slot, folder=folder, sink=interrupting)
    assert not ray.is_initialized()
    resumed: list[SweepEvent] = []
    run(jobs, resident, search=SEARCH, cluster=one_slot, folder=folder, sink=resumed.append)
    assert outcome(resumed) == outcome(whole)


@pytest.mark.faults
@TWO_OF_EACH
def test_two_workers_that_were_interrupted_end_bit_for_bit_like_two_that_were_not(
    two_slots: ClusterConfig, jobs: list[Job], resident: Resident, tmp_path: Path
) -> None:
    cluster = dataclasses.replace(two_slots, num_workers=2)
    whole: list[SweepEvent] = []
    run(jobs[:1], resident, search=SEARCH, cluster=cluster, folder=tmp_path / "whole", sink=whole.append)
    cut: list[SweepEvent] = []

    def interrupting(event: SweepEvent) -> None:
        cut.append(event)
        if len([e for e in cut if isinstance(e, TrialReported)]) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        run(jobs[:1], resident, search=SEARCH, cluster=cluster, folder=folder, sink=interrupting)
    resumed: list[SweepEvent] = []
    run(jobs[:1], resident, search=SEARCH, cluster=cluster, folder=folder, sink=resumed.append)
    assert outcome(resumed) == outcome(whole)


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    """A Ray of our own, of two cores, where another one's address stands in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_ADDRESS", "127.0.0.1:1")
        environment.delenv("RAY_AUTH_MODE", raising=False)
        ours = connected(ClusterConfig(num_cpus=2), shared_bytes=100 * 2**20)
        ours.__enter__()
    yield
    ours.__exit__(None, None, None)


@pytest.fixture
def joined(started: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches are run on that Ray, and start none."""
    monkeypatch.setattr(connection, "connected", lambda cluster, shared_bytes: nullcontext())


@pytest.mark.faults  # with others of several workers: eight processes of Ray Train start
@TWO_OF_EACH
def test_two_workers_train_what_one_trains(
    two_slots: ClusterConfig, joined: None, jobs: list[Job], resident: Resident, tmp_path: Path
) -> None:
    """At the same global batch and without dropout, which each worker draws for itself.

    Not to the bit: a batch in two shares is padded and summed in another order. In float32 that is some 1e-7 of the
    largest weight a step; a worker that left its share out would be off by more than the tolerance at the first one.
    """
    # One row more than full batches have: the last batch leaves a worker without a share.
    films, books = [plain(job) for job in jobs]
    job = dataclasses.replace(films, settings=dataclasses.replace(films.settings, engine=ODD))
    whole: dict[int, list[SweepEvent]] = {}
    alone = dataclasses.replace(two_slots, name="here"), dataclasses.replace(two_slots, num_workers=2)
    for num_workers, search, cluster in zip((1, 2), (here.run, run), alone, strict=True):
        sink, folder = whole.setdefault(num_workers, []).append, tmp_path / str(num_workers)
        search([job, books], resident, search=SEARCH, cluster=cluster, folder=folder, sink=sink)
    one, two = weights_of(tmp_path / "1"), weights_of(tmp_path / "2")
    assert one.keys() == two.keys() and len(one) > 50
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=0, atol=1e-5), name
    scores = [{key: end[:4] for key, end in outcome(told).items()} for told in whole.values()]
    assert scores[0] == scores[1]


def test_a_checkpoint_that_was_changed_fails_the_sweep_which_reads_it_no_second_time(
    joined: None, jobs: list[Job], resident: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(resident.checkpoint.folder)

    def another(tensors: Mapping[str, Tensor]) -> SharedWeights:
        return dataclasses.replace(share(tensors), sha256="0" * 64)

    monkeypatch.setattr(weights, "share", another)
    monkeypatch.setattr(experiment, "run_on", lambda *_, **__: Outcome(winners=(), missing={}))
    search, told = dataclasses.replace(SEARCH, trials=1), list[SweepEvent]()
    with pytest.raises(SweepError, match="The shared checkpoint was changed while the trials ran"):
        run(jobs[:1], resident, search=search, cluster=TWO_SLOTS, folder=tmp_path / "sweep", sink=told.append)


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_a_write_into_a_copy_of_the_checkpoint_is_found_before_anything_of_it_is_written_or_told(
    device: Literal["cpu", "cuda"],
    jobs: list[Job],
    checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mapped = load_tensors(checkpoint)
    if device == "cpu":  # where it takes a hand to make the base a copy

        def copied(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
            return build_base(checkpoint, {name: tensor.clone() for name, tensor in tensors.items()})

        monkeypatch.setattr(frozen, "build_base", copied)
    base, job, folder = SharedBase(checkpoint, mapped, 0, device), jobs[0], tmp_path / "trial"
    trial = Trial(job=job.name, index=0, params={}, settings=job.settings, seed=1)
    session = base.session(job, trial, folder)
    events = session.events()
    told = follow(events, None)
    assert isinstance(told, EpochSaved) and told.bundle is not None
    bundle, files = told.bundle, sorted(folder.iterdir())
    weight = session.session.model.base.get_parameter("encoder.layer.1.intermediate.dense.weight")
    before = weight[3, 2].item()
    with torch.no_grad():
        weight[3, 2] += 1e-6
    with pytest.raises(SweepError, match=r"The shared checkpoint was changed.*start a new sweep"):
        follow(events, None)
    assert sorted(folder.iterdir()) == files
    session.close()
    with pytest.raises(SweepError, match="The shared checkpoint was changed"):
        base.test(job, trial, bundle)
    with torch.no_grad():
        weight[3, 2] = before
    assert base.test(job, trial, bundle).predictions


def test_a_ray_of_our_own_joins_no_strangers_asks_for_a_token_and_has_room_for_the_checkpoint(started: None) -> None:
    assert is_token_auth_enabled()
    (node,) = ray.nodes()
    assert node["Resources"]["object_store_memory"] == (256 + 125) * 2**20


def test_nodes_are_asked_whether_they_multiply_bfloat16(started: None) -> None:
    assert connection.everywhere(has_bfloat16, "cpu", having="CPU") == [has_bfloat16("cpu")]
    assert connection.everywhere(has_bfloat16, "cuda", having="GPU") == []
    assert connection.everywhere(lambda _: bool(1 / 0), "cpu", having="CPU") == [False]


def test_gradients_are_summed_by_nccl_on_whole_gpus_alone() -> None:
    backends = {share: _backend(dataclasses.replace(TWO_SLOTS, gpus_per_trial=share)) for share in (0.0, 0.5, 1.0)}
    assert backends == {0.0: "gloo", 0.5: "gloo", 1.0: "nccl"}  # which refuses two processes on one GPU


ODD = EngineConfig(epochs=3, batch_size=47, head_dropout=0.0, precision="float32")


def plain(job: Job) -> Job:
    """The job without dropout."""
    engine = dataclasses.replace(job.settings.engine, head_dropout=0.0, precision="float32")
    return dataclasses.replace(job, settings=dataclasses.replace(job.settings, engine=engine))
