"""What a retraining costs beside training from scratch: `python -m tests.bench.cost <data folder> [job ...]`.

The champion has seen all rows but a twentieth of the training rows. Then the whole data come: `jobs.retrain` finds
what is new, and `jobs.sweep` in a store of its own trains a candidate on all rows, with the champion's settings. Timed
are the commands as a whole, one after the other; their test scores are on the same rows, which is the only slice.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHARE = 20  # one row in so many is new
SETTINGS = ["search.trials=1", "search.space.engine.learning_rate=null", "search.space.method.width=null"]


def is_new(line: str) -> bool:
    """Choose a twentieth of the rows by their content."""
    return int(hashlib.sha256(line.encode()).hexdigest(), 16) % SHARE == 0


def command(name: str, job: str, data: Path, work: Path, *words: str) -> float:
    """Run a command in a working directory; return its seconds."""
    work.mkdir(parents=True, exist_ok=True)
    given = [f"tasks=[{job}]", f"data.source={data}", *SETTINGS, *words]
    environment = os.environ | {"RAY_worker_niceness": "0", "PYTHONPATH": os.getcwd()}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", *given],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} {' '.join(given)}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def table(work: Path, name: str) -> dict[str, Any]:
    """The only row of a table that was recorded."""
    (file,) = work.glob(f"mlartifacts/**/{name}")
    found = json.loads(file.read_text("utf-8"))
    (row,) = (dict(zip(found["columns"], row, strict=True)) for row in found["data"])
    return row


def measure(job: str, data: Path, folder: Path, words: list[str]) -> str:
    """Do one job; return a row of the table."""
    before, kept = folder / "before", folder / "kept"
    shutil.copytree(data / job, before / job)
    file = before / job / "train.jsonl"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not is_new(line)), "utf-8")
    command("sweep", job, before, kept, *words)
    retrained_s = command("retrain", job, data, kept)
    scratch_s = command("sweep", job, data, folder / "scratch", *words)
    verdict, scratch = table(kept, "passes.json"), table(folder / "scratch", "leaderboard.json")
    scores = [100 * score for score in (verdict["before"], verdict["after"], scratch["test"])]
    rows = f"{verdict['new']} + {verdict['replayed']}"
    shown = " | ".join(f"{score:.1f}" for score in scores)
    ratio = f"{retrained_s / scratch_s:.2f}"
    return f"| {job} | {rows} | {shown} | {retrained_s:.0f} s | {scratch_s:.0f} s | {ratio} | {verdict['decision']} |"


def main() -> None:
    data, jobs = Path(sys.argv[1]).absolute(), [word for word in sys.argv[2:] if "=" not in word]
    words = [word for word in sys.argv[2:] if "=" in word]
    print("| job | new + replayed rows | champion | retrained | from scratch | time | from scratch | ratio | verdict |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="cost-") as folder:
        for job in jobs or ["sentiment/movies", "ner/social"]:
            print(measure(job, data, Path(folder) / job.replace("/", "."), words), flush=True)


if __name__ == "__main__":
    main()
