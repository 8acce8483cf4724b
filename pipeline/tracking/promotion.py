"""The aliases of a registered name, moved so that a move that was cut off anywhere is completed by the next one.

A version says of itself what it is to be (tag `verdict`), and which champion it was judged against (`replaces`),
before any alias is moved. `settle` makes the aliases what the versions say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.errors import ConfigError, Fault, fault
from pipeline.tracking.lock import exclusive
from pipeline.tracking.store import Store, every, store_errors

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
VERDICT, REASON, REPLACES, MOVED = "verdict", "reason", "replaces", "moved"
ROLLED_BACK, QUARANTINE, BY_HAND = "rolled_back", "quarantine", "promoted_by_hand"


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack:
    """What a rollback did."""

    name: str
    withdrawn: int
    """The version that was champion."""
    champion: int
    """The version that is champion again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Promoted:
    """What a promotion by hand did."""

    name: str
    champion: int
    """The version that is champion now."""
    replaced: int
    """The version that was champion."""
    verdict: str
    """Why the gate had rejected the version."""


def settle(store: Store, name: str) -> None:
    """Finish what is to be done for a name, under its lock: promotions, the challenger, a rollback.

    A version that was judged against a champion which is champion no more is not promoted: it becomes a challenger,
    and its reason says so.
    """
    with exclusive(store, name):
        _settle(store.client, name)


def rollback(store: Store, name: str, reason: str, *, quarantine: bool = True) -> RolledBack:
    """Make the champion before the present one champion again.

    Args:
        store: The tracking store.
        name: Registered name.
        reason: Kept with the version that is withdrawn, which will not be promoted again.
        quarantine: Whether the rows that were new to that version are left out of later passes.

    Raises:
        ConfigError: There is no champion, or none before it.
    """
    with store_errors(store.uri), exclusive(store, name):
        _settle(store.client, name)
        versions = _versions(store.client, name)
        present = _alias(store.client, name, CHAMPION)
        if present is None:
            raise ConfigError(fault("TASK", name, "has no champion", "Run `make sweep` for it first"))
        if _before(versions, present) is None:
            rule = f"has no champion before version {present}: it is the first, or those before it are gone"
            raise ConfigError(fault("TASK", name, rule, "Promote another one with `make sweep` or `make retrain`"))
        if quarantine:
            store.client.set_model_version_tag(name, str(present), QUARANTINE, "true")
        elif QUARANTINE in _tags(versions, present):  # of a rollback that was cut off here
            store.client.delete_model_version_tag(name, str(present), QUARANTINE)
        # From here on the next `settle` completes it.
        store.client.set_model_version_tag(name, str(present), ROLLED_BACK, reason)
        _settle(store.client, name)
        champion = _alias(store.client, name, CHAMPION)
        assert champion is not None
        return RolledBack(name=name, withdrawn=present, champion=champion)


def promote(store: Store, name: str, number: int, reason: str) -> Promoted:
    """Make a version champion that the gate rejected; `rollback` undoes it.

    The version keeps why it was rejected, and gets the reason in a tag of its own.

    Args:
        store: The tracking store.
        name: Registered name.
        number: A challenger that was judged beside the present champion: of any other one, what has been seen since is
            not in what it knows of the past.
        reason: Kept with the version.

    Raises:
        ConfigError: It is no such version.
    """
    with store_errors(store.uri), exclusive(store, name):
        _settle(store.client, name)
        versions = _versions(store.client, name)
        champion = _alias(store.client, name, CHAMPION)
        if (wrong := _unfit(name, versions, number, champion)) is not None:
            raise ConfigError(wrong)
        assert champion is not None
        before = _tags(versions, number)
        store.client.set_model_version_tag(name, str(number), BY_HAND, reason)
        # From here on the next `settle` completes it.
        store.client.set_model_version_tag(name, str(number), VERDICT, CHAMPION)
        _settle(store.client, name)
        return Promoted(name=name, champion=number, replaced=champion, verdict=before.get(REASON, ""))


