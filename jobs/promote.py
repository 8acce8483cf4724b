"""`make promote`: a challenger that the gate rejected becomes champion. The reason comes from the environment."""

import os

from rich.console import Console

from pipeline.config.champions import PromoteConfig, explained, named, no_number
from pipeline.errors import ConfigError, fault


def main(config: PromoteConfig, console: Console) -> None:
    example, reason = "make promote TASK=sentiment VERSION=3 REASON='...'", os.environ.get("REASON", "").strip()
    faults = list(named(config.job, example))
    missing = fault("VERSION", "", "is missing", f"Name a challenger: {example}")
    faults += no_number(config.version) if config.version else [missing]
    faults += explained(reason)
    if faults:
        raise ConfigError(faults)
    from pipeline.tracking.lookup import registered_as
    from pipeline.tracking.store import open_registry, open_store

    name = registered_as(open_registry(config.tracking), config.job)
    from pipeline.reports.hook import tell_hook  # here: what is missing or misspelt is told before MLflow is loaded
    from pipeline.tracking.promotion import promote
    from pipeline.tracking.registry import check_files

    store = open_store(config.tracking, create=False)
    check_files(store, name, config.version)
    done = promote(store, name, config.version, reason)
    console.print(f"{done.name}: version {done.champion} is champion in place of {done.replaced}: {reason}")
    console.print(f"The gate had said: {done.verdict}", soft_wrap=True)
    console.print(f"make rollback TASK={config.job} undoes it.", soft_wrap=True)
    event = {"event": "promoted by hand", "name": done.name, "version": done.champion, "replaced": done.replaced}
    failed = tell_hook(config.hook, {**event, "reason": reason})
    if failed:
        console.print(failed, style="yellow", soft_wrap=True)
