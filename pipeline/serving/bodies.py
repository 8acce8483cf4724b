"""Bodies as Hugging Face's inference API has them, looked through before anything is computed. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.config.serve import ServingConfig
from pipeline.errors import fault
from pipeline.serving.state import Problem, Standing

_DEEPEST = 16
"""Lists and objects within one another, of which an options list in a list of questions is the sixth."""


def items_of(inputs: Any) -> tuple[list[Any], bool]:
    """The inputs of a request, and whether they are many: a list is many, of which each has its own answer."""
    return (inputs, True) if isinstance(inputs, list) else ([inputs], False)


def checked(items: Sequence[Any], limits: ServingConfig, where: str = "inputs") -> Problem | None:
    """Why inputs cannot be passed on, if so: there are none, or too many, or one is too long."""
    if not items:
        return bad("bad_input", fault(where, "[]", "is empty", "Give at least one input"))
    if len(items) > limits.max_rows:
        rule = f"has {len(items)} inputs, and a request may have {limits.max_rows}"
        return bad("too_large", fault(where, "", rule, "Send them in several requests"))
    for number, item in enumerate(items):
        size = sum(len(one) for one, _ in _parts(item) if isinstance(one, str))
        if size > limits.max_chars:
            rule = f"has {size} characters, and an input may have {limits.max_chars}"
            return bad("too_large", fault(f"{where}[{number}]", "", rule, "Cut it, or send it in parts"))
    return None


def unreadable(values: Any) -> str:
    """Why a body that is JSON cannot be read further, if so."""
    for one, depth in _parts(values):
        if depth > _DEEPEST:
            return "is nested too deep"
        if isinstance(one, str) and not _is_text(one):
            return "holds half of a surrogate pair (such as \\ud83d), which is no character"
    return ""


def bad(error_type: Any, why: object) -> Problem:
    """A problem that the client can mend."""
    status = {"too_large": 413, "not_found": 404}.get(error_type, 422)
    return Problem(status=status, error_type=error_type, error=str(why))


def _parts(value: Any) -> Iterator[tuple[Any, int]]:
    """All that JSON is made of, keys included, each with its depth; without recursion, for it may be deep."""
    left = [(value, 0)]
    while left:
        one, depth = left.pop()
        yield one, depth
        if isinstance(one, Mapping):
            left += [(inner, depth + 1) for pair in one.items() for inner in pair]
        elif isinstance(one, list):
            left += [(inner, depth + 1) for inner in one]


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def top_k_of(task: Standing, parameters: Mapping[str, Any] | None, where: str = "parameters") -> int | Problem | None:
    """The number of labels that is wanted (None: all), or what is wrong with the parameters."""
    known = ("top_k",) if task.ranks else ()
    for name in parameters or {}:
        if name not in known:
            rule = f"is no parameter of {task.kind}"
            remedy = f"It takes {known[0]}" if known else "It takes none: leave it out"
            return bad("bad_body", fault(f"{where}.{name}"[:100], "", rule, remedy))
    value = (parameters or {}).get("top_k")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        rule, remedy = "must be a whole number of 1 or more", "Leave it out for all labels"
        return bad("bad_body", fault(f"{where}.top_k", str(value)[:50], rule, remedy))
    return value


_EXAMPLES: Mapping[str, Any] = {
    "tokens": "Anna went from Oslo to Rome.",
    "question": "Where was Anna born?",
    "context": "Anna was born in Oslo and went to Rome.",
    "options": ["in Oslo", "in Rome"],
    "text_pair": "It was a great film.",
}


def example_of(fields: Sequence[str]) -> Any:
    """An input that a task takes: of one field its value as a text, or an object with its fields."""
    given = {name: _EXAMPLES.get(name, "I loved every minute of it.") for name in fields}
    return next(iter(given.values())) if len(given) == 1 else given
