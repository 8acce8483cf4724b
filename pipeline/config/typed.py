"""From what a user types behind `make` to the words of a command line, and to text in Hydra's grammar and back."""

import re
import shlex
from collections.abc import Mapping

from pipeline.errors import ConfigError, fault


def typed(environment: Mapping[str, str]) -> list[str]:
    """The words of a command line of `make`, which the Makefile puts into the environment as they were typed.

    Raises:
        ConfigError: A quote in ARGS is not closed.
    """
    count = int(environment.get("ADAPTERS_WORDS") or 0)
    words = []
    for word in (environment.get(f"ADAPTERS_WORD_{number}", "") for number in range(1, count + 1)):
        if not word.startswith("ARGS="):
            words.append(word)
            continue
        try:
            words += shlex.split(word.removeprefix("ARGS="))
        except ValueError as error:
            rule, remedy = f"cannot be split into words ({error})", "Close the quote: ARGS='key=\"a value\"'"
            raise ConfigError(fault("ARGS", word.removeprefix("ARGS="), rule, remedy)) from error
    return words


def is_bare(value: str) -> bool:
    """Whether Hydra's grammar takes a value for a name or a number as it is."""
    return re.fullmatch(r"[A-Za-z0-9_./*+-]+", value) is not None


def plain(item: str) -> str:
    """Write an item of a list of names: as it is where Hydra's grammar takes it for text."""
    is_text = item[:1].isalpha() and item.lower() not in ("true", "false", "null", "nan", "inf")
    return item if is_text and is_bare(item) else quoted(item)


def quoted(text: str) -> str:
    """Write text as the value of an override, which Hydra and OmegaConf read as this very text, `${` and all."""
    # Backslashes count before an interpolation alone for OmegaConf, and before a quote alone for Hydra.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + '\\"' * bool(found[2]), text) + '"'


def unescaped(text: str) -> str:
    """What OmegaConf will make of the value that Hydra has read of `quoted`."""
    return re.sub(r"((?:\\\\)*)\\\$\{", lambda found: found[1][::2] + "${", text)
