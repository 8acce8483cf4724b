"""What a registered model takes and gives, in MLflow's words, for its page; and an example of a question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array, Map, Object, Property

from pipeline.core.engine.events import JobTested
from pipeline.core.engine.trials import Job

_PLAIN: Mapping[type, DataType] = {
    bool: DataType.boolean,
    str: DataType.string,
    int: DataType.long,
    float: DataType.double,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One item that a user may ask about, and what is answered."""

    item: Any
    """As `pipeline.pyfunc` takes it."""
    inputs: Mapping[str, Any]
    """The same by the names of its fields."""
    answer: Mapping[str, Any]

    @property
    def signature(self) -> ModelSignature:
        """Names and types of both.

        MLflow would turn what it is given into a table by the signature, and refuse a bare text, a list of them, or the
        other names of a field, which the model takes. So the signature is marked as one of a model that checks its
        items itself, as those with type hints do.
        """
        signature = ModelSignature(inputs=_schema(self.inputs), outputs=_schema(self.answer))
        signature._is_signature_from_type_hint = True
        return signature


def exchange_of(job: Job, winner: JobTested) -> Exchange:
    """Take the shortest of the test rows that the winner has answered."""
    row = min(job.dataset.test.rows, key=lambda one: len(str(one.fields)))
    item = job.task.example(row)
    (bare, *_) = (column for name, column in job.task.config.field_names.items() if name != job.task.target)
    return Exchange(
        item=item, inputs=item if isinstance(item, dict) else {bare: item}, answer=winner.answers[row.digest]
    )


def _schema(values: Mapping[str, Any]) -> Schema:
    return Schema([ColSpec(_type_of(value), name) for name, value in values.items()])


def _type_of(value: Any) -> Any:
    """MLflow's type of what can be written as JSON; of a list that of its first element."""
    if isinstance(value, list):
        return Array(_type_of(value[0])) if value else Array(AnyType())
    if not isinstance(value, dict):
        return _PLAIN.get(type(value), AnyType())
    if value and all(isinstance(one, float) for one in value.values()):  # labels and their probabilities
        return Map(DataType.double)
    return Object([Property(str(name), _type_of(one)) for name, one in value.items()]) if value else AnyType()
