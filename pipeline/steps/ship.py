"""A command line rewritten for another machine: checked as the command would itself, its folders shipped."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config import SweepConfig, TaskConfig
from pipeline.config.champions import EvaluateConfig
from pipeline.config.commands import COMMANDS, SubmitConfig
from pipeline.config.overrides import conf_files, pairs, read_command
from pipeline.config.sweep import TRACKING_VARIABLE
from pipeline.config.typed import quoted
from pipeline.core.data.load import resolve, split_paths
from pipeline.errors import ConfigError, Faults, fault
from pipeline.steps.asked import with_file

Jobs = Sequence[tuple[TaskConfig, str]]
Reads = SweepConfig | EvaluateConfig
"""A command that reads rows."""
_CHECKPOINT = ("*.safetensors", "*.json", "*.txt", "*.model", "pytorch_model*.bin")
"""What is read of a checkpoint's folder: weights, config and tokenizer."""


def rewrite(own: SubmitConfig, given: Sequence[str]) -> tuple[list[str], dict[str, Path], dict[str, Path], str | None]:
    """Check what the command is given as it would itself, and rewrite it for the head node.

    Returns:
        Its overrides there; name in the shipped folder -> folder here; name there -> file here, of all that the command
        reads in these folders; the folder for the sweep's own files.

    Raises:
        UserError: Something that the command would refuse, or that does not work from afar.
    """
    arguments = list(given)
    if "CLUSTER" in COMMANDS[own.command].variables and not names(arguments, "cluster"):
        arguments.append("cluster=existing")
    (config,) = read_command(own.command, arguments)
    if config.tracking.uri == os.environ.get(TRACKING_VARIABLE) and not names(arguments, "tracking.uri"):
        arguments.append(f"tracking.uri={quoted(config.tracking.uri)}")  # the head node has an environment of its own
    sweep = config if isinstance(config, SweepConfig) else None
    scored = with_file(config, is_here=own.ship) if isinstance(config, EvaluateConfig) else None
    reads = sweep or scored
    runs = own.runs if sweep is not None else None
    faults = Faults()
    jobs: Jobs = ()
    with faults.gathered():
        if config.tracking.uri.startswith("sqlite:") and (sweep is None or not sweep.dryrun):
            rule = "is a file, which from here would be one of a folder on the head node that goes with the job"
            remedy = "Record on a server that the cluster reaches: ARGS='tracking.uri=http://<server>:5000'"
            raise ConfigError(fault("tracking.uri", config.tracking.uri, rule, remedy))
    with faults.gathered():
        if own.ship and sweep is not None and (sweep.tasks or sweep.resume is None):
            jobs = resolve(sweep.tasks, sweep.task, sweep.data)
        if own.ship and scored is not None and not scored.file:
            jobs = resolve([scored.job], scored.task, scored.data)
    with faults.gathered():
        if sweep is not None and names(arguments, "runs"):  # as `Go on with: ...` says on the head
            runs = read_command("submit", [f"submit.runs={quoted(sweep.runs)}"])[0].runs
    faults.raise_any()
    words, folders = shipped(reads, arguments, own.ship)
    files = _files(reads, jobs, folders)
    if scored is not None and scored.file:  # the environment, where FILE is, does not travel
        file = Path(scored.file).expanduser().resolve()
        words = [word for word in words if not names([word], "file")]
        words.append(f"file={quoted(f'shipped/file/{file.name}' if own.ship else scored.file)}")
        files |= {f"shipped/file/{file.name}": file} if own.ship else {}
    return words, folders, files, runs


def _files(config: Reads | None, jobs: Jobs, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Name in the shipped folder -> file: splits of the jobs, YAML, and a checkpoint's own; nothing else of a folder.

    Raises:
        ConfigError: A link leads out of a folder: what it points to may be meant for nobody else.
    """
    found: dict[str, Path] = {}
    faults = []
    for name, folder in folders.items():
        inside = folder
        if name == "shipped/data" and config is not None:
            files = list(split_paths(jobs, config.data))
        elif name == "shipped/conf":
            files = conf_files(folder)
        else:
            files = [file for pattern in _CHECKPOINT for file in folder.glob(pattern)]
            if folder.parent.name == "snapshots":  # in the hub's cache, where all files are links beside it
                inside = folder.parents[1]
        for file in files:
            if any(part.startswith(".") for part in file.relative_to(folder).parts):
                continue
            if not file.exists():
                faults.append(fault(file, "", "is a link to nothing", "Mend the link, or remove it"))
            elif not file.resolve().is_relative_to(inside):
                remedy = "Put the file itself there, or have the folder on the head node and say ARGS=submit.ship=false"
                faults.append(fault(file, "", "is a link that leaves its folder, and would be shipped", remedy))
            found[f"{name}/{file.relative_to(folder)}"] = file
    if faults:
        raise ConfigError(faults)
    return found


def shipped(config: Reads | None, given: Sequence[str], ship: bool) -> tuple[list[str], dict[str, Path]]:
    """Rewrite the overrides that name folders here to their places in the shipped folder; `runs` goes its own way."""
    words, folders = [], {}
    read = pairs(given)
    last = dict(read)
    dropped = {"runs"}
    replaced: list[str] = []
    if ship and config is not None and config.data.source not in ("starter", "hub"):
        folders["shipped/data"] = Path(config.data.source).expanduser().resolve()
        dropped |= {"data.source"} | ({"data"} if Path(last.get("data", "")).expanduser().is_dir() else set())
        replaced.append(f"data.source={quoted('shipped/data')}")
    if ship and isinstance(config, SweepConfig) and config.checkpoint.source == "path":
        folders["shipped/checkpoint"] = Path(config.checkpoint.location).expanduser().resolve()
        dropped |= {"checkpoint"} if Path(last.get("checkpoint", "")).expanduser().is_dir() else set()
        values = dataclasses.asdict(config.checkpoint) | {"location": "shipped/checkpoint"}
        replaced += [f"checkpoint.{key}={'null' if one is None else quoted(one)}" for key, one in values.items()]
        dropped |= {f"checkpoint.{key}" for key in values}
    for argument, (key, value) in zip(given, read, strict=True):
        if key == "conf" and ship:
            folders["shipped/conf"] = Path(value).expanduser().resolve()
            words.append(f"conf={quoted('shipped/conf')}")
        elif key not in dropped:
            words.append(argument)
    return [*words, *replaced], folders


def names(arguments: Sequence[str], key: str) -> bool:
    """Whether an override of the key is among the arguments, parsable or not."""
    return any(argument.partition("=")[0].lstrip("+") == key for argument in arguments)
