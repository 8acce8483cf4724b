"""To a Ray: one of our own on this machine, started and stopped here, or one that is there."""

import contextlib
import gc
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import ray
from ray._private import services
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pipeline
from pipeline.config import ClusterConfig
from pipeline.errors import ConfigError, PipelineError, fault
from pipeline.rules.slots import Nodes

_LONGEST_TMP = 40  # a Unix socket's path has 107 characters at most, and Ray appends some 60
_PATIENCE_S = 10.0
_ANSWER_S = 60.0  # a process of Ray that loads torch is there in a few seconds
_SMALLEST_STORE = 256 * 2**20  # for the tokenised data and what trials send


@contextlib.contextmanager
def connected(cluster: ClusterConfig, *, shared_bytes: int = 0) -> Iterator[None]:
    """Connect to the Ray that the config names, and leave it as it was whatever happens.

    Args:
        shared_bytes: Size of the checkpoint, for which a Ray of our own makes room.

    Raises:
        ConfigError: There is no Ray at the address.
    """
    # Ray reads this from the environment when it is imported, which may have been before this package set it; there is
    # no public way to set it later.
    ray._private.ray_constants.RAY_ENABLE_ZERO_COPY_TORCH_TENSORS = True
    logging.getLogger("ray").handlers.clear()  # Ray's own, to standard error; the command says where logs go
    logging.getLogger("ray").propagate = True
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # misses the files of Tune's own loggers
    with _started(cluster, shared_bytes) if cluster.name == "local" else _joined(cluster):
        yield


@contextlib.contextmanager
def _started(cluster: ClusterConfig, shared_bytes: int) -> Iterator[None]:
    root = tempfile.gettempdir()
    temp = tempfile.mkdtemp(prefix="ray-", dir=root if len(root) <= _LONGEST_TMP else "/tmp")
    try:
        try:
            ray.init(
                address="local",
                num_cpus=cluster.num_cpus,
                object_store_memory=cluster.object_store_bytes or _SMALLEST_STORE + shared_bytes * 5 // 4,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
                _temp_dir=temp,
                _system_config={"gcs_rpc_server_reconnect_timeout_s": 5},  # agents outlive a killed command so long
            )
        except Exception as error:  # of no class of its own, on a machine that is too busy
            why = str(error).strip().partition("\n")[0]
            raise PipelineError(f"Ray did not start ({why}). Try again, or do without it: CLUSTER=here") from error
        yield
    finally:
        _leave(wait_for_processes=True)
        shutil.rmtree(temp, ignore_errors=True)


@contextlib.contextmanager
def _joined(cluster: ClusterConfig) -> Iterator[None]:
    """Join a Ray, whose workers get this package and the settings that it needs."""
    names = [name for name in os.environ if name.startswith(("RAY_ENABLE_", "RAY_CHDIR_", "RAY_AIR_", "TUNE_"))]
    answers = False
    try:
        found = cluster.address == "auto"  # what that stands for is told by no public name
        address = services.canonicalize_bootstrap_address_or_die("auto") if found else cluster.address
        host, _, port = address.rpartition(":")
        if port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
            answers = True
        ray.init(
            address=cluster.address,
            runtime_env={
                "py_modules": [str(Path(pipeline.__file__).parent)],
                "env_vars": {name: os.environ[name] for name in names},
            },
            configure_logging=False,
            log_to_driver=False,
        )
    except (OSError, ValueError, ray.exceptions.RayError) as error:
        rule = f"is no Ray that can be joined ({str(error).strip().partition(chr(10))[0]})"
        remedy = "Run the command on a node of the cluster (`ray start --head` makes one), or leave out CLUSTER"
        if answers:
            remedy = "It answers: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to those that the cluster was started with"
        raise ConfigError(fault("cluster.address", cluster.address, rule, remedy)) from error
    try:
        yield
    finally:
        _leave()


def _leave(**how: bool) -> None:
    """Shut Ray down while no other thread collects garbage.

    Tune leaves cycles that hold references to objects; one that is collected, in whatever thread, while Ray goes down
    ends the process with an error that only Ray's log tells.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown(**how)
    finally:
        gc.enable()


def nodes() -> Nodes:
    """Say what the nodes of the Ray that is connected have."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def everywhere(question: Callable[[str], bool], given: str, *, having: str) -> list[bool]:
    """Ask every node of the Ray that is connected and has some of a resource, `CPU` or `GPU`.

    It takes none of that from trials: the process that answers sees all GPUs of its node without having any, and ends
    with its answer, since one that has looked at a GPU keeps memory there. A node that goes meanwhile, or does not
    answer within a minute, is told as False.
    """
    ask = ray.remote(num_cpus=0, max_calls=1)(question)
    ids = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get(having)]
    on = [NodeAffinitySchedulingStrategy(node_id=id, soft=False) for id in ids]
    answers = []
    for asked in [ask.options(scheduling_strategy=one).remote(given) for one in on]:
        try:
            answers.append(bool(ray.get(asked, timeout=_ANSWER_S)))
        except ray.exceptions.RayError:
            answers.append(False)
    return answers


def here() -> str:
    """Name the resource that the command's node has one of, and no other node has."""
    mine = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == mine)
    return next(str(name) for name in resources if name.startswith("node:") and name != "node:__internal_head__")
