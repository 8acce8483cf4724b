import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.config import DataConfig, HubConfig, TaskConfig
from pipeline.core.data.load import domains, job_name, load, registered_name, resolve
from pipeline.errors import ConfigError, DataError, UserError

Tasks = Mapping[str, TaskConfig]
Write = Callable[[str, Sequence[Any]], Path]

ROW = [{"text": "a", "label": "x"}]


def names(jobs: list[tuple[TaskConfig, str]]) -> list[str]:
    return [job_name(task, domain) for task, domain in jobs]


def from_files(folder: Path, **settings: Any) -> DataConfig:
    return DataConfig(source=str(folder), **settings)


def test_names_of_jobs_and_of_registered_models(tasks: Tasks) -> None:
    task = tasks["sentiment"]
    assert job_name(task, "movies") == "sentiment/movies"
    assert registered_name(task, "movies") == "sentiment.movies"
    assert registered_name(task, "films") == "sentiment"


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_rows_of_a_group_are_cut_together_from_a_file(tasks: Tasks, tmp_path: Path, form: str) -> None:
    rows = [
        {"text": f"text {one}", "label": "x", "doc": number, "other": 1} for one in range(400) for number in [one % 80]
    ]
    folder = tmp_path / "sentiment"
    folder.mkdir()
    file = folder / f"train.{form}"
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif form == "csv":
        file.write_text("text,label,doc\n" + "".join(f"{one['text']},x,{one['doc']}\n" for one in rows), "utf-8")
    else:
        file.write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    task = dataclasses.replace(tasks["sentiment"], group="doc")
    found = load(task, "films", from_files(tmp_path))
    docs = [{int(str(row.fields["text"]).split()[1]) % 80 for row in split.rows} for split in found.splits]
    assert sum(map(len, docs)) == len(set.union(*docs)) == 80
    before = load(task, "films", from_files(tmp_path), cut=1)
    assert [before.cut, found.cut] == [1, 2]
    assert before.fingerprints == load(tasks["sentiment"], "films", from_files(tmp_path)).fingerprints
    with pytest.raises(DataError, match=r"has no field `document`, by which rows are grouped .*take `group` out of"):
        load(dataclasses.replace(task, group="document"), "films", from_files(tmp_path))


# resolve


