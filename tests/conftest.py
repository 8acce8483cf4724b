"""What many tests share: a tiny, randomly initialised BERT and its tokenizer, made on the spot."""

import copy
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from filelock import FileLock

if TYPE_CHECKING:  # the process that only hands out the tests reads this file too, and needs no torch
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tests.unit.tracking.server import Server

WORDS = """
    the a an of in at and or is was not who what where when which one two red blue green good bad fine awful
    dull film book food song plot great poor love hate anna ben carl dora paris rome berlin oslo went to saw
    met from capital city france italy germany norway water fire earth wind hot cold wet dry question answer
"""

TinyBert: TypeAlias = "Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]"
gc.set_threshold(50_000, 20, 20)  # by default a twentieth of the time goes into collections that find next to nothing
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default of 15 waits for the other process of tests


SLOW = ("commands", "integration", "parity", "unit/tracking", "unit/clock", "unit/core", "unit/interop", "rules")
"""Folders whose files take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files come first: at the end no process then waits for the other for long."""
    root = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(root).as_posix()
        return next((number for number, slow in enumerate(SLOW) if folder.startswith(slow)), len(SLOW))

    items.sort(key=rank)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What is in memory before a module's tests is not looked through again at every collection, of which trials make
    one each: with all libraries loaded, that takes longer than to train a model this small."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Neither SQLite nor we wait until the disk has what is written: no test outlives the machine. Those of power cuts
    have an `fsync` of their own."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def connected(connection: Any, record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", connected)
    with pytest.MonkeyPatch.context() as unwaited:
        unwaited.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """MLflow reads the files of its migrations, more than sixty, whenever a store is opened: hundreds of times here."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    with pytest.MonkeyPatch.context() as quick:

        def connected(connection: Any, record: object) -> None:
            utils: Any = sys.modules.get("mlflow.store.db.utils")
            if utils is not None and not hasattr(utils._get_latest_schema_revision, "cache_info"):
                quick.setattr(utils, "_get_latest_schema_revision", functools.cache(utils._get_latest_schema_revision))

        event.listen(Engine, "connect", connected)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """SQLAlchemy compiles each of MLflow's queries once an engine, and every store of a test has an engine: here all
    that are SQLite's share what was compiled, and the dialect by which it is found again."""
    import sqlalchemy

    make: Any = sqlalchemy.create_engine
    shared = make("sqlite://", query_cache_size=5000)
    shared.connect().close()

    def create_engine(*arguments: Any, **options: Any) -> Any:
        engine = make(*arguments, **options)
        if engine.dialect.name == "sqlite":
            engine.dialect, engine._compiled_cache = shared.dialect, shared._compiled_cache
        return engine

    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(sqlalchemy, "create_engine", create_engine)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_cache(shared: Path) -> Iterator[None]:
    """What lies below adapters is kept below the run's own folder; matplotlib's list of fonts stays where it is."""
    with pytest.MonkeyPatch.context() as own:
        own.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib")))
        own.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        yield


@pytest.fixture(scope="module", autouse=True)
def composed_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hydra composes what is chosen once, and sets the keys anew each time, which is a tenth of its work: tests have
    hundreds of commands that choose alike. `tests/rules/test_conf.py` composes all anew, and compares."""
    with pytest.MonkeyPatch.context() as quick:
        if request.path.name != "test_conf.py":
            compose_quickly(quick)
        yield


def compose_quickly(patch: pytest.MonkeyPatch) -> None:
    """Keep what was composed, and our own tasks, which no test changes."""
    from pipeline.config import overrides

    read, ours = overrides._task_files, _our_tasks()
    patch.setattr(overrides, "compose", _composed)
    patch.setattr(overrides, "_task_files", lambda own, faults: read(own, faults) if own else copy.deepcopy(ours))


@functools.cache
def _our_tasks() -> dict[str, Any]:
    from pipeline.config import overrides

    return overrides._task_files(None, [])


def _composed(name: str | None, lines: list[str]) -> "DictConfig":
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser

    choices = tuple(line for line in lines if not line.startswith("++"))
    config = copy.deepcopy(_chosen(name, choices, _written(choices)))
    keys = OverridesParser.create().parse_overrides([line for line in lines if line.startswith("++")])
    ConfigLoaderImpl._apply_overrides_to_config(keys, config)
    return config


@functools.cache
def _chosen(name: str | None, choices: tuple[str, ...], written: tuple[tuple[str, int], ...]) -> "DictConfig":
    from hydra import compose

    return compose(name, list(choices))


def _written(choices: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """What the user's own folder holds, and since when."""
    own = [line.partition("file://")[2].rstrip("'\"]") for line in choices if line.startswith("hydra.searchpath")]
    return tuple((str(file), file.stat().st_mtime_ns) for root in own for file in sorted(Path(root).rglob("*.yaml")))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a run of the tests have."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Fill a folder below `shared`, unless another process has."""
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


@pytest.fixture(scope="session")
def empty_database(shared: Path) -> Path:
    """A database with MLflow's tables and no experiment of ours: making them takes seconds."""

    def make(folder: Path) -> None:
        from pipeline.config import TrackingConfig
        from pipeline.tracking.store import open_store

        uri = f"sqlite:///{folder}/mlflow.db"
        open_store(TrackingConfig(uri=uri, artifacts=str(folder), experiment="unused"))

    return once(shared / "store", make) / "mlflow.db"


@pytest.fixture(scope="session")
def mlflow_server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """An MLflow server for all tests of a process; only those of the lease wait for a second holder."""
    from tests.unit.tracking.server import serving

    with serving(tmp_path_factory.mktemp("server"), empty_database) as server, pytest.MonkeyPatch.context() as quick:
        quick.setattr("pipeline.tracking.lock._SETTLE_S", 0.05)
        yield server


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread, which for models this small is faster than two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_bert() -> TinyBert:
    """A factory of (frozen BertModel in eval mode, WordPiece tokenizer): 2 layers, 32 wide, always the same.

    The vocabulary is WORDS, letters, digits and punctuation; another word has a sub-token for each letter.
    """

    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    def make() -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        continued = [f"##{letter}" for letter in letters]
        pieces = [*specials, *letters, *continued, *".,!?'-:;()$\"", *WORDS.split()]
        vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
        tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=64)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = BertModel(config, add_pooling_layer=False)
        return model.requires_grad_(False).eval(), tokenizer

    return make
