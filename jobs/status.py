"""`make status`: the champions and challengers of every task."""

from rich.console import Console

from pipeline.config.champions import StatusConfig
from pipeline.reports.tables import status_table
from pipeline.tracking.lookup import champions
from pipeline.tracking.store import open_registry


def main(config: StatusConfig, console: Console) -> None:
    console.print(status_table(champions(open_registry(config.tracking))))
