"""`make convert`: an adapter of another program becomes a bundle, or a bundle an adapter of another program."""

from pathlib import Path

from rich.console import Console

from pipeline.config.commands import ConvertConfig
from pipeline.errors import ConfigError, fault


def main(config: ConvertConfig, console: Console) -> None:
    if Path(config.target).exists():
        raise ConfigError(fault("target", config.target, "is there already", "Give another folder, or remove this one"))
    from transformers.utils import logging as transformers_logging  # here: bad settings are told before torch is loaded

    from pipeline.steps.convert import CONVERSIONS, kind_of_target

    transformers_logging.set_verbosity_error()
    try:
        for line in CONVERSIONS[kind_of_target(config)](config):
            console.print(line, soft_wrap=True)
    except OSError as error:
        remedy = "Give a folder in a place that you may write to"
        raise ConfigError(fault("target", config.target, f"cannot be written ({error.strerror})", remedy)) from error
