"""Rows that are asked, of every kind and format, and their answers; the examples of docs/predict.md are run."""

import gzip
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import CheckpointConfig, DataConfig, EngineConfig, Kind, MethodConfig, TaskConfig
from pipeline.core.adapters.checkpoint import Checkpoint, load_checkpoint, load_tokenizer, open_checkpoint
from pipeline.core.data.rows import Row
from pipeline.core.engine.assemble import fresh_model
from pipeline.core.engine.bundle import Bundle, read_bundle
from pipeline.core.tasks.kinds import TASK_KINDS, restore
from pipeline.errors import ConfigError, DataError, PipelineError
from pipeline.steps.answer import Answers, Questions
from pipeline.steps.asked import Asked, parsed
from tests import bundles, writers
from tests.tiny import tiny_checkpoint

PAGE = Path(__file__).parents[3] / "docs" / "predict.md"
LABELS: dict[Kind, list[str]] = {
    "classification": ["negative", "positive"],
    "tagging": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "multi_label": ["damage", "delivery"],
}
Make = Callable[..., Bundle]


@pytest.fixture(scope="module")
def make(tiny_bert: Any, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make a bundle of a kind with fresh weights on a tiny checkpoint, of generation on a tiny GPT."""
    root = tmp_path_factory.mktemp("bundles")
    checkpoints: dict[bool, Checkpoint] = {}

    def checkpoint_of(writes: bool) -> Checkpoint:
        if writes not in checkpoints:
            folder = root / f"checkpoint-{writes}"
            if writes:
                writers.make_model("gpt2", len(writers.WORDS) + 4).save_pretrained(folder)
                writers.make_tokenizer("gpt2", writers.WORDS).save_pretrained(folder)
                config = CheckpointConfig(name="tiny", source="path", location=str(folder))
                checkpoints[writes] = open_checkpoint(config)
            else:
                base, tokenizer = tiny_bert()
                checkpoints[writes] = tiny_checkpoint(base, tokenizer, folder)
        return checkpoints[writes]

    def made(kind: Kind, **settings: Any) -> Bundle:
        checkpoint = checkpoint_of(kind == "generation")
        config = TaskConfig(name="any", kind=kind, max_length=64, stride=8, max_new_tokens=8, **settings)
        labels, method = LABELS.get(kind, []), MethodConfig(name="houlsby", width=4)
        task = restore(config, labels)
        base = load_checkpoint(checkpoint).base
        model = fresh_model(base, checkpoint, task, method, EngineConfig(), 0)
        folder = root / f"bundle-{len(list(root.iterdir()))}"
        bundles.write(folder, model, checkpoint=checkpoint, task=config, labels=labels, method=method, seed=0)
        return read_bundle(folder)

    return made


def rows_of(bundle: Bundle, asked: Asked, data: DataConfig | None = None) -> list[Any]:
    """What is asked: the inputs of each row, or its error."""
    questions = Questions(asked, bundle, data or DataConfig())
    return [dict(one.fields) if isinstance(one, Row) else one for one in questions]


def of_file(bundle: Bundle, file: Path, data: DataConfig | None = None) -> list[Any]:
    return rows_of(bundle, Asked(name=str(file), file=file), data)


# Files


TABLE = [{"text": "good, really", "label": "positive"}, {"text": "dull", "label": "negative"}]


def write(file: Path) -> None:
    """Write TABLE in the format that the name says."""
    lines = {
        "csv": 'text,label\n"good, really",positive\ndull,negative\n',
        "tsv": "label\ttext\npositive\tgood, really\nnegative\tdull\n",
        "jsonl": "".join(json.dumps(row) + "\n" for row in TABLE),
        "json": json.dumps(TABLE),
        "txt": "good, really\n\ndull\n",
    }
    if file.name.endswith(".parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(TABLE), file)
        return
    content = lines[file.name.split(".")[1]].encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a.parquet", "a.csv.gz"])
def test_a_file_of_any_format_asks_the_same_and_its_target_is_not_looked_at(
    make: Make, tmp_path: Path, name: str
) -> None:
    write(tmp_path / name)
    found = of_file(make("classification"), tmp_path / name)
    assert [row["text"] for row in found] == ["good, really", "dull"]
    assert all("label" not in row for row in found)


def test_columns_and_encoding_of_a_file_may_be_set(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("body\ncaf\xe9\n".encode("cp1252"))
    data = DataConfig(source=".", columns={"text": "body"}, encoding="cp1252")
    questions = Questions(Asked(name="a.csv", file=tmp_path / "a.csv"), make("classification"), data)
    assert [row.fields["text"] for row in questions if isinstance(row, Row)] == ["café"]
    assert questions.total == 1 and "encoding cp1252" in questions.notes[0]


def test_fields_whose_columns_have_each_others_names_are_not_swapped(make: Make, tmp_path: Path) -> None:
    bundle = make("classification", columns={"text": "text_pair", "text_pair": "text"})
    (tmp_path / "a.csv").write_text("text,text_pair\nsecond,first\n", "utf-8")
    (row,) = of_file(bundle, tmp_path / "a.csv")
    assert (row["text"], row["text_pair"]) == ("first", "second")


def test_options_may_be_columns_or_an_object(make: Make, tmp_path: Path) -> None:
    bundle = make("multiple_choice", columns={"options": ["A", "B"]})
    (tmp_path / "a.csv").write_text("question,A,B\nq,one,two\n", "utf-8")
    (row,) = of_file(bundle, tmp_path / "a.csv")
    assert row["options"] == ["one", "two"]
    (tmp_path / "a.jsonl").write_text('{"question": "q", "options": {"B": "two", "A": "one"}}\n', "utf-8")
    (row,) = of_file(make("multiple_choice"), tmp_path / "a.jsonl")
    assert row["options"] == ["one", "two"]


def test_a_text_stands_for_tokens_wherever_it_is_asked(make: Make, tmp_path: Path) -> None:
    bundle = make("tagging")
    text, tokens = "Anna's here.", ["Anna", "'", "s", "here", "."]
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n", "utf-8")
    (tmp_path / "a.csv").write_text(f"text\n{text}\n", "utf-8")
    (tmp_path / "a.txt").write_text(f"{text}\n", "utf-8")
    for name in ("a.jsonl", "a.csv", "a.txt"):
        (row,) = of_file(bundle, tmp_path / name)
        assert (row["tokens"], row["text"]) == (tokens, text)
    (row,) = rows_of(bundle, Asked(name="ITEM", item={"text": text}))
    assert (row["tokens"], row["text"]) == (tokens, text)
    (tmp_path / "a.conll").write_text("Anna O\nleft O\n\nBen O\n", "utf-8")
    assert [row["tokens"] for row in of_file(bundle, tmp_path / "a.conll")] == [["Anna", "left"], ["Ben"]]


def test_a_line_of_jsonl_may_be_the_bare_text_and_what_begins_like_an_object_is_one(make: Make, tmp_path: Path) -> None:
    lines = ["Anna left.", '{"text": "Ben, too."}', '"quoted" and on', "[1] a note", '{"text": ']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "utf-8")
    *texts, broken = of_file(make("classification"), tmp_path / "a.jsonl")
    assert [one["text"] for one in texts] == ["Anna left.", "Ben, too.", '"quoted" and on', "[1] a note"]
    assert broken["row"] == 5 and "is not valid JSON" in broken["error"]


@pytest.mark.parametrize("bad_rows", ["error", "skip"])
def test_a_row_that_cannot_be_answered_is_an_error_in_its_place(
    make: Make, tmp_path: Path, bad_rows: Literal["error", "skip"]
) -> None:
    (tmp_path / "a.csv").write_text("text,id\ngood,1\n ,2\ndull,3\na,b,c\n", "utf-8")
    found = of_file(make("classification"), tmp_path / "a.csv", data=DataConfig(bad_rows=bad_rows))
    first, second, third, fourth = found
    assert (first["text"], third["text"]) == ("good", "dull")
    assert second["row"] == 3 and re.search(r"a\.csv:3: has an empty text", second["error"])
    assert fourth["row"] == 5 and "has 3 cells where the header has 2" in fourth["error"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"body\ngood\n", r"a\.csv:1: has no field `text` \(it has: body\)"),
        ("a.csv", b"text\ngood\ncaf\xe9\n", r"a\.csv:3: .*data\.encoding=cp1252"),
        ("a.csv", b"text\n", r"a\.csv: has no rows\. Give a file with at least one text or row"),
        ("a.txt", b"\n", r"a\.txt: has no rows"),
        ("/dev/null", None, r"/dev/null: has no rows"),
        ("a.parquet", b"PAR1", r"a\.parquet: .*Parquet"),
    ],
)
def test_what_is_wrong_with_a_file_as_a_whole_is_told_before_anything_is_answered(
    make: Make, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        Questions(Asked(name=name, file=tmp_path / name), make("classification"), DataConfig())


def test_columns_are_those_of_a_file_and_of_the_task(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,body\ngood,bad\n", "utf-8")
    bundle, said = make("classification"), r"data\.columns\.txt: 'txt' is no field of classification\. Map only: text"
    with pytest.raises(ConfigError, match=said):
        of_file(bundle, tmp_path / "a.csv", DataConfig(columns={"txt": "body"}))
    assert of_file(bundle, tmp_path / "a.csv", DataConfig(columns={"text": "body"})) == [{"text": "bad"}]
    with pytest.raises(
        ConfigError, match=r"data\.columns\.text: 'body' is for the columns of a FILE, and TEXT has none"
    ):
        rows_of(bundle, Asked(name="TEXT", item="good"), DataConfig(columns={"text": "body"}))


def test_an_item_that_says_nothing_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match=r"^ITEM: "):
        rows_of(make("classification"), Asked(name="ITEM", item=None))


# Lines


def test_a_line_of_a_text_file_is_a_text_whatever_it_begins_with(make: Make, tmp_path: Path) -> None:
    lines = ['"Wow," she said.', '"quoted"', "[sic] bad", '["a"]', "{laughs} fine", '{"text": "an item"}']
    (tmp_path / "a.txt").write_text("\n".join(lines), "utf-8")
    assert [row["text"] for row in of_file(make("classification"), tmp_path / "a.txt")] == [*lines[:-1], "an item"]


def test_what_was_found_out_about_a_file_of_any_name_is_told_with_its_name(make: Make, tmp_path: Path) -> None:
    (tmp_path / "new.log").write_text("good\nbad\n", "utf-16")
    asked = Asked(name="new.log", file=tmp_path / "new.log")
    assert Questions(asked, make("classification"), DataConfig()).notes == [f"{tmp_path}/new.log: encoding utf-16."]


@pytest.mark.parametrize("place", ["standard input", "questions.log"])
def test_a_line_of_standard_input_may_be_json_and_else_is_a_text(make: Make, tmp_path: Path, place: str) -> None:
    lines = ['"Wow," she said.', '"quoted"', "[sic] bad", '["a"]', "{laughs} fine", '{"text": "an item"}', '{"text": 1']
    if place == "standard input":
        asked = Asked(name=place, lines=iter(enumerate(lines, start=1)))
    else:
        (tmp_path / place).write_text("\n".join(lines), "utf-8")
        asked = Asked(name=place, file=tmp_path / place)
    *good, bad = rows_of(make("classification"), asked)
    assert [row["text"] for row in good] == [
        '"Wow," she said.',
        "quoted",
        "[sic] bad",
        '["a"]',
        "{laughs} fine",
        "an item",
    ]
    assert bad["row"] == 7 and bad["error"].startswith(f"{place}:7: '{{\"text\": 1' is not valid JSON")
    tagging = Asked(name=place, lines=iter([(1, '["New York", "fell"]')]))
    assert rows_of(make("tagging"), tagging) == [{"tokens": ["New York", "fell"]}]


def test_a_single_item_that_cannot_be_answered_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match="TEXT: has an empty text"):
        rows_of(make("classification"), Asked(name="TEXT", item=" "))


def test_a_key_that_stands_twice_is_refused_in_a_line_and_in_an_item(make: Make) -> None:
    twice = '{"text": "good", "text": "bad"}'
    (found,) = rows_of(make("classification"), Asked(name="standard input", lines=iter([(1, twice)])))
    assert "the key 'text' stands several times in one object" in found["error"]
    with pytest.raises(DataError, match=r"ITEM: .* is not valid JSON .the key 'text' stands several times"):
        parsed(twice, "ITEM")


# Answers


def test_answers_keep_the_order_of_the_rows_and_count_the_errors(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.steps.answer._TOGETHER", 2)
    bundle = make("classification")
    lines = ["good", '{"a": 1}', '{"b": 1}', "the film was good", "bad"]
    questions = Questions(Asked(name="x", lines=iter(enumerate(lines, start=1))), bundle, DataConfig())
    answers = Answers(bundle, questions)
    said = list(answers)
    assert [one.get("row") for one in said] == [None, 2, 3, None, None]
    for text, answer in ((lines[0], said[0]), (lines[3], said[3]), (lines[4], said[4])):
        (alone,) = Answers(bundle, Questions(Asked(name="TEXT", item=text), bundle, DataConfig()))
        assert answer["scores"] == pytest.approx(alone["scores"], abs=1e-5)
    with pytest.raises(
        PipelineError, match=r"^2 of 5 rows have no answer but an error\. The first: x:2: .* has no text"
    ):
        answers.raise_unanswered()


def test_an_answer_to_a_text_that_was_cut_says_so(make: Make) -> None:
    bundle = make("classification")
    lines = iter([(1, "good"), (2, "good " * 80), (3, "bad")])
    said = list(Answers(bundle, Questions(Asked(name="x", lines=lines), bundle, DataConfig())))
    assert [one.get("truncated") for one in said] == [None, True, None]


@pytest.mark.parametrize(
    ("kind", "asked", "num"),
    [
        ("classification", {"text": "good " * 80}, 1),
        ("multi_label", {"text": "good " * 80, "text_pair": "bad"}, 1),
        ("regression", {"text": "good", "text_pair": "bad " * 80}, 1),
        ("multiple_choice", {"question": "good", "options": ["bad", "bad " * 80]}, 1),
        ("generation", {"text": "good " * 80}, 1),
        ("extractive_qa", {"question": "who " * 80, "context": "anna"}, 1),
        ("extractive_qa", {"question": "who", "context": "anna " * 80}, 0),
        ("tagging", {"tokens": ["anna"] * 80}, 0),
        ("tagging", {"tokens": ["x" * 80]}, 1),
    ],
)
def test_answers_to_a_part_of_their_text_are_counted(make: Make, kind: Kind, asked: Any, num: int) -> None:
    bundle = make(kind, columns={"text_pair": "text_pair"} if "text_pair" in asked else {})
    lines = iter([(1, json.dumps(asked)), (2, '{"a": 1}'), (3, json.dumps({**asked, **SHORT[kind]}))])
    answers = Answers(bundle, Questions(Asked(name="x", lines=lines), bundle, DataConfig()))
    assert [one.get("truncated", False) for one in answers] == [bool(num), False, False]
    said = "1 of 2 answers reads only part of their text, which is longer than the model reads; "
    assert answers.partial == (f'{said}each says "truncated": true.' if num else "")


SHORT: dict[str, dict[str, Any]] = {
    "multi_label": {"text": "good"},
    "regression": {"text_pair": "bad"},
    "multiple_choice": {"options": ["bad", "good"]},
    "extractive_qa": {"question": "who", "context": "anna"},
    "tagging": {"tokens": ["anna"]},
    "classification": {"text": "good"},
    "generation": {"text": "good"},
}


def examples() -> dict[str, tuple[str, Any]]:
    """Heading -> the command and the answer below it, in the page."""
    found = re.findall(r"^### ([^\n]+)\n+```\n([^`]+)```\n+```json\n([^`]+)```", PAGE.read_text("utf-8"), re.M)
    return {heading: (command, json.loads(answer)) for heading, command, answer in found}


SECTIONS: dict[Kind, str] = {
    "classification": "Classification",
    "multi_label": "Multi-label classification",
    "regression": "Regression",
    "tagging": "Tagging",
    "multiple_choice": "Multiple choice",
    "extractive_qa": "Extractive question answering",
    "generation": "Generation",
}


def test_every_kind_has_its_example() -> None:
    assert set(SECTIONS) == set(TASK_KINDS) and set(SECTIONS.values()) == set(examples())


@pytest.mark.parametrize("kind", SECTIONS)
def test_the_example_of_a_kind_is_answered_in_the_form_that_stands_there(make: Make, kind: Kind) -> None:
    command, wanted = examples()[SECTIONS[kind]]
    (word,) = (word for word in shlex.split(command) if word.startswith(("TEXT=", "ITEM=")))
    name, _, text = word.partition("=")
    item: Any = json.loads(text) if name == "ITEM" else text
    bundle = make(kind)
    (answer,) = Answers(bundle, Questions(Asked(name=name, item=item), bundle, DataConfig()))
    assert list(answer) == list(wanted)
    if kind == "tagging":  # the weights are random, and may see none
        task = restore(bundle.record.task, bundle.record.labels)
        row = task.parse_item(item)
        encoded = task.encode([row], load_tokenizer(open_checkpoint(bundle.record.checkpoint)))
        logits = np.array([[9.0 * (tag == one) for one in task.labels] for tag in wanted["tags"]], dtype=np.float32)
        (answer,) = task.answers([row], encoded, [logits])
        for one in (*answer["entities"], *wanted["entities"]):
            assert 0.9 < one.pop("score") <= 1
        assert answer == wanted
    if kind == "extractive_qa":
        assert item["context"][answer["start"] : answer["end"]] == answer["answer"]
        assert item["context"][wanted["start"] : wanted["end"]] == wanted["answer"]
    if kind == "multi_label":  # as many as are above their thresholds
        assert {*answer.pop("labels")} <= {*wanted.pop("labels")}
    assert shape(answer) == shape(wanted)


def shape(value: Any) -> Any:
    """What stands in the place of numbers and texts."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value)
