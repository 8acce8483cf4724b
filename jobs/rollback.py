"""`make rollback`: the champion before the present one is champion again. The reason comes from the environment."""

import os

from rich.console import Console

from pipeline.config.champions import RollbackConfig, explained, named
from pipeline.errors import ConfigError


def main(config: RollbackConfig, console: Console) -> None:
    reason = os.environ.get("REASON", "").strip()
    faults = [*named(config.job, "make rollback TASK=sentiment REASON='...'"), *explained(reason)]
    if faults:
        raise ConfigError(faults)
    from pipeline.tracking.lookup import registered_as
    from pipeline.tracking.store import open_registry, open_store

    name = registered_as(open_registry(config.tracking), config.job)
    from pipeline.reports.hook import tell_hook  # here: what is missing or misspelt is told before MLflow is loaded
    from pipeline.tracking.promotion import rollback

    store = open_store(config.tracking, create=False)
    done = rollback(store, name, reason, quarantine=config.quarantine)
    text = f"{done.name}: version {done.champion} is champion again; version {done.withdrawn} was withdrawn: {reason}"
    console.print(text, soft_wrap=True)
    if config.quarantine:
        console.print("The rows that were new to it are in quarantine: no later pass uses them.", soft_wrap=True)
    event = {"event": "rolled back", "name": done.name, "version": done.champion, "withdrawn": done.withdrawn}
    failed = tell_hook(config.hook, {**event, "reason": reason})
    if failed:
        console.print(failed, style="yellow", soft_wrap=True)
