"""`make ui`: the MLflow UI on the recorded runs, until Ctrl-C."""

from rich.console import Console

from pipeline.config.commands import UiConfig
from pipeline.tracking.store import open_store
from pipeline.tracking.ui import serve_ui
from pipeline.tracking.views import links


def main(config: UiConfig, console: Console) -> None:
    store = open_store(config.tracking, create=False)
    address = f"http://127.0.0.1:{config.port}" if store.is_local else store.uri
    for link in links(store, address):
        console.print(f"{link.title}: {link.url}", soft_wrap=True)
    if not store.is_local:
        console.print(f"The tracking server has its own UI: {store.uri}")
        return
    console.print(f"{address}   (Ctrl-C stops it)")
    serve_ui(store.uri, config.port)
