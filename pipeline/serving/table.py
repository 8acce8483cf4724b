"""Which version answers for which task: what the registry says, as soon as some process has it. Pure."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from pipeline.serving.state import ALIASES, Facts, Key, Serving, Standing, Table

LOADING = "is being loaded"


def matches(name: str, patterns: Collection[str]) -> bool:
    """Whether a registered name (`sentiment.movies`) is meant: by itself, as `sentiment/movies`, or `sentiment/*`."""
    return any(fnmatchcase(name, pattern.strip().replace("/", ".")) for pattern in patterns)


def table_of(
    aliases: Mapping[str, Mapping[str, int]],
    facts: Mapping[Key, Facts],
    resident: Mapping[str, Mapping[Key, int]],
    before: Table,
    registry: str = "",
) -> Table:
    """Say who answers: the version that an alias points to, or until that is resident the one that had it before.

    Args:
        aliases: Name -> alias -> version, as registered.
        facts: Of every version that has an alias.
        resident: Deployment -> versions that one of its processes holds, and their bytes.
        before: Who answered until now.
        registry: Why it does not answer, if so.
    """
    tasks = {}
    for name, its in aliases.items():
        versions = []
        for alias in ALIASES:
            if alias not in its:
                continue
            now = _serving(name, alias, its[alias], facts, resident)
            if now.reason == LOADING:
                was = _answering(before, name, alias)
                if was is not None and (name, was.version) in resident.get(was.home, {}):
                    now = was
            versions.append(now)
        if versions:
            first = facts.get((name, versions[0].version), Facts())  # of one that is not read yet nothing is known
            tasks[name] = Standing(
                name=name,
                kind=first.kind,
                ranks=first.ranks,
                labels=first.labels,
                fields=first.fields,
                versions=tuple(versions),
            )
    return Table(tasks=tasks, registry=registry)


def _serving(
    name: str, alias: str, version: int, facts: Mapping[Key, Facts], resident: Mapping[str, Mapping[Key, int]]
) -> Serving:
    known = facts.get((name, version), Facts(reason=LOADING))
    there = resident.get(known.home, {})
    reason = known.reason or ("" if (name, version) in there else LOADING)
    size = there.get((name, version), 0)
    return Serving(
        alias=alias, version=version, checkpoint=known.checkpoint, home=known.home, num_bytes=size, reason=reason
    )


def _answering(table: Table, name: str, alias: str) -> Serving | None:
    standing = table.tasks.get(name)
    found = (one for one in standing.versions if one.alias == alias and not one.reason) if standing else ()
    return next(iter(found), None)


def wanted(aliases: Mapping[str, Mapping[str, int]], facts: Mapping[Key, Facts], table: Table) -> dict[str, set[Key]]:
    """Deployment -> the versions that its processes shall hold: those that have an alias, and those that answer."""
    keys = {(name, version) for name, its in aliases.items() for alias, version in its.items() if alias in ALIASES}
    keys |= {(name, one.version) for name, standing in table.tasks.items() for one in standing.versions}
    homes: dict[str, set[Key]] = {}
    for key in keys:
        if (known := facts.get(key)) is not None and known.home and not known.reason:
            homes.setdefault(known.home, set()).add(key)
    return homes
