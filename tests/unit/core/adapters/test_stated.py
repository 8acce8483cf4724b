"""What a checkpoint's folder says of its licence and languages, however badly it is written."""

from pathlib import Path

import pytest

from pipeline.core.adapters.stated import stated


@pytest.mark.parametrize(
    ("readme", "config", "told"),
    [
        ("---\nlicense: apache-2.0\nlanguage: en\n---\n# A model\n", "{}", {"license": "apache-2.0", "language": "en"}),
        (
            "---\nlanguage:\n- en\n- de\ntags: [x]\n---\n",
            '{"license": "mit"}',
            {"license": "mit", "language": "en, de"},
        ),
        (None, '{"license": "mit"}', {"license": "mit"}),
        ("# A model without front matter\n", "{}", {}),
        ("---\nlicense: [\n---\n", "{", {}),
        ("---\n- a\n---\n", "[]", {}),
        ("---\nlicense: 7\n---\n", '{"license": null}', {}),
        (None, None, {}),
    ],
)
def test_what_is_stated_is_found_and_what_is_not_is_left_out(
    readme: str | None, config: str | None, told: dict[str, str], tmp_path: Path
) -> None:
    for name, text in (("README.md", readme), ("config.json", config)):
        if text is not None:
            (tmp_path / name).write_text(text, "utf-8")
    assert stated(tmp_path) == told


def test_a_readme_that_is_no_text_states_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff\xfe\x00---")
    assert stated(tmp_path) == {}
