"""`make status`: the champions and challengers of every task."""

from rich.console import Console

from pipeline.config.commands import StatusConfig
from pipeline.config.overrides import entry


@entry("status", StatusConfig)
def main(config: StatusConfig, console: Console) -> None:
    from pipeline.reports.tables import status_table
    from pipeline.tracking.registry import champions
    from pipeline.tracking.store import open_store

    console.print(status_table(champions(open_store(config.tracking, create=False))))


if __name__ == "__main__":
    main()
