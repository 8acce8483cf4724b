"""`make serve`: the champions answer over HTTP, until Ctrl-C or SIGTERM."""

from rich.console import Console

from pipeline.config.serve import ServeConfig
from pipeline.steps.serve import open_service, serving, show


def main(config: ServeConfig, console: Console) -> None:
    service = open_service(config, console)
    with serving(service, console) as (table, screen, ended):
        if not ended.is_set():
            show(service, table, screen)
        ended.wait()
