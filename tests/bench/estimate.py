"""What `DRYRUN=1` says a sweep takes, and what it then takes: `python -m tests.bench.estimate [number ...]`.

Five sweeps of different shape, on the starter's data, each said and then run, in a folder of its own that goes when it
has ended. The numbers choose some of them. Nothing else should run on the machine meanwhile. At the end the table is
printed as markdown, with the median of how far what was said was off.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SHAPES = (
    ("TASKS=sentiment", "TRIALS=2", "EPOCHS=2"),
    ("TASKS=sentiment/products,ner", "METHOD=pfeiffer", "TRIALS=4", "EPOCHS=2"),
    ("TASKS=medqa", "METHOD=lora", "TRIALS=3", "EPOCHS=1"),
    ("TASKS=ner", "METHOD=probe", "TRIALS=3", "EPOCHS=4"),
    ("TASKS=sentiment,ner,medqa", "METHOD=parallel", "TRIALS=2", "EPOCHS=1", "CLUSTER=here"),
)
SAID = re.compile(r"^(?:About|At most) (?P<time>\S+(?: s)?):", re.MULTILINE)
ROOT = Path(__file__).parents[2]


def main(*numbers: str) -> None:
    """Say and run each sweep, and print the table."""
    print("| sweep | said | taken | off |\n| --- | ---: | ---: | ---: |", flush=True)
    off = []
    for shape in [SHAPES[int(number)] for number in numbers] or SHAPES:
        with tempfile.TemporaryDirectory(prefix="estimate-") as folder:
            said = SAID.search(swept(folder, *shape, "DRYRUN=1"))
            assert said is not None, "a dry run says how long it will take"
            begun = time.perf_counter()
            swept(folder, *shape)
            taken = time.perf_counter() - begun
        expected = seconds_of(said["time"])
        off.append(abs(taken / expected - 1))
        print(f"| `{' '.join(shape)}` | {expected:.0f} s | {taken:.0f} s | {taken / expected - 1:+.0%} |", flush=True)
    print(f"\nMedian of what it was off: {median(off):.0%}")


def swept(folder: str, *words: str) -> str:
    """Run `make sweep` without make, in a folder, and return what it prints."""
    command = [sys.executable, "-m", "jobs", "sweep", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def seconds_of(text: str) -> float:
    """Seconds of a duration as it is shown: `12.3 s`, `4:05` or `1:02:03`."""
    if text.endswith(" s"):
        return float(text.removesuffix(" s"))
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(part)
    return float(total)


if __name__ == "__main__":
    main(*sys.argv[1:])
