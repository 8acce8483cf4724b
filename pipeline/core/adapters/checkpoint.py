"""The pretrained Transformer: found, verified, loaded frozen, and shared between processes as plain tensors."""

import copy
import dataclasses
import hashlib
import importlib.util
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from pipeline.config import CheckpointConfig, Pooling
from pipeline.core.adapters.anatomy import ANATOMIES, anatomy_of, num_positions
from pipeline.core.adapters.masks import ask_no_gpu
from pipeline.errors import CheckpointError, Fault, fault

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_UNREADABLE = {
    "*.gguf": "GGUF is read by other programs: use the checkpoint that it was made from",
    "*gptq*": "On quantised weights nothing is trained here: use the checkpoint that they were made from",
    "*awq*": "On quantised weights nothing is trained here: use the checkpoint that they were made from",
    "adapter_model.*": "That is an adapter: give the checkpoint that it was trained on",
    "*": "Give a folder that model.save_pretrained(folder) wrote",
}
"""What may lie in a folder in the place of weights, and what is to be done then."""
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "*.bpe.model",
    "spiece.model",
    "spm.model",
)
_NOT_NEEDED = ("pooler", "final_logits_bias")
"""Weights that a checkpoint may lack: of a layer that is left out, and zero."""
_ASIDE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
"""Keys of config.json that change no answer."""
_PROBE = "The CAT's naïve café — 1,234.5  Straße\tपानी 東京 \U0001f600 e\u0301"
_NO_CODE: Mapping[str, Any] = {"trust_remote_code": False}
"""Given to transformers in every call: left out, it asks on standard input whether to run a checkpoint's own code."""
_WITH_LM_HEAD = ("LMHeadModel", "ForCausalLM", "ForConditionalGeneration")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md"]  # which states the licence


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint that was found on this machine and has the weights that it should have."""

    config: CheckpointConfig
    folder: Path
    sha256: str
    """Of the weights file; of the hashes of all files by name where there are several."""
    architecture: "PreTrainedConfig"
    """Its config.json; travels to machines that do not have the folder."""
    has_lm_head: bool
    """Whether a decoder has its language-model head: saved with it, or tied to its embeddings."""
    reading: str = ""
    """`reading_of` its tokenizer and config, with which the same weights answer otherwise; known once it is loaded."""

    @property
    def model_type(self) -> str:
        """Family, a key of `pipeline.core.adapters.anatomy.ANATOMIES`."""
        return str(self.architecture.model_type)

    @property
    def pooling(self) -> Literal["mean", "first", "last"]:
        """How a text becomes one vector."""
        if self.config.pooling != "auto":
            return self.config.pooling
        return "mean" if ANATOMIES[self.model_type].kind == "encoder" else "last"

    def pooled(self, pooling: Pooling) -> "Checkpoint":
        """The same, with texts made into vectors in this way."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, pooling=pooling))


@dataclass(frozen=True, kw_only=True, slots=True)
class Resident:
    """A checkpoint in this process, where it is read from the disk once."""

    checkpoint: Checkpoint
    tokenizer: "PreTrainedTokenizerBase"
    base: "PreTrainedModel"
    """Frozen, on the CPU, without adapters; whoever attaches some takes them off again."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Held by whoever has adapters on the base, or uses the tokenizer, where several threads may: servers call in
    threads, while a base carries one adapter at a time and a tokenizer's settings are changed by each call."""


def load_checkpoint(checkpoint: Checkpoint) -> Resident:
    """Read the checkpoint's tokenizer and weights into this process.

    Raises:
        CheckpointError: Either cannot be read.
    """
    tokenizer, base = load_tokenizer(checkpoint), build_base(checkpoint, load_tensors(checkpoint))
    num_embeddings: Any = base.get_input_embeddings().num_embeddings
    largest = _largest_id(tokenizer)
    if largest >= num_embeddings:
        rule = f"has a tokenizer with token number {largest} and embeddings of {num_embeddings} tokens"
        remedy = "Save both anew, after model.resize_token_embeddings(len(tokenizer)) and a training of what is new"
        raise CheckpointError(_fault(checkpoint.config, rule, remedy))
    checkpoint = dataclasses.replace(checkpoint, reading=reading_of(tokenizer, checkpoint.architecture))
    return Resident(checkpoint=checkpoint, tokenizer=tokenizer, base=base)


