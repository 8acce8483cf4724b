"""Small made-up rows whose targets follow from their words, in as many formats as files are read in."""

import csv
import io
import json
import random
from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
GOOD, BAD = ["good", "fine", "great", "love"], ["bad", "awful", "dull", "poor", "hate"]
THINGS = ["film", "book", "food", "song", "plot"]
NAMES, PLACES = ["anna", "ben", "carl", "dora"], ["paris", "rome", "berlin", "oslo"]
ANSWERS = {"france": "paris", "italy": "rome", "germany": "berlin", "norway": "oslo"}


def opinion(draw: random.Random) -> Row:
    label = draw.choice(["positive", "negative"])
    words = [draw.choice(["the", "a", "one", "two"]), draw.choice(THINGS), "was"]
    words += draw.sample(GOOD if label == "positive" else BAD, 2)
    return {"text": " ".join(words), "label": label}


def journey(draw: random.Random) -> Row:
    tokens, tags = [draw.choice(NAMES), draw.choice(["went", "met", "saw"]), "from"], ["B-PER", "O", "O"]
    tokens += [draw.choice(PLACES), "to", draw.choice(PLACES), "and", draw.choice(NAMES)]
    return {"tokens": tokens, "tags": [*tags, "B-LOC", "O", "B-LOC", "O", "B-PER"]}


def question(draw: random.Random) -> Row:
    country, options = draw.choice(list(ANSWERS)), draw.sample(PLACES, 4)
    return {
        "question": f"what {draw.choice(['city', 'capital'])} is in {country} {draw.choice(THINGS)}",
        "options": options,
        "answer": options.index(ANSWERS[country]),
    }


def rows(make: Callable[[random.Random], Row], count: int, seed: int) -> list[Row]:
    """Draw rows, no two of them equal."""
    draw = random.Random(seed)
    found: dict[str, Row] = {}
    while len(found) < count:
        row = make(draw)
        found[json.dumps(row)] = row
    return list(found.values())


def as_jsonl(many: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in many)


def as_csv(many: Iterable[Row]) -> str:
    text, many = io.StringIO(), list(many)
    writer = csv.DictWriter(text, fieldnames=list(many[0]))
    writer.writeheader()
    writer.writerows(many)
    return text.getvalue()


def as_conll(many: Iterable[Row]) -> str:
    sentences = (zip(row["tokens"], row["tags"], strict=True) for row in many)
    return "\n".join("".join(f"{token} {tag}\n" for token, tag in sentence) for sentence in sentences)
