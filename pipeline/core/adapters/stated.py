"""What a checkpoint's folder says of the checkpoint: its licence, and the languages that it was trained on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KEYS = ("license", "language")


def stated(folder: Path) -> dict[str, str]:
    """Read `license` and `language` from the front matter of README.md, or else from config.json.

    Args:
        folder: Of the checkpoint.

    Returns:
        What is there, several values with commas between; a key that neither file has is left out.
    """
    told: dict[str, str] = {}
    for values in (_front_matter(folder / "README.md"), _config(folder / "config.json")):
        for key in _KEYS:
            given = values.get(key)
            texts = [str(one) for one in (given if isinstance(given, list) else [given]) if isinstance(one, str)]
            if texts:
                told.setdefault(key, ", ".join(texts))
    return told


def _front_matter(file: Path) -> Mapping[str, Any]:
    from huggingface_hub import metadata_load

    try:
        return metadata_load(file) or {}
    except Exception:  # nothing, no text, or of the many things that may be wrong in somebody's YAML
        return {}


def _config(file: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