def _largest_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The largest number that a text may be given.

    A text model may have a tokenizer that knows a token of images too, as Gemma 3's, for which it has no embedding.
    """
    others = {
        number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special and any(word in token.content for word in ("image", "audio", "video"))
    }
    return max({*tokenizer.get_vocab().values()} - others, default=0)


def reading_of(tokenizer: "PreTrainedTokenizerBase", architecture: "PreTrainedConfig") -> str:
    """Hash what a tokenizer makes of texts, and a config but for what names files and versions.

    It is the same whatever files hold the tokenizer, and whichever version of transformers has saved them.
    """
    config = {key: value for key, value in architecture.to_diff_dict().items() if key not in _ASIDE}
    pieces = [tokenizer(*texts, verbose=False)["input_ids"] for texts in ((_PROBE,), (_PROBE, "b"))]
    said = [sorted(tokenizer.get_vocab().items()), pieces, tokenizer.model_max_length, config]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def open_checkpoint(config: CheckpointConfig) -> Checkpoint:
    """Find the checkpoint and verify its weights.

    Raises:
        CheckpointError: It is not there, is incomplete, has other weights than pinned, or is of an unknown family.
    """
    folder = _LOCATE[config.source](config)
    files = _weight_files(config, folder)
    sha256 = _hash_files(files)
    if config.sha256 is not None and sha256 != config.sha256:
        rule = f"has weights with sha256 {sha256[:16]}..., pinned is {config.sha256[:16]}..."
        remedy = (
            f"Reinstall or download {config.location} again; if the new weights are meant, change the pinned sha256"
        )
        raise CheckpointError(_fault(config, rule, remedy))
    from transformers import AutoConfig  # here and below: it takes longer to load than torch, and not all need it

    try:
        model = AutoConfig.from_pretrained(folder, **_NO_CODE)
    except (OSError, ValueError, KeyError) as error:
        rule = f"has no config.json that transformers can read ({_first_sentence(error)})"
        remedy = "Save it with model.save_pretrained(folder)"
        if "trust_remote_code" in str(error):
            rule, remedy = (
                "needs code of its own, which is never run",
                "Use one of a family that transformers has itself",
            )
        raise CheckpointError(_fault(config, rule, remedy)) from error
    quantised = getattr(model, "quantization_config", None)
    if quantised or (folder / "quantize_config.json").is_file():  # as GPTQ was saved before
        how = dict(quantised).get("quant_method", "some method") if isinstance(quantised, Mapping) else "some method"
        rule = f"has quantised weights ({how}), on which nothing is trained here"
        raise CheckpointError(_fault(config, rule, "Use the checkpoint that it was made from"))
    decodes = anatomy_of(model).kind != "encoder"
    is_there = any(name.endswith(_WITH_LM_HEAD) for name in model.architectures or ())
    has_lm_head = decodes and (is_there or model.tie_word_embeddings)  # tied, it is the embeddings: BART's hub files
    return Checkpoint(config=config, folder=folder, sha256=sha256, architecture=model, has_lm_head=has_lm_head)


def load_tokenizer(checkpoint: Checkpoint) -> "PreTrainedTokenizerBase":
    """Load the checkpoint's own tokenizer, limited to the positions that the model has.

    Raises:
        CheckpointError: The folder has none.
    """
    from transformers import AutoTokenizer

    remedy = "Save it into the folder with tokenizer.save_pretrained(folder)"
    if not any(file for pattern in _VOCABULARIES for file in checkpoint.folder.glob(pattern)):
        # transformers would make a tokenizer without words from config.json alone.
        raise CheckpointError(_fault(checkpoint.config, "has no tokenizer", remedy))
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **_NO_CODE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        rule = f"has no tokenizer that transformers can read ({_first_sentence(error)})"
        raise CheckpointError(_fault(checkpoint.config, rule, remedy)) from error
    if tokenizer.pad_token is None:  # decoders; the attention mask says what is padding
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    # Many tokenizers are saved without a limit of their own.
    positions = num_positions(checkpoint.architecture) or tokenizer.model_max_length
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def load_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Read the weights and buffers of the base model in float32 on the CPU, tied ones once; the pooler is left out.

    Raises:
        CheckpointError: The weights cannot be read, or some are missing.
    """
    remedy = "Save it again, or download it again"
    try:
        with _without_progress_bar():
            base, report = _model_class(checkpoint).from_pretrained(
                checkpoint.folder, dtype=torch.float32, output_loading_info=True, **_NO_CODE
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # a package that only some weights need
        rule = f"has weights that cannot be read ({_first_sentence(error)})"
        raise CheckpointError(_fault(checkpoint.config, rule, remedy)) from error
    missing = sorted(name for name in report["missing_keys"] if name.partition(".")[0] not in _NOT_NEEDED)
    if missing:
        rule = f"lacks {len(missing)} weights of its {checkpoint.model_type} model, {missing[0]} among them"
        raise CheckpointError(_fault(checkpoint.config, rule, remedy))
    _drop_pooler(base)
    return tensors_of(base)


def tensors_of(base: "PreTrainedModel") -> dict[str, Tensor]:
    """The weights and buffers of a base model without adapters, in its own memory; tied ones once."""
    tensors = {**dict(base.named_parameters()), **dict(base.named_buffers(remove_duplicate=False))}
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def build_base(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> "PreTrainedModel":
    """Make the frozen base model, in eval mode, around what `load_tensors` returned, without copying it.

    It is the bare model of an encoder; of a decoder the one with the language-model head, where that was saved.
    """
    from transformers import GenerationConfig

    ask_no_gpu()
    base = empty_base(checkpoint)
    persistent = set(base.state_dict())
    base.load_state_dict({name: t for name, t in tensors.items() if name in persistent}, strict=False, assign=True)
    base.tie_weights()
    for name, _ in list(base.named_buffers(remove_duplicate=False)):
        if name not in persistent:  # load_state_dict leaves these on the meta device
            owner, _, leaf = name.rpartition(".")
            base.get_submodule(owner)._buffers[leaf] = tensors[name]
    if checkpoint.has_lm_head:
        # Search and length settings of some other use, such as BART's for summaries, are left behind.
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        base.generation_config = GenerationConfig(**{name: getattr(base.config, name, None) for name in names})
    return base.requires_grad_(False).eval()


def empty_base(checkpoint: Checkpoint) -> "PreTrainedModel":
    """Make the base model without its weights: on the meta device."""
    with torch.device("meta"):
        base: PreTrainedModel = _model_class(checkpoint).from_config(
            copy.deepcopy(checkpoint.architecture), dtype=torch.float32, **_NO_CODE
        )
    _drop_pooler(base)
    return base


def _model_class(checkpoint: Checkpoint) -> Any:
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if not checkpoint.has_lm_head:
        return AutoModel
    is_decoder = ANATOMIES[checkpoint.model_type].kind == "decoder"
    return AutoModelForCausalLM if is_decoder else AutoModelForSeq2SeqLM


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Hash names and contents, to prove that training did not touch them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        flat = tensors[name].detach().cpu().contiguous().flatten()  # a single number, (), has no bytes to view
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def num_parameters(base: "PreTrainedModel") -> int:
    """Count the checkpoint's own parameters; adapters do not count."""
    return sum(p.numel() for p in base.parameters() if not p.requires_grad)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar for weights that are read in a moment."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _drop_pooler(base: "PreTrainedModel") -> None:
    """Leave out the pooling layer that some families add: no head reads it."""
    if getattr(base, "pooler", None) is not None:
        base.pooler = None


def _package_folder(config: CheckpointConfig) -> Path:
    package, _, inside = config.location.partition(":")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        remedy = "Run `make setup`, or install the package that carries it"
        raise CheckpointError(_fault(config, "is no installed package", remedy))
    return Path(spec.submodule_search_locations[0]) / inside


def _hub_folder(config: CheckpointConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(config.location, revision=config.revision, allow_patterns=_HUB_FILES))
        if not any(folder.glob(_WEIGHTS[0])):  # an older model, whose weights are there in torch's format alone
            snapshot_download(config.location, revision=config.revision, allow_patterns=_WEIGHTS[1])
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        rule = f"cannot be fetched from the hub ({_first_sentence(error)})"
        remedy = "Check the id, the network and HF_TOKEN; with HF_HUB_OFFLINE=1 it must be in the cache already. "
        remedy += "If a folder is meant: there is none of that name"
        raise CheckpointError(_fault(config, rule, remedy)) from error


def _given_folder(config: CheckpointConfig) -> Path:
    folder = Path(config.location).expanduser().resolve()
    if not folder.is_dir():
        raise CheckpointError(_fault(config, "is no folder", "Give a folder that model.save_pretrained(folder) wrote"))
    return folder


_LOCATE = {"package": _package_folder, "hub": _hub_folder, "path": _given_folder}


def _weight_files(config: CheckpointConfig, folder: Path) -> list[Path]:
    for pattern in _WEIGHTS:
        files = sorted(folder.glob(pattern))
        if files:
            return files
    rule, remedy = f"has no weights: {folder} holds no {' and no '.join(_WEIGHTS)}", _UNREADABLE["*"]
    for pattern, instead in _UNREADABLE.items():
        if found := sorted(file.name for file in folder.glob(pattern) if pattern != "*"):
            rule, remedy = f"{rule}, but {found[0]}", instead
            break
    raise CheckpointError(_fault(config, rule, remedy))


def _hash_files(files: list[Path]) -> str:
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _fault(config: CheckpointConfig, rule: str, remedy: str) -> Fault:
    return fault("checkpoint", config.location, rule, remedy)


def _first_sentence(error: Exception) -> str:
    """The first sentence of what a library says."""
    return str(error).strip().partition("\n")[0].partition(". ")[0][:200].rstrip(".")
