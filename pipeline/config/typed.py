"""From what a user types behind `make` to the words of a command line, to text in Hydra's grammar and back; and from
hints to what this user would type."""

import re
import shlex
import sys
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


_GROUPS = "challenger|checkpoint|cluster|data|drift|engine|gate|hook|method|schedule|search|submit|task|tracking"
_SETTING = rf"(?:{_GROUPS})(?:\.[\w<>-]+)+=(?:\[[^\]]*\]|<[^>]*>|[^\s\[\]'`,;()]*[^\s\[\]'`,;().:])"
_HINT = re.compile(rf"(?P<kept>\b[A-Z]+='[^']*'|`[^`]*`|'[^' ]*')|(?<![\w.=/-])(?P<bare>{_SETTING}(?: {_SETTING})*)")
"""Settings as a sentence names them, several in a row as one; but for those that stand in quotes."""
_MADE = re.compile(r"\bmake (?=[a-z]+\b)|\bARGS='([^']*)'")


def as_typed(text: str) -> str:
    """Write the hints of a message as this user types them: the one place that knows how the command was called.

    Messages name settings as `key=value`, and commands as `make` calls them. Behind `make` a setting is
    `ARGS='key=value'`; of `python -m jobs` a command is `python -m jobs <command>`.
    """
    if sys.argv[-1:] == ["--make"]:
        return _HINT.sub(lambda found: f"ARGS='{found['bare']}'" if found["bare"] else found["kept"], text)
    if sys.argv[0].replace("\\", "/").endswith("jobs/__main__.py"):
        return _MADE.sub(lambda found: "python -m jobs " if found[1] is None else found[1], text)
    return text
