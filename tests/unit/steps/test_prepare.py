"""What is read and checked before a sweep: once, and whether checkpoint and method can do what the jobs ask."""

import contextlib
import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.cluster import connection
from pipeline.config import CompareConfig, EngineConfig, GateConfig, MethodConfig, MethodName, SweepConfig, TaskConfig
from pipeline.config.overrides import read_config
from pipeline.core.adapters import checkpoint as checkpoints
from pipeline.core.adapters.checkpoint import tensors_of
from pipeline.core.engine.trials import Job
from pipeline.core.tasks import metrics
from pipeline.errors import ConfigError
from pipeline.steps import prepare as prepare_module
from pipeline.steps.estimate import announce
from pipeline.steps.prepare import check_fit, check_floor, prepare
from tests import writers

ROW = {"text": "a b", "target": "b"}
HOULSBY = MethodConfig(name="houlsby")


def job(**changes: object) -> Job:
    config = TaskConfig(name="say", kind="generation", max_length=16, max_new_tokens=4, **changes)  # type: ignore[arg-type]
    tokenizer = writers.make_tokenizer("t5", ["a", "b"])
    return writers.make_job(config, [ROW] * 4, tokenizer, method=HOULSBY, engine=EngineConfig())


@pytest.mark.parametrize("method", ["houlsby", "pfeiffer", "parallel", "lora", "full"])
def test_a_task_of_generation_fits_a_checkpoint_with_a_language_model_head(method: MethodName) -> None:
    check_fit([job()], writers.make_checkpoint("t5"), MethodConfig(name=method))


def test_a_checkpoint_without_a_language_model_head_cannot_write() -> None:
    with pytest.raises(ConfigError, match=r"^task.say: is a task of generation, and tiny \(t5\) cannot write. Use a"):
        check_fit([job(), job()], writers.make_checkpoint("t5", has_lm_head=False), HOULSBY)


@pytest.mark.parametrize("method", ["probe", "prompt"])
def test_methods_that_cannot_train_generation_say_which_can(method: MethodName) -> None:
    with pytest.raises(ConfigError) as caught:
        check_fit([job()], writers.make_checkpoint("t5"), MethodConfig(name=method))
    message = str(caught.value)
    assert message.startswith(f"method: '{method}' cannot be used for task.say, a task of generation: ")
    assert message.endswith("Use one of houlsby, pfeiffer, parallel, lora, full.")


def test_a_metric_that_is_not_installed_is_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = job(metric="chrf")
    check_fit([chosen], writers.make_checkpoint("t5"), HOULSBY)
    monkeypatch.setattr(metrics, "has_chrf", lambda: False)
    with pytest.raises(ConfigError, match=r"task.say.metric: 'chrf' needs sacrebleu. Install it, or set"):
        check_fit([chosen], writers.make_checkpoint("t5"), HOULSBY)


def test_no_least_score_is_asked_of_a_metric_of_which_less_is_better() -> None:
    tasks = [TaskConfig(name=name, kind="regression", metric=name) for name in ("spearman", "rmse")]
    check_floor(tasks, GateConfig())
    check_floor(tasks[:1], GateConfig(floor=0.5))
    with pytest.raises(
        ConfigError, match=r"gate.floor: '0.5' cannot be a least score of rmse: .* less is better. Leave"
    ):
        check_floor(tasks, GateConfig(floor=0.5))


TinyBert = Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]


@pytest.fixture
def folder(tiny_bert: TinyBert, tmp_path: Path) -> Path:
    """Of a tiny checkpoint."""
    for part in tiny_bert():
        part.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_the_checkpoint_and_the_list_of_tasks_are_read_once_for_all_that_follows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(place: object, name: str) -> None:
        plain = getattr(place, name)

        def call(*given: object, **named: object) -> object:
            calls.append(name)
            return plain(*given, **named)

        monkeypatch.setattr(place, name, call)

    counted(AutoModel, "from_pretrained")
    counted(checkpoints, "_hash_files")
    counted(prepare_module, "resolve")
    words = ["tasks=[sentiment]", f"checkpoint={folder}", "dryrun=true", "cluster=here", "data.max_train_rows=16"]
    config = read_config("sweep", SweepConfig, words)
    prepared = prepare(config)
    assert sorted(calls) == ["_hash_files", "from_pretrained", "resolve"]
    shutil.rmtree(folder)
    console = Console(file=io.StringIO(), width=200)
    announce(config, prepared, console)
    assert "Nothing was trained" in console.file.getvalue()  # type: ignore[attr-defined]
    names = set(tensors_of(prepared.base))
    assert names == set(dict(prepared.base.named_parameters())) | set(dict(prepared.base.named_buffers()))


def test_each_method_of_a_comparison_is_checked_with_its_own_search(folder: Path) -> None:
    words = ["tasks=[sentiment]", f"checkpoint={folder}", "methods=[pfeiffer,houlsby]", "method.layers=top-9"]
    config = read_config("compare", CompareConfig, [*words, "search.space.method.dropout.choice=[0.1,2.0]"])
    with pytest.raises(ConfigError, match=r"search.space.method.dropout: '2.0' must be"):
        prepare(config)
    with pytest.raises(ConfigError, match=r"method.layers: 'top-9'"):
        prepare(
            dataclasses.replace(
                config, contenders={name: dataclasses.replace(one, space={}) for name, one in config.contenders.items()}
            )
        )


@pytest.mark.parametrize(
    ("said", "has_it", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("float32", True, "float32"),
        ("bfloat16", False, "bfloat16"),
    ],
)
def test_the_precision_is_settled_before_there_are_jobs(
    folder: Path, said: str, has_it: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def has_bfloat16(kind: str) -> bool:
        asked.append(kind)
        return has_it

    monkeypatch.setattr(prepare_module, "has_bfloat16", has_bfloat16)
    words = ["tasks=[sentiment]", f"checkpoint={folder}", "cluster=here", f"engine.precision={said}"]
    config = read_config("sweep", SweepConfig, words)
    prepared = prepare(config)
    assert asked == ["cpu"]
    assert [job.settings.engine.precision for job in prepared.jobs] == [expected]
    assert prepared.settled(config) == dataclasses.replace(
        config,
        engine=dataclasses.replace(config.engine, precision=expected),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("gpus_per_trial", "answers", "expected"),
    [
        (0, [True, True], True),
        (0, [True, False], False),
        (0, [], False),
        (0.5, [True, False], False),
        (0.5, [], True),  # nodes with GPUs that are still to join
    ],
)
def test_on_a_cluster_the_weakest_node_that_trains_settles_the_precision(
    gpus_per_trial: float, answers: list[bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def everywhere(question: object, given: str, *, having: str) -> list[bool]:
        asked.append((given, having))
        return answers

    monkeypatch.setattr(connection, "connected", contextlib.nullcontext)
    monkeypatch.setattr(connection, "nodes", list)
    monkeypatch.setattr(connection, "everywhere", everywhere)
    words = ["tasks=[sentiment]", "cluster=existing", f"cluster.gpus_per_trial={gpus_per_trial}"]
    config = read_config("sweep", SweepConfig, words)
    assert prepare_module._nodes(config) == ([], expected)
    engine = dataclasses.replace(config.engine, precision="float32")
    assert prepare_module._nodes(dataclasses.replace(config, engine=engine)) == ([], False)
    assert asked == [("cuda", "GPU") if gpus_per_trial else ("cpu", "CPU")]
