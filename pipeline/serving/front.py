"""What the ingress does with questions: each goes where its version is, and once more where a process has died.

It has no model and knows nothing of Ray: how a process is reached is handed over.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from pipeline.config.serve import ServingConfig
from pipeline.config.strict import nearest
from pipeline.errors import fault
from pipeline.serving.bodies import bad, checked, items_of, top_k_of
from pipeline.serving.figures import Figures
from pipeline.serving.state import Entry, Problem, Reply, Serving, Shown, Standing, Table
from pipeline.serving.table import LOADING

RETRY_S = 1
"""What a client is told to wait where it may ask again."""


class ReplicaDied(Exception):
    """The process that was asked is gone; another one may answer."""


Send = Callable[[str, Sequence[Entry], float], Awaitable[Sequence[Reply]]]
"""(deployment, entries, seconds that are left) -> one reply an entry, from one of its processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a client asks of one task."""

    task: str
    inputs: Any
    parameters: dict[str, Any] | None = None
    version: int | None = None
    """None: the champion."""
    where: str = ""
    """What stands in front of names in messages: `[3].`, in a list of questions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What is answered to a question."""

    version: int | None = None
    outputs: Shown | list[Shown] = field(default_factory=list)
    """Of one input its answer, of a list of inputs a list of answers."""
    truncated: tuple[int, ...] = ()
    """Positions of inputs of which the model did not see everything."""
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """A question that is good, and may go."""

    entry: Entry
    home: str
    top_k: int | None
    is_many: bool


@final
class Front:
    """The ingress' own state: the table of tasks as it was told last, and its metrics."""

    def __init__(self, limits: ServingConfig, send: Send, refresh: Callable[[], Awaitable[Table]]) -> None:
        """Begin with no table.

        Args:
            limits: Of requests.
            send: Reaches the processes that answer.
            refresh: Fetches the table as it is now; raises ReplicaDied where nobody knows it.
        """
        self.limits, self.figures, self.table = limits, Figures(), Table(is_unread=True)
        self.is_ready, self.num_open = False, 0
        """Whether requests may come: as soon as something is served, or nothing is left that is being loaded."""
        self._send, self._refresh = send, refresh

    def take(self, table: Table) -> None:
        """Go by another table from now on; by one that knows no tasks yet only in what else it says."""
        if table.is_unread:
            self.table = replace(self.table, registry=table.registry, is_draining=table.is_draining)
        else:
            self.table = table
        reasons = {one.reason for standing in self.table.tasks.values() for one in standing.versions}
        self.is_ready |= not self.table.is_unread and ("" in reasons or LOADING not in reasons)

    async def answer(self, questions: Sequence[Question]) -> list[Said]:
        """Answer questions of any tasks, in their order; what is wrong with one is no other's."""
        since, self.num_open = self.figures.asked(), self.num_open + 1
        error = "client_gone"  # unless it ends below
        try:
            said = await self._answers(questions, since + self.limits.timeout_s)
            problems = [one.problem for one in said if one.problem is not None]
            error = problems[0].error_type if problems and len(problems) == len(said) else ""
            for question, one in zip(questions, said, strict=True):
                if one.problem is None:
                    self.figures.rows(question.task, len(items_of(question.inputs)[0]))
            return said
        except Exception:
            error = "internal"
            raise
        finally:
            self.num_open -= 1
            self.figures.answered(since, error)

    async def _answers(self, questions: Sequence[Question], until: float) -> list[Said]:
        if self.table.is_draining:
            told = "The service is being stopped. Ask another one, or ask again later."
            problem = Problem(status=503, error_type="draining", error=told, retry_after_s=RETRY_S)
            return [Said(problem=problem)] * len(questions)
        num_rows = sum(len(items_of(one.inputs)[0]) for one in questions)
        if num_rows > self.limits.max_rows:
            rule = f"has {num_rows} inputs, and a request may have {self.limits.max_rows}"
            return [Said(problem=bad("too_large", fault("body", "", rule, "Send them in several requests")))] * len(
                questions
            )
        said = await self._round(range(len(questions)), questions, until)
        gone = [number for number, one in said.items() if one.problem and one.problem.error_type == "not_resident"]
        if gone:  # the version was withdrawn on the way, and another one answers now
            with contextlib.suppress(ReplicaDied):  # the table as it is may do
                self.take(await self._refresh())
            said |= await self._round(gone, questions, until)
        return [said[number] for number in range(len(questions))]

    async def _round(self, numbers: Sequence[int], questions: Sequence[Question], until: float) -> dict[int, Said]:
        """Ask for some of the questions, those of one deployment together."""
        said: dict[int, Said] = {}
        going: dict[str, dict[int, _Ready]] = {}
        for number in numbers:
            ready = self._ready(questions[number])
            if isinstance(ready, Problem):
                said[number] = Said(problem=ready)
            else:
                going.setdefault(ready.home, {})[number] = ready
        sent = (self._sent(home, [one.entry for one in its.values()], until) for home, its in going.items())
        for its, replies in zip(going.values(), await asyncio.gather(*sent), strict=True):
            for (number, ready), reply in zip(its.items(), replies, strict=True):
                said[number] = _said(ready, reply)
        return said

    def _ready(self, question: Question) -> _Ready | Problem:
        """Look a question through; a Problem where it cannot be answered."""
        serving = self._serving(question)
        if isinstance(serving, Problem):
            return serving
        items, is_many = items_of(question.inputs)
        inputs = f"{question.where}inputs"
        if (problem := checked(items, self.limits, inputs)) is not None:
            return problem
        top_k = top_k_of(self.table.tasks[question.task], question.parameters, f"{question.where}parameters")
        if isinstance(top_k, Problem):
            return top_k
        entry = Entry(name=question.task, version=serving.version, items=items, where=inputs)
        return _Ready(entry=entry, home=serving.home, top_k=top_k, is_many=is_many)

    def _serving(self, question: Question) -> Serving | Problem:
        """The version that is to answer."""
        standing = self.table.tasks.get(question.task)
        if standing is None and self.table.is_unread:
            return _unserved(fault("task", question.task, "is not known yet", "Ask again: the service is starting"))
        if standing is None:
            known = sorted(self.table.tasks)
            name = question.task[:100].encode(errors="replace").decode()
            return bad("not_found", fault("task", name, "is not served", nearest(name, known)))
        if question.version is None:
            serving = standing.champion
            if serving is None:
                return _unserved(fault("task", question.task, "has no champion", "Ask for one of its versions"))
        else:
            found = [one for one in standing.versions if one.version == question.version]
            if not found:
                there = ", ".join(f"{one.version} ({one.alias})" for one in standing.versions)
                rule = f"is no version of {question.task} that is resident"
                return bad("not_found", fault("version", question.version, rule, f"Ask for one of: {there}"))
            serving = found[0]
        if serving.reason:
            rule = f"(version {serving.version}) {_clause(serving.reason)}"
            remedy = "Ask again later" if serving.reason == LOADING else "GET /v1/tasks shows which tasks are served"
            return _unserved(fault("task", question.task, rule, remedy))
        return serving

    async def _sent(self, home: str, entries: Sequence[Entry], until: float) -> Sequence[Reply]:
        """Ask one process, and one more where it dies."""
        try:
            async with asyncio.timeout(until - time.monotonic()):
                try:
                    return await self._send(home, entries, until - time.monotonic())
                except ReplicaDied:
                    self.figures.retried()
                try:
                    return await self._send(home, entries, until - time.monotonic())
                except ReplicaDied:
                    told = "No process that has the checkpoint answers. Ask again: Ray starts another one."
                    problem = Problem(status=503, error_type="not_served", error=told, retry_after_s=RETRY_S)
        except TimeoutError:
            told = f"There was no answer within {self.limits.timeout_s:g} s. Ask again, or for less at once."
            problem = Problem(status=504, error_type="timeout", error=told)
        return [Reply(problem=problem)] * len(entries)


