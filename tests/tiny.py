"""A tiny checkpoint and jobs on it that train in a blink, and how their search ended."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config import CheckpointConfig, EngineConfig, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, load_tokenizer, open_checkpoint
from pipeline.core.data.rows import Dataset, Row, Split
from pipeline.core.engine.bundle import read_bundle
from pipeline.core.engine.events import SweepEvent, TrialEnded
from pipeline.core.engine.trials import Job, Settings
from pipeline.core.tasks.kinds import task_for


def tiny_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Checkpoint:
    """Write the model and open it."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return open_checkpoint(CheckpointConfig(name="tiny", source="path", location=str(folder)))


def tiny_job(name: str, checkpoint: Checkpoint) -> Job:
    """Tell good from bad."""

    def split(kind: str, words: list[str]) -> Split:
        rows = []
        for i, word in enumerate(words):
            fields = {"text": f"{word} {name[:-1]} {i}", "label": "bad" if word in ("bad", "awful", "dull") else "good"}
            rows.append(Row(fields=fields, origin=f"{kind}:{i}", digest=f"{kind}{i}", key=f"{kind}{i}"))
        return Split(name=kind, rows=tuple(rows), fingerprint=kind, cut_from=None)

    words = ["good", "bad", "fine", "awful", "great", "dull"]
    parts: dict[str, Any] = {
        kind: split(kind, words * times) for kind, times in (("train", 8), ("validation", 3), ("test", 3))
    }
    dataset = Dataset(task=name, domain="d", source="s", overlap={}, notes=(), **parts)
    task = task_for(TaskConfig(name=name, kind="classification"), dataset)
    tokenizer = load_tokenizer(checkpoint)
    return Job(
        name=f"{name}/d",
        registered_name=name,
        task=task,
        dataset=dataset,
        encoded={kind: task.encode(part.rows, tokenizer) for kind, part in parts.items()},
        settings=Settings(method=MethodConfig(name="pfeiffer", width=8), engine=EngineConfig(epochs=3, batch_size=8)),
        seed=3,
    )


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Every tensor of every bundle of a sweep."""
    bundles = sorted(folder.glob("trials/*/bundle-*"))
    return {
        f"{bundle.parent.name}/{name}": tensor
        for bundle in bundles
        for name, tensor in read_bundle(bundle).tensors().items()
    }


def outcome(told: Sequence[SweepEvent]) -> dict[str, tuple[Any, ...]]:
    """How each trial ended, down to the bits of its weights."""
    ended = [event for event in told if isinstance(event, TrialEnded)]
    assert all(end.bundle is not None for end in ended)
    return {
        end.trial.key: (
            end.status,
            end.reason,
            end.epochs,
            end.best_primary,
            read_bundle(end.bundle).record.weights_sha256 if end.bundle else "",
        )
        for end in ended
    }
