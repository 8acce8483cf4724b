"""What a retraining costs beside training from scratch: `python -m tests.bench.cost <data folder> [job ...]`.

The champion has seen all rows but a twentieth of the training rows. Then the whole data come: `jobs.retrain` finds
what is new, and `jobs.sweep` in a store of its own trains a candidate on all rows, with the champion's settings. Timed
are the commands as a whole, one after the other; their test scores are on the same rows, which is the only slice.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.commands.workplace import Workplace

SHARE = 20  # one row in so many is new
SETTINGS = [f"cluster.cpus_per_trial={os.cpu_count()}"]
SETTINGS += ["search.trials=1", "search.space.engine.learning_rate=null", "search.space.method.width=null"]


def is_new(line: str) -> bool:
    """Choose a twentieth of the rows by their content."""
    return int(hashlib.sha256(line.encode()).hexdigest(), 16) % SHARE == 0


def timed(place: Workplace, name: str, job: str, *words: str) -> float:
    """Run a command on the data of a place; return its seconds."""
    start = time.perf_counter()
    given = [f"tasks=[{job}]", f"data.source={place.data}", *SETTINGS, *words]
    done = place.run(name, *given, environment={"RAY_worker_niceness": "0"})
    if done.code:
        raise SystemExit(f"{name} {' '.join(given)}:\n{done.out}{done.err}")
    return time.perf_counter() - start


def measure(job: str, data: Path, folder: Path, words: list[str]) -> str:
    """Do one job; return a row of the table."""
    kept, scratch = Workplace(folder / "kept"), Workplace(folder / "scratch")
    for place in (kept, scratch):
        shutil.copytree(data / job, place.data / job)
    file = kept.data / job / "train.jsonl"
    whole = file.read_text("utf-8")
    file.write_text("".join(line for line in whole.splitlines(keepends=True) if not is_new(line)), "utf-8")
    timed(kept, "sweep", job, *words)
    file.write_text(whole, "utf-8")
    retrained_s, scratch_s = timed(kept, "retrain", job, "challenger.ladder=[]"), timed(scratch, "sweep", job, *words)
    (verdict,), (winner,) = kept.newest("passes"), scratch.newest("leaderboard")
    scores = [100 * score for score in (verdict["before"], verdict["after"], winner["test"])]
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
