"""Show where the adapters library contradicts itself or its documentation; each line prints what was measured.

    .venv-peer/bin/python tests/parity/show_defects.py

Found on the way to parity with it (adapters 1.3.0, transformers 4.57.6). None of it is copied: `pipeline.interop`
refuses the settings that are affected, or reads what the library meant to write.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from adapters import AutoAdapterModel, DoubleSeqBnConfig, SeqBnConfig

FIXTURES = Path("tests/parity/fixtures")
WORDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def llama_forgets_its_cache() -> str:
    """LlamaModel passes `past_key_values`; the library's layer takes `past_key_value` and drops the other."""
    config = transformers.LlamaConfig.from_pretrained(FIXTURES / "llama" / "base")
    model = transformers.LlamaForCausalLM(config).eval()

    def generated(use_cache: bool) -> list[int]:
        tokens = model.generate(WORDS, max_new_tokens=8, min_new_tokens=8, do_sample=False, use_cache=use_cache)
        return [int(token) for token in tokens[0, WORDS.shape[1] :]]

    plain = generated(True)
    adapters.init(model)
    return f"before init {plain}; after, no cache {generated(False)}; after, with cache {generated(True)}"


def hooked_models_use_the_last_norm() -> str:
    """`init_bottleneck` binds the loop variable `layer` late (methods/bottleneck.py, lines 427 and 432)."""
    config = transformers.Gemma3TextConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2
    )
    config.num_key_value_heads, config.head_dim = 1, 8
    model = transformers.Gemma3TextModel(config).eval()
    adapters.init(model)
    model.add_adapter("x", config=SeqBnConfig(reduction_factor=4), set_active=True)
    calls = [0] * 3
    for number, layer in enumerate(model.layers):

        def count(*_: Any, number: int = number) -> None:
            calls[number] += 1

        layer.post_feedforward_layernorm.register_forward_hook(count)
    model(WORDS)
    return f"calls of each layer's post_feedforward_layernorm {calls}; each adapter with its own would be [2, 2, 2]"


def a_documented_residual_breaks() -> str:
    """`residual_before_ln="post_add"` sets no residual where there is no LayerNorm: GPT-2, Llama, T5."""
    model = transformers.AutoModel.from_pretrained(FIXTURES / "gpt2" / "base")
    adapters.init(model)
    model.add_adapter("x", config=SeqBnConfig(reduction_factor=4, residual_before_ln="post_add"), set_active=True)
    return failure(lambda: model(WORDS))


def a_head_is_saved_with_those_whose_names_begin_alike() -> str:
    """Keys are chosen by `heads.<name>` without a dot behind it (loading.py, `PredictionHeadLoader.filter_func`)."""
    model = AutoAdapterModel.from_pretrained(FIXTURES / "bert" / "base")
    for name in ("ner", "ner2"):
        model.add_classification_head(name, num_labels=2, layers=1)
    with tempfile.TemporaryDirectory() as folder:
        model.save_head(folder, "ner")
        keys = sorted(torch.load(Path(folder) / "pytorch_model_head.bin", weights_only=True))
    return f"save_head('ner') saved {keys}"


def left_padding_moves_the_token_that_is_read() -> str:
    """GPT-2's and Llama's heads read the token whose index is the number of tokens less one."""
    model = AutoAdapterModel.from_pretrained(FIXTURES / "llama" / "base").eval()
    model.add_classification_head("x", num_labels=2, layers=1)
    pad = torch.full((1, 3), model.config.pad_token_id)
    mask = torch.cat([torch.zeros_like(pad), torch.ones_like(WORDS)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": torch.cat([pad, WORDS], 1), "attention_mask": mask, "position_ids": positions}
    with torch.no_grad():
        alone, padded = model(WORDS).logits, model(**inputs).logits
        states = [model.base_model(**one).last_hidden_state[0, -1] for one in ({"input_ids": WORDS}, inputs)]
    moved = float((alone - padded).abs().max())
    return f"last token's states differ by {float((states[0] - states[1]).abs().max()):.0e}, the logits by {moved:.2f}"


def t5_scales_what_only_its_language_model_head_should_read() -> str:
    """T5AdapterModel scales by H ** -0.5 for every head but classification; T5ForQuestionAnswering does not."""
    base = FIXTURES / "t5" / "base"
    static = transformers.T5ForQuestionAnswering.from_pretrained(base).eval()
    adapters.init(static)
    flexible = AutoAdapterModel.from_pretrained(base).eval()
    flexible.add_qa_head("x")
    flexible.heads["x"][1].load_state_dict(static.qa_outputs.state_dict())
    with torch.no_grad():
        left, right = (model(input_ids=WORDS).start_logits for model in (static, flexible))
    ratio = (left / right).flatten()
    return f"logits of the same weights, ratio {ratio.min():.3f} to {ratio.max():.3f}; H ** 0.5 is {16**0.5:.3f}"


def safetensors_are_not_found_by_default() -> str:
    """`load_adapter` looks for a pickle alone unless it is told otherwise."""
    return failure(lambda: bert().load_adapter(str(FIXTURES / "bert" / "double_seq_bn")))


def bert() -> Any:
    model = transformers.AutoModel.from_pretrained(FIXTURES / "bert" / "base")
    adapters.init(model)
    return model


def failure(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return "no failure"


def double_houlsby_post_add() -> str:
    """The same without a LayerNorm before the adapter, in any family."""
    model = bert()
    model.add_adapter("x", config=DoubleSeqBnConfig(reduction_factor=4, residual_before_ln="post_add"), set_active=True)
    return failure(lambda: model(WORDS))


DEFECTS = (
    llama_forgets_its_cache,
    hooked_models_use_the_last_norm,
    a_documented_residual_breaks,
    double_houlsby_post_add,
    a_head_is_saved_with_those_whose_names_begin_alike,
    left_padding_moves_the_token_that_is_read,
    t5_scales_what_only_its_language_model_head_should_read,
    safetensors_are_not_found_by_default,
)

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    for defect in DEFECTS:
        torch.manual_seed(0)
        print(f"{defect.__name__}\n    {defect()}")
