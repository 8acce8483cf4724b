"""How a command is written for the head node, and what is refused before anything is sent."""

from pathlib import Path

import pytest

from pipeline.config.commands import SubmitConfig
from pipeline.config.overrides import read_command
from pipeline.errors import ConfigError, UserError
from pipeline.steps.ship import rewrite

SERVER = "tracking.uri=http://tracking:5000"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data of one task."""
    folder = tmp_path / "build"
    (folder / "sentiment").mkdir(parents=True)
    (folder / "sentiment" / "train.jsonl").write_text('{"text": "fine", "label": "positive"}\n', "utf-8")
    return folder


def faults(own: SubmitConfig, *given: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        rewrite(own, given)
    return [fault.where for fault in caught.value.faults]


def test_folders_are_rewritten_to_their_places_in_what_is_shipped(tmp_path: Path, data: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "triage.yaml").write_text("kind: classification\n", "utf-8")
    (tmp_path / "ck").mkdir()
    given = ["tasks=[sentiment]", f'data.source="{data}"', f'checkpoint="{tmp_path}/ck"', f'conf="{tmp_path}/own"']
    words, folders, _, runs = rewrite(SubmitConfig(), [*given, "seed=3", SERVER])
    assert str(tmp_path) not in " ".join(words)
    assert folders == {
        "shipped/data": data,
        "shipped/checkpoint": tmp_path / "ck",
        "shipped/conf": tmp_path / "own",
    }
    assert words == [
        "tasks=[sentiment]",
        'conf="shipped/conf"',
        "seed=3",
        SERVER,
        "cluster=existing",
        'data.source="shipped/data"',
        'checkpoint.name="ck"',
        'checkpoint.source="path"',
        'checkpoint.location="shipped/checkpoint"',
        "checkpoint.revision=null",
        "checkpoint.sha256=null",
        'checkpoint.pooling="mean"',
    ]
    assert runs == "~/adapter-runs"


def test_an_evaluation_ships_the_test_data_of_its_task_or_its_file(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FILE", raising=False)
    own = SubmitConfig(command="evaluate")
    words, folders, files, runs = rewrite(own, ['job="sentiment"', f'data.source="{data}"', SERVER])
    assert words == ['job="sentiment"', SERVER, 'data.source="shipped/data"']
    assert (list(files), folders, runs) == (["shipped/data/sentiment/train.jsonl"], {"shipped/data": data}, None)
    mine = tmp_path / "my rows.csv"
    mine.touch()
    monkeypatch.setenv("FILE", str(mine))
    words, folders, files, _ = rewrite(own, ['job="sentiment"', SERVER])
    assert words == ['job="sentiment"', SERVER, 'file="shipped/file/my rows.csv"']
    assert (files, folders) == ({"shipped/file/my rows.csv": mine}, {})
    monkeypatch.setenv("FILE", "/there/rows.csv")
    assert rewrite(SubmitConfig(command="evaluate", ship=False), ["job=ner", SERVER])[0][-1] == 'file="/there/rows.csv"'
    assert faults(own, "job=ner", SERVER) == ["FILE"]


def test_nothing_is_rewritten_where_the_head_has_the_folders() -> None:
    given = ["tasks=[sentiment]", 'data.source="/there"', "cluster=local", SERVER, "runs=/srv/runs"]
    words, folders, _, runs = rewrite(SubmitConfig(ship=False), given)
    assert (words, folders, runs) == ([*given[:-1]], {}, "/srv/runs")


def test_the_starter_corpus_and_a_known_checkpoint_need_no_rewriting() -> None:
    words, folders, _, _ = rewrite(SubmitConfig(), ["tasks=[ner]", "checkpoint=bert_base", SERVER])
    assert (words, folders) == (["tasks=[ner]", "checkpoint=bert_base", SERVER, "cluster=existing"], {})


def test_the_head_is_told_the_store_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    words, _, _, _ = rewrite(SubmitConfig(), ["tasks=[ner]"])
    assert words == ["tasks=[ner]", "cluster=existing", 'tracking.uri="http://lab:5000"']
    assert rewrite(SubmitConfig(), ["tasks=[ner]", SERVER])[0] == ["tasks=[ner]", SERVER, "cluster=existing"]


def test_yaml_that_is_no_task_is_not_shipped(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "docker-compose.yaml").write_text("services: {db: {environment: {PASSWORD: secret}}}\n", "utf-8")
    (own / "triage.yml").write_text("kind: classification\n", "utf-8")
    _, _, files, _ = rewrite(SubmitConfig(), ["tasks=[ner]", f'conf="{own}"', SERVER])
    assert [*files] == ["shipped/conf/triage.yml"]


def test_mistakes_are_found_before_anything_is_sent(data: Path) -> None:
    assert faults(SubmitConfig(), "tasks=[sentimnt]") == ["tracking.uri", "TASKS"]
    assert faults(SubmitConfig(), "tasks=[ner]", SERVER, f"data.source={data}") == ["DATA"]
    assert faults(SubmitConfig(), "tasks=[ner]", SERVER, "seeed=1") == ["seeed"]
    assert faults(SubmitConfig(command="status")) == ["tracking.uri"]
    assert faults(SubmitConfig(), "tasks=[ner]", SERVER, "runs=here") == ["submit.runs"]
    rewrite(SubmitConfig(), ["tasks=[ner]", "dryrun=true"])  # records nothing


def test_a_mistake_in_the_submission_itself_is_named_as_it_is_written() -> None:
    with pytest.raises(ConfigError) as caught:
        read_command("submit", ["submit.address=head:8265", "submit.adress=x"])
    text = str(caught.value)
    assert "submit.adress: is no config key. Did you mean submit.address" in text
    assert "ADDRESS: 'head:8265'" in text
    with pytest.raises(ConfigError, match=r"^COMMAND: 'swep' is no command that `submit` runs. Did you mean sweep"):
        read_command("submit", ["submit.command=swep"])
    with pytest.raises(ConfigError, match=r"^COMMAND: 'submit' is no command that `submit` runs"):
        read_command("submit", ["COMMAND=submit", "TASKS=ner"])
    with pytest.raises(ConfigError, match=r"^ADDRESS: 'head:8265' must be the address of a dashboard"):
        read_command("submit", ["submit.address=head:8265"])


def test_only_what_the_command_reads_is_shipped(tmp_path: Path, data: Path) -> None:
    for name in ("sentiment/.env", "sentiment/notes.md", "secret.jsonl", "ner/train.jsonl", ".hidden/train.jsonl"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text('{"text": "x", "label": "positive"}\n')
    (data / "sentiment" / "movies").mkdir()
    (data / "sentiment" / "movies" / "test.csv").write_text("text,label\nx,positive\n")
    (data / "sentiment" / "movies" / "train.csv").write_text("text,label\nx,positive\n")
    own, checkpoint = tmp_path / "own", tmp_path / "ck"
    for name in ("triage.yaml", "method/my.yaml", "notes.txt", ".secret.yaml", ".git/config.yaml", "id_rsa"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("kind: classification\n")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "train.log", ".env", "own.py"):
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / name).write_text("{}")
    given = [f'data.source="{data}"', f'checkpoint="{checkpoint}"', f'conf="{own}"', SERVER]
    _, _, files, _ = rewrite(SubmitConfig(), ["tasks=[sentiment/movies]", *given])
    assert sorted(name.removeprefix("shipped/") for name in files) == [
        "checkpoint/config.json",
        "checkpoint/model.safetensors",
        "checkpoint/tokenizer.json",
        "checkpoint/vocab.txt",
        "conf/method/my.yaml",
        "conf/triage.yaml",
        "data/sentiment/movies/test.csv",
        "data/sentiment/movies/train.csv",
    ]
    _, _, files, _ = rewrite(SubmitConfig(), ["resume=20260101-000000-abcd", f'data.source="{data}"', SERVER])
    assert {"shipped/data/ner/train.jsonl", "shipped/data/sentiment/train.jsonl"} <= set(files)
    assert not [name for name in files if "/." in name or "secret" in name]


@pytest.mark.parametrize("link", ["build/sentiment/test.jsonl", "own/other.yaml", "ck/vocab.txt", "build/sentiment/tv"])
def test_a_link_that_leaves_what_is_shipped_is_refused(link: str, tmp_path: Path, data: Path) -> None:
    for name in ("own", "ck", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere" / "train.jsonl").write_text("kind: classification\n")
    target = tmp_path / "elsewhere" / ("" if link.endswith("tv") else "train.jsonl")
    (tmp_path / link).symlink_to(target)
    (data / "sentiment" / "validation.jsonl").symlink_to(data / "sentiment" / "train.jsonl")  # stays inside
    given = [f'data.source="{data}"', f'checkpoint="{tmp_path}/ck"', f'conf="{tmp_path}/own"', SERVER]
    with pytest.raises(ConfigError, match="is a link that leaves its folder, and would be shipped"):
        rewrite(SubmitConfig(), ["tasks=[sentiment/*]", *given])


def test_a_link_to_nothing_is_refused_before_anything_is_packed(data: Path) -> None:
    (data / "sentiment" / "validation.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(ConfigError, match=r"validation\.jsonl: is a link to nothing\. Mend the link, or remove it"):
        rewrite(SubmitConfig(), ["tasks=[sentiment/*]", f'data.source="{data}"', SERVER])


def test_a_checkpoint_in_the_cache_of_the_hub_is_shipped_through_its_links(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "models--a--b" / "blobs" / name).write_text("{}")
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    _, _, files, _ = rewrite(SubmitConfig(), ["tasks=[ner]", f'checkpoint="{snapshot}"', SERVER])
    assert sorted(files) == ["shipped/checkpoint/config.json", "shipped/checkpoint/model.safetensors"]
