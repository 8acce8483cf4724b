"""The tables of an evaluation."""

import io

from rich.console import Console

from pipeline.config import TaskConfig
from pipeline.core.data.rows import Row, make_row
from pipeline.core.tasks.figures import Confusion, Entities, Figure
from pipeline.core.tasks.kinds import restore
from pipeline.reports.evaluation import Evaluation, evaluation_markdown, figure_table, scores_table


def shown(table: object) -> list[list[str]]:
    """The cells of a table, line by line."""
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip(" ─")]


def an_evaluation() -> Evaluation:
    config = TaskConfig(name="any", kind="classification")
    made = [one for gold in "aab" for one in make_row({"text": f"x{gold}", "label": gold}, config, "f:1")]
    rows = [row for row in made if isinstance(row, Row)]
    answers = [{"label": "a"}, {"label": "b"}, {"label": "b"}]
    by_metric = {
        metric: restore(TaskConfig(name="any", kind="classification", metric=metric), ["a", "b"])
        for metric in ("accuracy", "macro_f1")
    }
    scores = {metric: task.score(rows, answers) for metric, task in by_metric.items()}
    return Evaluation(
        title="t", rows=rows, answers=answers, scores=scores, figures=[], counts={"rows": 3}, notes=["A note."]
    )


def test_each_metric_has_its_own_interval_and_baseline() -> None:
    found = an_evaluation()
    header, accuracy, macro_f1 = shown(scores_table(found))
    assert header == ["metric", "score", "95", "%", "base"]
    assert (accuracy[0], accuracy[1], accuracy[3]) == ("accuracy", "0.667", "0.667")
    assert (macro_f1[0], macro_f1[1], macro_f1[3]) == ("macro_f1", "0.667", "0.400")
    points = dict(found.points())
    assert points["test/rows"] == 3 and points["test/primary"] == points["test/accuracy"]
    assert {"test/low", "test/high", "test/baseline", "test/macro_f1_low", "test/macro_f1_high"} < set(points)
    assert evaluation_markdown(found).endswith("\n* A note.")
    assert found.predictions()[1]["predicted"] == {"label": "b"}


def test_few_labels_are_a_matrix_that_has_labels_which_the_version_does_not_know() -> None:
    table = figure_table(Confusion(gold=["a", "a", "c"], said=["a", "b", "b"], labels=["b", "a"]))
    assert shown(table)[1:] == [["b", "0", "0", "0"], ["a", "1", "1", "0"], ["c", "1", "0", "0"]]


def test_of_many_labels_those_are_shown_that_were_confused_most() -> None:
    labels = [f"l{i}" for i in range(12)]
    gold, said = ["l1"] * 5 + ["l2"] * 3 + ["l3"], ["l2", "l2", "l1", "l1", "l0"] + ["l3"] * 3 + ["l3"]
    lines = shown(figure_table(Confusion(gold=gold, said=said, labels=labels)))
    assert lines[1:] == [["l2", "l3", "3", "of", "3"], ["l1", "l2", "2", "of", "5"], ["l1", "l0", "1", "of", "5"]]


def test_the_numbers_of_other_figures_are_shown_as_they_are() -> None:
    scores = {"PER": {"precision": 0.5, "recall": 1.0, "f1": 0.6667, "support": 12.0}}
    assert shown(figure_table(Entities(scores=scores)))[1:] == [["PER", "0.500", "1.000", "0.667", "12"]]
    scores["PER"]["support"] = 1.0
    assert shown(figure_table(Entities(scores=scores)))[1:] == [["PER", "0.500", "1.000", "0.667", "1"]]
    assert figure_table(Figure()) is None
