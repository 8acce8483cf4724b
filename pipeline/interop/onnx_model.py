"""A bundle with its checkpoint as one ONNX model: for onnxruntime and tokenizers alone, in any language."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

import torch
from torch import Tensor, nn

from pipeline.core.adapters.anatomy import ANATOMIES
from pipeline.core.adapters.checkpoint import Checkpoint, build_base, load_tensors, load_tokenizer
from pipeline.core.engine.assemble import bundle_model
from pipeline.core.engine.bundle import Bundle
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.model import LinearHead, TaskModel
from pipeline.core.tasks.task import Task
from pipeline.errors import BundleError, ConfigError, fault
from pipeline.files import new_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
"""What is needed beside what the pipeline needs; the first two by torch."""
TOLERANCE = 1e-4
"""How far a logit of the exported model may be from ours."""
_OUTPUT = "logits"
_LONGEST = 512
"""Sub-tokens of the longest text that an exported model is tried on."""
_REMEDY = "Give TO=edge, or serve it with the pipeline"


def export(folder: Path, bundle: Bundle, checkpoint: Checkpoint, *, card: str = "") -> None:
    """Write `model.onnx`, `tokenizer.json`, which pads and truncates, and `task.json`, which says what the logits are.

    The model is tried by onnxruntime before the folder is there: on texts of several lengths it says what ours says.

    Args:
        folder: Must not be there yet.
        bundle: Of a kind with a linear head.
        checkpoint: What it was trained on.
        card: README.md, if there is one.

    Raises:
        ConfigError: A library that writes or tries ONNX is not installed.
        BundleError: The bundle is of another kind, torch cannot export it, or what it exports answers otherwise.
    """
    _check(bundle, checkpoint)
    model, task = bundle_model(build_base(checkpoint, load_tensors(checkpoint)), checkpoint, bundle)
    tokenizer = load_tokenizer(checkpoint)
    graph = _Graph(model, task, tokenizer)
    limit = task.limit(tokenizer)
    with new_folder(folder) as draft, _quiet():
        _write_model(draft / "model.onnx", graph, bundle)
        _try(draft / "model.onnx", graph, bundle, limit)
        _write_tokenizer(draft, tokenizer, limit)
        facts = {
            "task": bundle.record.job,
            "kind": bundle.record.task.kind,
            "labels": bundle.record.labels,
            "inputs": list(graph.inputs(1, 1)),
            "output": _OUTPUT,
            "max_length": limit,
            "checkpoint": bundle.record.checkpoint.location,
            "checkpoint_sha256": bundle.record.checkpoint_sha256,
        }
        (draft / "task.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
        if card:
            (draft / "README.md").write_text(card, "utf-8")


@final
class _Graph(nn.Module):
    """What is exported: logits of texts, (B, outputs), or of each of their sub-tokens, (B, T, outputs)."""

    def __init__(self, model: TaskModel, task: Task, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Take the model over: what its head keeps beside the weights is put into them."""
        super().__init__()
        self.model, self.pooled = model, task.pooled
        config = model.base.config
        self._vocab_size, self._pad_token_id = config.vocab_size, tokenizer.pad_token_id
        has_segments = int(getattr(config, "type_vocab_size", 0) or 0) > 1
        self._reads_segments = has_segments and "token_type_ids" in tokenizer.model_input_names
        linear = cast(LinearHead, model.head).linear
        with torch.no_grad():
            for name, tensor in task.exported(model.head.state_dict()).items():
                linear.get_parameter(name.removeprefix("linear.")).copy_(tensor)
        self.requires_grad_(False).eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Texts padded on the right, (B, T)."""
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            batch["token_type_ids"] = token_type_ids
        return self.model.logits(self.model.pooled(batch) if self.pooled else self.model.hidden(batch))

    def inputs(self, num_texts: int, length: int) -> dict[str, Tensor]:
        """Made-up texts, of which the first one is as long as `length` and each further one shorter by a sub-token."""
        ids_BT = torch.arange(num_texts * length).reshape(num_texts, length) * 7 % self._vocab_size
        mask_BT = torch.ones_like(ids_BT)
        for text in range(num_texts):
            end = max(length - text, 1)
            ids_BT[text, end:], mask_BT[text, end:] = self._pad_token_id, 0
        inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
        return inputs | ({"token_type_ids": torch.zeros_like(ids_BT)} if self._reads_segments else {})


def _check(bundle: Bundle, checkpoint: Checkpoint) -> None:
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        rule, remedy = f"needs {', '.join(missing)}", "Install them: pip install 'adapter-pipeline[onnx]'"
        raise ConfigError(fault("to", "onnx", rule, remedy))
    record = bundle.record
    wrong = ""
    if ANATOMIES[checkpoint.model_type].kind == "encoder-decoder":
        wrong = f"is for {checkpoint.model_type}, an encoder with a decoder, which torch does not export"
    elif not isinstance(restore(record.task, record.labels).head(1, 0.0), LinearHead):
        wrong = f"has no linear head ({record.task.kind}, {record.task.scoring} scoring)"
    if wrong:
        raise BundleError(fault(bundle.folder, "", wrong, "Serve it with the pipeline, or train one of another kind"))


def _write_model(file: Path, graph: _Graph, bundle: Bundle) -> None:
    inputs = graph.inputs(2, 7)
    try:
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[_OUTPUT],
            dynamic_shapes=tuple({0: "batch", 1: "length"} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        rule = f"cannot be exported by torch {torch.__version__} ({said[0][:200]})"
        raise BundleError(fault(bundle.folder, "", rule, _REMEDY)) from error
    assert program is not None
    program.save(file)


def _try(file: Path, graph: _Graph, bundle: Bundle, limit: int) -> None:
    """Let onnxruntime answer made-up texts, and compare."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for num_texts, length in ((1, 3), (3, min(limit, 11)), (2, min(limit, _LONGEST))):
        inputs = graph.inputs(num_texts, length)
        (said,) = session.run([_OUTPUT], {name: tensor.numpy() for name, tensor in inputs.items()})
        with torch.inference_mode():
            apart = (torch.from_numpy(said) - graph(**inputs)).abs()
        if not graph.pooled:
            apart = apart[inputs["attention_mask"].bool()]  # what is said of padding is of no account
        if not apart.max() <= TOLERANCE:
            rule = f"answers otherwise in ONNX, by up to {apart.max():.1e} in a logit ({num_texts} texts of {length})"
            raise BundleError(fault(bundle.folder, "", rule, _REMEDY))


def _write_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerBase", limit: int) -> None:
    """The checkpoint's, which pads and truncates a batch as the model wants it, without being told."""
    tokenizer.save_pretrained(folder)
    inner = tokenizer.backend_tokenizer
    inner.enable_truncation(limit, direction=tokenizer.truncation_side)
    inner.enable_padding(
        pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token, pad_type_id=tokenizer.pad_token_type_id
    )
    inner.save(str(folder / "tokenizer.json"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter tells of its own working."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