def test_bare_task_means_its_own_folder_where_that_holds_files(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/train.jsonl", ROW)
    write("sentiment/movies/train.jsonl", ROW)
    data = from_files(tmp_path)
    assert names(resolve(["sentiment"], tasks, data)) == ["sentiment/films"]
    assert domains(tasks["sentiment"], data) == ["films", "movies"]


def test_bare_task_means_its_default_domain(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/films/train.jsonl", ROW)
    write("sentiment/movies/train.jsonl", ROW)
    assert names(resolve(["sentiment"], tasks, from_files(tmp_path))) == ["sentiment/films"]


def test_bare_task_means_the_only_domain_there_is(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/movies/train.jsonl", ROW)
    assert names(resolve(["sentiment"], tasks, from_files(tmp_path))) == ["sentiment/movies"]


def test_bare_task_with_several_domains_and_no_default_lists_them(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("ner/disease/train.jsonl", [])
    write("ner/social/train.jsonl", [])
    with pytest.raises(ConfigError, match=r"disease, social.* Write ner/disease"):
        resolve(["ner"], tasks, from_files(tmp_path))


def test_star_means_all_domains_blanks_are_ignored_and_duplicates_folded(
    write: Write, tasks: Tasks, tmp_path: Path
) -> None:
    write("sentiment/movies/train.jsonl", ROW)
    write("sentiment/films/train.jsonl", ROW)
    write("ner/train.jsonl", [])
    patterns = ["ner ", " sentiment/movies", "sentiment/*", "", "ner", "sentiment"]
    found = names(resolve(patterns, tasks, from_files(tmp_path)))
    assert found == ["ner/news", "sentiment/movies", "sentiment/films"]


@pytest.mark.parametrize("patterns", [[], [" "], ["", " "]])
def test_empty_tasks_is_an_error_that_names_the_tasks(tasks: Tasks, patterns: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"TASKS: is empty.* covidqa, medqa, ner, pair, sentiment"):
        resolve(patterns, tasks, DataConfig())


def test_unknown_task_is_an_error_with_the_nearest_names(tasks: Tasks) -> None:
    with pytest.raises(ConfigError, match=r"TASKS: 'sentimant' is no known task. Did you mean sentiment"):
        resolve(["sentimant/films"], tasks, DataConfig())


def test_unknown_task_whose_data_is_there_says_how_to_describe_it(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("spam/train.jsonl", ROW)
    with pytest.raises(ConfigError, match=r"conf/task/spam\.yaml.*CONF=<dir>"):
        resolve(["spam"], tasks, from_files(tmp_path))


@pytest.mark.parametrize("pattern", ["sentiment/filmz", "sentiment/", "sentiment/films/2024"])
def test_unknown_domain_lists_those_there_are(write: Write, tasks: Tasks, tmp_path: Path, pattern: str) -> None:
    write("sentiment/films/train.jsonl", ROW)
    write("sentiment/movies/train.jsonl", ROW)
    with pytest.raises(ConfigError, match=r"Use one of: sentiment/films, sentiment/movies\.") as caught:
        resolve([pattern], tasks, from_files(tmp_path))
    assert caught.value.faults[0].value == pattern


def test_all_faulty_patterns_are_reported_at_once(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/films/train.jsonl", ROW)
    with pytest.raises(UserError) as caught:
        resolve(["spam", "ner", "sentiment/x", "sentiment", "spam"], tasks, from_files(tmp_path))
    assert [fault.value for fault in caught.value.faults] == ["spam", str(tmp_path), "sentiment/x"]


# where the rows come from


def test_folder_without_the_task_names_the_tasks_it_has(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("ner/social/train.jsonl", [])
    write("medqa/test.jsonl", [])
    (tmp_path / "sentiment").mkdir()
    with pytest.raises(DataError, match=r"has no task `sentiment`.*medqa, ner\)") as caught:
        resolve(["sentiment"], tasks, from_files(tmp_path))
    assert caught.value.faults[0].where == "DATA"


def test_a_task_may_read_the_rows_of_another(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/films/train.jsonl", [{"text": f"a {number}", "label": "x"} for number in range(40)])
    values = {"rows": "sentiment", "default_domain": "films", "completion": "{label}"}
    told = TaskConfig(name="told", kind="generation", **values)  # type: ignore[arg-type]
    data = from_files(tmp_path)
    assert names(resolve(["told"], {**tasks, "told": told}, data)) == ["told/films"]
    dataset = load(told, "films", data)
    assert dataset.task == "told" and {row.fields["label"] for row in dataset.train.rows} == {"x"}
    astray = TaskConfig(name="told", kind="generation", rows="gone")
    with pytest.raises(DataError, match=r"has no task `gone` .* Use one of its tasks \(sentiment\)"):
        load(astray, "default", data)


def test_folder_that_does_not_exist_is_an_error(tasks: Tasks, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DATA: .*none.* is no folder"):
        resolve(["ner"], tasks, from_files(tmp_path / "none"))


def test_tilde_in_the_folder_is_the_users_home(
    write: Write, tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("sentiment/films/train.jsonl", ROW)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert domains(tasks["sentiment"], DataConfig(source="~")) == ["films"]


def test_task_without_a_starter_corpus_names_those_that_have_one(tasks: Tasks) -> None:
    with pytest.raises(DataError, match=r"has no task `covidqa`.*ner.*sentiment"):
        resolve(["covidqa"], tasks, DataConfig())


def test_default_domain_that_is_there_twice_is_an_error(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/train.jsonl", ROW)
    write("sentiment/films/train.jsonl", ROW)
    with pytest.raises(DataError, match="twice"):
        resolve(["sentiment"], tasks, from_files(tmp_path))


def test_hub_domains_are_those_of_the_task_file() -> None:
    hub = {"movies": HubConfig(id="a/b"), "films": HubConfig(id="a/c")}
    task = TaskConfig(name="sentiment", kind="classification", default_domain="films", hub=hub)
    data = DataConfig(source="hub")
    assert domains(task, data) == ["films", "movies"]
    assert names(resolve(["sentiment"], {"sentiment": task}, data)) == ["sentiment/films"]


def test_task_without_hub_says_how_to_add_it(tasks: Tasks) -> None:
    with pytest.raises(DataError, match=r"conf/task/ner\.yaml has no `hub`"):
        resolve(["ner"], tasks, DataConfig(source="hub"))


def test_load_of_a_domain_that_is_not_there_is_an_error(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/films/train.jsonl", ROW)
    with pytest.raises(UserError, match="Use one of: sentiment/films"):
        load(tasks["sentiment"], "movies", from_files(tmp_path))


# load


def test_load_reads_the_three_splits_with_origin_and_notes(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    train = write("sentiment/films/train.jsonl", [{"text": f"t{i}", "label": "x"} for i in range(3)])
    write("sentiment/films/validation.jsonl", [{"text": "v", "label": "x"}])
    write("sentiment/films/test.jsonl", [{"text": "t1", "label": "x"}])
    write("sentiment/films/rest.jsonl", [])
    dataset = load(tasks["sentiment"], "films", from_files(tmp_path))
    assert (dataset.task, dataset.domain, dataset.source) == ("sentiment", "films", str(tmp_path))
    assert [row.fields["text"] for row in dataset.train.rows] == ["t0", "t1", "t2"]
    assert dataset.train.rows[2].origin == f"{train}:3"
    assert dataset.overlap["train/test"] == 1
    assert ["rest.jsonl" in dataset.notes[0], "1 row of test stands" in dataset.notes[1]] == [True, True]
    assert dataset.manifest()["splits"]["train"]["rows"] == [row.digest for row in dataset.train.rows]


def test_load_cuts_missing_splits(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/train.jsonl", [{"text": f"t{i}", "label": "x"} for i in range(200)])
    dataset = load(tasks["sentiment"], "films", from_files(tmp_path))
    assert (dataset.validation.cut_from, dataset.test.cut_from) == ("train", "train")
    assert len(dataset.notes) == 2


def test_load_reports_the_faults_of_all_splits(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/train.jsonl", [*ROW, {"text": "a"}])
    write("sentiment/validation.jsonl", [])
    write("sentiment/test.jsonl", [[], {"text": 1, "label": "x"}])
    with pytest.raises(DataError) as caught:
        load(tasks["sentiment"], "films", from_files(tmp_path))
    places = [fault.where.removeprefix(f"{tmp_path}/sentiment/") for fault in caught.value.faults]
    assert places == ["test.jsonl:1", "test.jsonl:2", "train.jsonl:2", "validation.jsonl"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_empty_split_names_its_file(write: Write, tasks: Tasks, tmp_path: Path, split: str) -> None:
    for name in ("train", "validation", "test"):
        write(f"sentiment/{name}.jsonl", [] if name == split else ROW)
    with pytest.raises(DataError, match=rf"{split}\.jsonl: has no rows\. Add rows") as caught:
        load(tasks["sentiment"], "films", from_files(tmp_path))
    assert ("cut off train" in caught.value.faults[0].remedy) == (split != "train")


def test_split_of_nothing_but_faults_is_not_called_empty(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/train.jsonl", [1])
    with pytest.raises(DataError) as caught:
        load(tasks["sentiment"], "films", from_files(tmp_path))
    assert len(caught.value.faults) == 1


def test_message_shows_twenty_faults_and_counts_the_rest(write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write("sentiment/train.jsonl", [{}] * 50)
    with pytest.raises(DataError) as caught:
        load(tasks["sentiment"], "films", from_files(tmp_path))
    shown = str(caught.value).splitlines()
    assert (len(shown), shown[-1]) == (21, "... and 80 more")
    assert len(caught.value.faults) == 100


def test_starter_rows_have_canonical_names_whatever_the_users_files_call_them() -> None:
    fields = {"text": "review", "label": "stars"}
    task = TaskConfig(name="sentiment", kind="classification", default_domain="films", columns=fields)
    dataset = load(task, "films", DataConfig())
    assert set(dataset.train.rows[0].fields) == {"text", "label"}


def test_seven_thousand_rows_load_in_well_under_a_second(tasks: Tasks, tmp_path: Path) -> None:
    folder = tmp_path / "sentiment"
    folder.mkdir()
    rows = ({"text": f"{i} a sentence of some ten words or so, as they are", "label": "x"} for i in range(7000))
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    start = time.process_time()
    load(tasks["sentiment"], "films", from_files(tmp_path))
    assert time.process_time() - start < 0.8


# names


@pytest.mark.parametrize(
    "name", ["women's clothing", 'a"b', "50%", "a:b", "x\\y", " films", "films.", "a\tb", "a\u200bb", "é" * 51]
)
def test_a_domain_that_could_be_no_name_later_is_refused_before_anything_is_trained(
    name: str, write: Write, tasks: Tasks, tmp_path: Path
) -> None:
    write(f"sentiment/{name}/train.jsonl", ROW)
    with pytest.raises(ConfigError, match=r"can be no name of a domain: .* Rename its file or folder"):
        resolve(["sentiment/*"], tasks, from_files(tmp_path))


@pytest.mark.parametrize("name", ["R&D", "sports (us)", "दिल्ली", "français", "v2.films", "two words", "a+b=c", "[x]"])
def test_any_other_name_is_a_name(name: str, write: Write, tasks: Tasks, tmp_path: Path) -> None:
    write(f"sentiment/{name}/train.jsonl", ROW)
    assert names(resolve(["sentiment/*"], tasks, from_files(tmp_path))) == [f"sentiment/{name}"]


def test_jobs_that_would_share_a_folder_or_a_registered_name_are_refused(
    write: Write, tasks: Tasks, tmp_path: Path
) -> None:
    both = {**tasks, "sentiment.v2": dataclasses.replace(tasks["sentiment"], name="sentiment.v2")}
    write("sentiment/v2.films/train.jsonl", ROW)
    write("sentiment.v2/films/train.jsonl", ROW)
    data = from_files(tmp_path)
    with pytest.raises(ConfigError, match=r"sentiment\.v2/films.* under the name of sentiment/v2\.films"):
        resolve(["sentiment/*", "sentiment.v2/films"], both, data)
    assert names(resolve(["sentiment.v2/films"], both, data)) == ["sentiment.v2/films"]


def test_a_domain_whose_registered_name_is_that_of_another_task_is_refused(
    write: Write, tasks: Tasks, tmp_path: Path
) -> None:
    both = {**tasks, "sentiment.movies": dataclasses.replace(tasks["sentiment"], name="sentiment.movies")}
    write("sentiment/movies/train.jsonl", ROW)
    with pytest.raises(ConfigError, match=r"under the name of sentiment\.movies"):
        resolve(["sentiment/movies"], both, from_files(tmp_path))
