"""Many adapters on one resident checkpoint (stand-in, thrown away at the merge)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from pipeline.core.adapters.checkpoint import Resident
from pipeline.core.bank.predictor import Predictor
from pipeline.core.data.rows import Row
from pipeline.core.engine.bundle import Bundle
from pipeline.core.tasks.kinds import restore
from pipeline.core.tasks.task import Answer, Task
from pipeline.errors import BundleError, NotResident, fault

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    name: str
    row: Row
    version: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    version: str
    answer: Answer


@final
class Bank:
    def __init__(self, resident: Resident, *, budget: int | None = None) -> None:
        self._predictor, self._bundles = Predictor(resident), dict[Key, Bundle]()

    def admit(self, name: str, version: str, bundle: Bundle, *, pinned: bool = False) -> None:
        if bundle.record.method.name == "full":
            raise BundleError(fault(name, "", "is a whole copy", "Use make predict"))
        bundle.tensors()
        self._bundles[name, version] = bundle

    def drop(self, name: str, version: str) -> None:
        self._bundle(name, version)
        del self._bundles[name, version]

    def task(self, name: str, version: str = "") -> Task:
        record = self._bundle(name, version).record
        return restore(record.task, record.labels, record.method.virtual_tokens)

    def answer(self, asks: Sequence[Ask]) -> list[Answered]:
        return [
            Answered(one.version, self._predictor.answer(self._bundle(one.name, one.version), [one.row])[0])
            for one in asks
        ]

    def sizes(self) -> Mapping[Key, int]:
        return {key: bundle.num_bytes for key, bundle in self._bundles.items()}

    def _bundle(self, name: str, version: str) -> Bundle:
        try:
            return self._bundles[name, version]
        except KeyError:
            raise NotResident(f"{name} version {version} is not resident") from None
