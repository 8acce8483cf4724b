"""Whether checkpoint and method can do what the jobs ask."""

import pytest

from pipeline.config import EngineConfig, MethodConfig, MethodName, TaskConfig
from pipeline.core.engine.trials import Job
from pipeline.core.tasks import metrics
from pipeline.errors import ConfigError
from pipeline.steps.prepare import check_fit
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
