"""The few lengths that rows are padded to, where another length has a price: a plan of a GPU's, or other bits."""

from pipeline.core.adapters.anatomy import num_positions
from pipeline.core.tasks.model import TaskModel
from pipeline.core.tasks.task import Example, Task
from pipeline.core.tasks.tensors import WIDTH, with_inputs

_FINE, _COARSE = 64, 256


def padded(length: int, most: int) -> int:
    """The length that a row is padded to: one of a few, none above `most`, and none that is too short for it."""
    step = 8 if length <= _FINE else 32 if length <= _COARSE else 64
    return max(min(-(-length // step) * step, most), length)


def positions_of(model: TaskModel) -> int:
    """The longest text that the model has positions for; T5 has any number."""
    return num_positions(model.base.config) or 2**31


def longest_of(task: Task, model: TaskModel) -> int:
    """The longest input that this task may give this model, in sub-tokens."""
    written = task.config.max_new_tokens if task.decoding is not None else 0
    return min(task.config.max_length, positions_of(model) - task.reserved) - written


def widened(example: Example, most: int) -> Example:
    """The example, whose batch is to be padded to one of a few lengths."""

    def wide(one: Example, name: str = "input_ids") -> Example:
        return {**one, WIDTH: padded(len(one[name]), most)}

    return wide(example, "prompt") if "prompt" in example else with_inputs(example, wide)
