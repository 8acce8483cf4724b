"""How messages name settings and commands: as this user types them."""

import re
import shlex
import sys

from pipeline.config.commands import COMMANDS

_GROUPS = "challenger|checkpoint|cluster|data|drift|engine|gate|hook|method|schedule|search|submit|task|tracking"
_SETTING = rf"(?:{_GROUPS})(?:\.[\w<>-]+)+=(?:\[[^\]]*\]|<[^>]*>|[^\s\[\]'`,;()]*[^\s\[\]'`,;().:])"
_WORD = r"""(?:'[^']*'|"'")+"""
"""A word as `shlex` quotes it: one that has a quotation mark is several that touch."""
_HINT = re.compile(rf"(?P<kept>\b[A-Z]+={_WORD}|`[^`]*`|'[^' ]*')|(?<![\w.=/-])(?P<bare>{_SETTING}(?: {_SETTING})*)")
"""Settings as a sentence names them, several in a row as one; but for those that stand in quotes."""
_MADE = re.compile(rf"\bmake (?=(?:{'|'.join(COMMANDS)})\b)|\bARGS=(?P<args>{_WORD})")


def as_typed(text: str) -> str:
    """Write the hints of a message as this user types them: the one place that knows how the command was called.

    Messages name settings as `key=value`, and commands as `make` calls them. Behind `make` a setting is
    `ARGS='key=value'`; of `python -m jobs` a command is `python -m jobs <command>`.
    """
    if sys.argv[-1:] == ["--make"]:
        return _HINT.sub(lambda found: f"ARGS='{found['bare']}'" if found["bare"] else found["kept"], text)
    if sys.argv[0].replace("\\", "/").endswith("jobs/__main__.py"):
        return _MADE.sub(lambda found: shlex.split(found["args"])[0] if found["args"] else "python -m jobs ", text)
    return text
