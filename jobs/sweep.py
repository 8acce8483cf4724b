"""`make sweep`: train, search and record an adapter for every task and domain asked for."""

from rich.console import Console

from jobs.entry import entry, quiet
from pipeline.config import SweepConfig


@entry("sweep", SweepConfig)
def main(config: SweepConfig, console: Console) -> None:
    from jobs.workspace import open_workspace, resumed  # here: a bad config is refused before torch is loaded
    from jobs.wiring import announce, prepare, run_sweep

    config = resumed(config)
    prepared = prepare(config)
    announce(config, prepared, console)
    if config.dryrun:
        return
    workspace = open_workspace(config, prepared.jobs, prepared.checkpoint.sha256)
    console.print(f"Sweep {workspace.id}; what the libraries say goes to {workspace.log_file}")
    with quiet(workspace.log_file) as shown:
        try:
            run_sweep(config, prepared, workspace, shown)
        except KeyboardInterrupt:
            shown.print(f"\nInterrupted. Go on with: make sweep RESUME={workspace.id}", style="bold yellow")
            raise


if __name__ == "__main__":
    main()