def _unfit(name: str, versions: Sequence[ModelVersion], number: int, champion: int | None) -> Fault | None:
    """Why a version cannot be promoted by hand, if it cannot."""
    tags, shown = _tags(versions, number), f"{name} version {number}"
    judged_beside = f"version {tags[REPLACES]}" if tags.get(REPLACES) else "no champion"
    if champion is None or not tags:
        challengers = [str(one.version) for one in versions if one.tags.get(VERDICT) == CHALLENGER]
        remedy = f"The challengers are: {', '.join(challengers)}" if challengers else "There is no challenger"
        return fault("VERSION", shown, "is not registered beside a champion", remedy)
    if ROLLED_BACK in tags:
        rule, remedy = f"was withdrawn ({tags[ROLLED_BACK]})", "Train another one with `make retrain`"
    elif tags.get(VERDICT) != CHALLENGER:
        rule, remedy = "is champion, or was", "Go back to the champion before the present one with `make rollback`"
    elif judged_beside != f"version {champion}":
        rule = f"was judged beside {judged_beside}, and version {champion} is champion now"
        remedy = "Go back with `make rollback`, or train another one with `make retrain`"
    else:
        return None
    return fault("VERSION", shown, rule, remedy)


def _settle(client: MlflowClient, name: str) -> None:
    versions = _versions(client, name)
    pending = [one for one in versions if one.tags.get(VERDICT) == CHAMPION and not {MOVED, ROLLED_BACK} & {*one.tags}]
    for version in pending:
        _promote(client, name, version)
    if pending:
        versions = _versions(client, name)
    champion = _alias(client, name, CHAMPION)
    if champion is not None and ROLLED_BACK in _tags(versions, champion):
        before = _before(versions, champion)
        assert before is not None, "a rollback looks for it first"
        _set(client, name, PREVIOUS, _before(versions, before))
        _set(client, name, CHAMPION, before)  # last, since it is what says that there is nothing left to do
    challengers = [int(one.version) for one in versions if one.tags.get(VERDICT) == CHALLENGER]
    _set(client, name, CHALLENGER, max(challengers, default=None))


def _promote(client: MlflowClient, name: str, version: ModelVersion) -> None:
    number, champion = int(version.version), _alias(client, name, CHAMPION)
    judged_against = int(version.tags[REPLACES]) if version.tags.get(REPLACES) else None
    if champion not in (number, judged_against):
        beside = "no champion" if judged_against is None else f"version {judged_against}"
        reason = f"it was judged beside {beside}, and version {champion} has become champion since"
        client.set_model_version_tag(name, str(number), REASON, reason)
        client.set_model_version_tag(name, str(number), VERDICT, CHALLENGER)
        return
    if judged_against is not None:
        _set(client, name, PREVIOUS, judged_against)
    _set(client, name, CHAMPION, number)
    client.set_model_version_tag(name, str(number), MOVED, "true")


def _before(versions: Sequence[ModelVersion], number: int) -> int | None:
    """The champion that a champion replaced, and that was not rolled back itself; None where it was deleted."""
    text = _tags(versions, number).get(REPLACES)
    if not text or int(text) not in [int(version.version) for version in versions]:
        return None
    return _before(versions, int(text)) if ROLLED_BACK in _tags(versions, int(text)) else int(text)


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    found = every(client.search_model_versions, f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def _tags(versions: Sequence[ModelVersion], number: int) -> dict[str, str]:
    return next((dict(one.tags) for one in versions if int(one.version) == number), {})


def _alias(client: MlflowClient, name: str, alias: str) -> int | None:
    number = client.get_registered_model(name).aliases.get(alias)
    return None if number is None else int(number)


def _set(client: MlflowClient, name: str, alias: str, number: int | None) -> None:
    present = _alias(client, name, alias)
    if number is None:
        if present is not None:
            client.delete_registered_model_alias(name, alias)
    elif present != number:
        client.set_registered_model_alias(name, alias, str(number))
