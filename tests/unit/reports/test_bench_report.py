"""What `make bench` says of figures, and what it is told."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.bench import __main__ as bench
from tests.bench.report import FULL, LIKE, LORA, OURS, OURS_LORA, SEQ_BN, losses, reached, tell

FACTS = {"peak_bytes": 2**29, "threads": 2, "versions": {"torch": "2.13.0"}}
RATES: dict[str, list[float]] = {
    OURS: [200.0, 220.0],
    SEQ_BN: [100.0, 100.0],
    OURS_LORA: [90.0, 80.0],
    LORA: [100.0, 100.0],
    FULL: [50, 55],
}
CURVES: dict[str, Any] = {
    OURS: [[10, 0.7], [20, 0.81]],
    OURS_LORA: [[10, 0.7], [20, 0.75]],
    FULL: [[30, 0.75], [60, 0.81]],
}


@pytest.fixture
def result() -> dict[str, Any]:
    curves = {SEQ_BN: CURVES[OURS], LORA: CURVES[FULL], **CURVES}
    return {
        "date": "2026-11-29 10:00",
        "commit": "abc",
        "job": "sentiment/films",
        "rows": 540,
        "cores": 2,
        "device": "CPU",
        "machine": "m",
        "models": {"minilm": {"precision": "float32", "rows_per_s": RATES, "last": dict.fromkeys(RATES, FACTS)}},
        "scores": {what: {"learning_rate": 1e-3, "curve": curve} for what, curve in curves.items()},
        "search": {OURS: {"seconds": 100.0, "validation": 0.8}, SEQ_BN: {"seconds": 300.0, "validation": 0.82}},
    }


def told(result: dict[str, Any], folder: Path) -> str:
    console = Console(width=150)
    with console.capture() as captured:
        tell(result, folder, console)
    return captured.get()


def test_tables_say_how_often_the_other_ours_is_and_where_it_loses(result: dict[str, Any], tmp_path: Path) -> None:
    text = told(result, tmp_path)
    assert "2.00 x  2.20 x" in text and "4.00 x  4.00 x" in text and "512" in text
    assert "validation accuracy of 0.800" in text and "3.00 x" in text  # 60 s against 20, and 300 s against 100
    assert losses(result) == [
        "Slower: this engine, LoRA trains 0.85 times as fast as peft with Trainer, LoRA (minilm).",
        "Worse: this engine, LoRA does not come within a point of full fine-tuning in these epochs.",
        "Worse: the sweep's winner has 0.800, theirs 0.820.",
    ]
    assert all(line in text for line in losses(result))
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["job"] == "sentiment/films" and file.with_suffix(".png").stat().st_size > 1000


def test_ours_in_bfloat16_stands_beside_others_in_either_precision(result: dict[str, Any], tmp_path: Path) -> None:
    faster = {what: [3 * rate for rate in some] for what, some in RATES.items()}
    model = {**result["models"]["minilm"], "precision": "bfloat16", "rows_per_s": faster}
    other = {f"{SEQ_BN}, bfloat16": {"seconds": 200.0, "validation": 0.8}}
    result = {**result, "models": {**result["models"], "m": model}, "search": {**result["search"], **other}}
    text = told(result, tmp_path)
    for what, ratio in ((SEQ_BN, 6.3), (LORA, 2.55), (FULL, 12.0)):
        assert f"{LIKE[what]}, bfloat16: {ratio:.2f} times as fast as {what}, float32" in text
    assert "Training speed: m, bfloat16" in text and "bfloat16, one by one" in text


def test_a_later_run_is_compared_with_the_newest_that_is_alike(result: dict[str, Any], tmp_path: Path) -> None:
    faster = {what: [2 * rate for rate in some] for what, some in RATES.items()}
    (tmp_path / "bench-20260101-000000.json").write_text("{", "utf-8")
    (tmp_path / "bench-20250101-000000.json").write_text(json.dumps({**result, "cores": 4}), "utf-8")
    models = {"minilm": {**result["models"]["minilm"], "rows_per_s": faster}}
    (tmp_path / "bench-20240101-000000.json").write_text(json.dumps({**result, "models": models}), "utf-8")
    text = told({**result, "scores": {}, "search": {}}, tmp_path)
    assert "0.50 x" in text and "Compared with 2026-11-29 10:00, commit abc." in text
    assert "validation accuracy" not in text


def test_a_score_is_reached_or_never() -> None:
    assert reached([[1, 0.5], [2, 0.7], [3, 0.6]], 0.6) == 2 and reached([[1, 0.5]], 0.6) is None


def test_behind_make_the_variables_are_read_and_make_itself_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--make"])
    monkeypatch.setenv("ADAPTERS_WORDS", "1")
    monkeypatch.setenv("ADAPTERS_WORD_1", "TASKS=sentiment/products")
    words = bench.overridden()
    config = bench.bench_config(words)
    assert (config.tasks, config.engine.batch_size) == (["sentiment/products"], 32)
    one = bench.Bench(config=config, words=words, job=None, folder=Path("f"), console=Console())  # type: ignore[arg-type]
    assert "--make" not in one.ours("speed", Path("m"))
