"""`make manifests`: what runs on Kubernetes, written as files for kubectl; nothing is applied."""

from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.config.commands import ManifestsConfig
from pipeline.kubernetes.files import following, write
from pipeline.kubernetes.manifests import render


def main(config: ManifestsConfig, console: Console) -> None:
    files = render(config, version("ray"))  # of this environment, which constraints.txt pins as it does the image
    target = Path(config.target)
    write(target, files, "TARGET")
    table = Table("file", "holds", box=None, pad_edge=False)
    for name, manifests in files.items():
        holds = ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in manifests)
        table.add_row(str(target / name), holds)
    console.print(table)
    console.print("\nNext:")
    for line in following(config, target):
        console.print(f"  {line}", soft_wrap=True)
