"""`make ui`: the MLflow UI on the recorded runs, until Ctrl-C."""

import os
import sys

from rich.console import Console

from pipeline.config.commands import UiConfig
from pipeline.tracking.store import open_store


def main(config: UiConfig, console: Console) -> None:
    store = open_store(config.tracking, create=False)
    if not store.is_local:
        console.print(f"The tracking server has its own UI: {store.uri}")
        return
    address = f"http://127.0.0.1:{config.port}"
    page = f"{address}/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    console.print(f"{page}   (Ctrl-C stops it)")
    arguments = ["--backend-store-uri", store.uri, "--host", "127.0.0.1", "--port", str(config.port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *arguments])