def _said(ready: _Ready, reply: Reply) -> Said:
    if reply.problem is not None:
        return Said(version=ready.entry.version, problem=reply.problem)
    outputs = [parts[: ready.top_k] for parts in reply.answers]
    many = outputs if ready.is_many else outputs[0]
    return Said(version=reply.version, outputs=many, truncated=tuple(reply.truncated))


def _unserved(why: object) -> Problem:
    return Problem(status=503, error_type="not_served", error=str(why), retry_after_s=RETRY_S)


def _clause(reason: str) -> str:
    """A reason that may be a whole message, as part of one."""
    return reason if reason == LOADING else f"cannot be served: {reason.rstrip('.')}"


def described(standing: Standing) -> dict[str, Any]:
    """A task as `GET /v1/tasks` shows it."""
    versions = [
        {
            "alias": one.alias,
            "version": one.version,
            "checkpoint": one.checkpoint or None,
            "resident_bytes": one.num_bytes,
            "reason": one.reason or None,
        }
        for one in standing.versions
    ]
    first = {"alias": None, "version": None, "checkpoint": None, "resident_bytes": 0, "reason": "has no champion"}
    champion = next((one for one in versions if one["alias"] == "champion"), first)
    return {
        "name": standing.name,
        "kind": standing.kind or None,
        "labels": list(standing.labels),
        "fields": list(standing.fields),
        **champion,
        "versions": versions,
    }
