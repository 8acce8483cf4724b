"""`make serve`: the champions answer over HTTP, until Ctrl-C or SIGTERM."""

from rich.console import Console

from pipeline.config.serve import ServeConfig
from pipeline.steps.serve import asked_to_end, open_service, serving, show


def main(config: ServeConfig, console: Console) -> None:
    service = open_service(config, console)
    with asked_to_end() as ended, serving(service, console, ended) as (table, screen):
        if not ended.is_set():
            show(service, table, screen)
        ended.wait()
