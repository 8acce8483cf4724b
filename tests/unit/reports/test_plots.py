import dataclasses
import io
import math
import sys
from typing import Any

import numpy as np
import pytest

from pipeline.core.tasks.figures import Confusion, Entities, Labels, Scatter
from pipeline.reports import plots
from pipeline.reports.tables import LeaderboardRow


def rendered(figure: Any) -> int:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return len(file.getvalue())


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [found.get_text() for found in figure.findobj(Text)]


@pytest.fixture
def trials(teller: Any) -> Any:
    for index, score in enumerate((0.7, 0.9, 0.8)):
        teller.epoch(1, score - 0.1, index)
        teller.epoch(2, score, index)
    teller.end(0, status="pruned", best_primary=0.7)
    teller.fail(3)
    return teller.results.of(teller.job)


def test_search_figure_shows_every_trial_over_its_learning_rate(trials: Any) -> None:
    figure: Any = plots.search_figure(trials, job="sentiment/films", metric="accuracy", winner=1)
    [axes] = figure.axes
    assert axes.get_xscale() == "log"
    points = {tuple(point) for dots in axes.collections for point in dots.get_offsets()}
    assert {(0.001, 0.7), (0.002, 0.9), (0.003, 0.8)} <= points
    assert {"width 16", "width 24", "winner", "failed", "0 pruned", "1"} <= set(texts(figure))
    assert rendered(figure) > 5000


def test_search_figure_of_trials_that_all_failed_is_drawn(teller: Any) -> None:
    teller.fail(0)
    assert rendered(plots.search_figure(teller.results.of(teller.job), job="j", metric="f1")) > 3000


def test_curves_mark_winner_and_pruned(trials: Any) -> None:
    figure: Any = plots.curves_figure(trials, job="sentiment/films", metric="accuracy", winner=1)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["1: lr 2e-3 width 16 (winner)", "0: lr 1e-3 width 24 (pruned)", "2: lr 3e-3 width 24"]
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.8, 0.9]
    assert rendered(figure) > 5000


def test_confusion_counts_answers_by_true_label() -> None:
    figure: Any = plots.answers_figure(
        Confusion(gold=["a", "a", "b"], said=["a", "b", "b"], labels=["a", "b"]), job="j"
    )
    assert figure.axes[0].images[0].get_array().tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert "j: 3 test rows" in texts(figure)
    assert rendered(figure) > 3000


def test_numbers_are_drawn_beside_the_true_ones_and_a_line_on_which_both_are_equal() -> None:
    figure: Any = plots.answers_figure(Scatter(gold=[1.0, 2.0], said=[1.5, 0.5]), job="stars")
    (axes,) = figure.axes
    assert axes.collections[0].get_offsets().tolist() == [[1.0, 1.5], [2.0, 0.5]]
    assert axes.lines[0].get_xydata().tolist() == [[0.5, 0.5], [2.0, 2.0]]
    assert axes.get_title() == "stars: 2 test rows"


def test_confusion_of_many_labels_keeps_the_most_frequent_and_says_so() -> None:
    labels = [f"l{number}" for number in range(40)]
    figure: Any = plots.confusion_figure(
        Confusion(gold=[*labels, "l39"], said=[*labels, "l39"], labels=labels), job="j"
    )
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(shown) == 30
    assert shown[-1] == "l39"
    assert "j: 41 test rows (30 of 40 labels)" in texts(figure)


def test_label_without_rows_is_an_empty_row() -> None:
    figure: Any = plots.confusion_figure(Confusion(gold=["a"], said=["a"], labels=["a", "b"]), job="j")
    assert figure.axes[0].images[0].get_array().tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_entities_are_ordered_by_number() -> None:
    scores = {
        "PER": {"precision": 0.5, "recall": 0.4, "f1": 0.45, "support": 3},
        "LOC": {"precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 30},
    }
    figure: Any = plots.answers_figure(Entities(scores=scores), job="ner/news")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["LOC (30)", "PER (3)"]
    assert [round(bar.get_width(), 2) for bar in figure.axes[0].patches] == [0.9, 0.5, 0.8, 0.4, 0.85, 0.45]
    assert rendered(figure) > 3000
    figure = plots.answers_figure(Labels(scores=scores), job="topics")
    assert figure.axes[0].get_title() == "topics: labels (number)"


def test_leaderboard_figure_has_a_dot_an_interval_and_a_baseline_a_job(row: LeaderboardRow) -> None:
    rows = [row, dataclasses.replace(row, job="ner/news", metric="f1", test=0.8)]
    figure: Any = plots.leaderboard_figure(rows)
    [axes] = figure.axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.853, 0.963]] * 2
    winners, baselines = axes.collections
    assert winners.get_offsets()[:, 0].tolist() == [0.9, 0.8]
    assert baselines.get_offsets()[:, 0].tolist() == [0.51, 0.51]
    assert "ner/news\nf1" in texts(figure)
    assert rendered(figure) > 3000
    assert axes.get_xlim() == (-0.02, 1.02)


def test_leaderboard_figure_shows_a_correlation_below_0(row: LeaderboardRow) -> None:
    figure: Any = plots.leaderboard_figure([row, dataclasses.replace(row, metric="matthews", test=0.02, low=-0.1)])
    assert figure.axes[0].get_xlim() == pytest.approx((-0.1, 1.02))


def test_matrix_has_every_score_in_its_cell_and_a_dash_where_there_is_none() -> None:
    scores = [[0.75, math.nan], [0.5, 1.0]]
    figure: Any = plots.matrix_figure(
        scores, versions=["spring", "autumn (rejected)"], periods=["spring", "autumn"], job="ner/social", metric="f1"
    )
    axes, bar = figure.axes
    cells = {(*text.get_position(), text.get_text(), text.get_color()) for text in axes.texts}
    dark, bright = "black", "white"
    assert cells == {(0, 0, "0.750", dark), (1, 0, "-", dark), (0, 1, "0.500", dark), (1, 1, "1.000", bright)}
    assert axes.images[0].get_array().tolist() == [[0.75, None], [0.5, 1.0]]
    assert axes.images[0].get_clim() == (0.5, 1.0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["spring", "autumn"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["spring", "autumn (rejected)"]
    assert [patch.get_xy() for patch in axes.patches] == [(-0.5, -0.5), (0.5, 0.5)]
    assert {"ner/social: every version on every slice", "evaluation slice"} <= set(texts(figure))
    assert bar.get_ylabel() == "f1"
    assert rendered(figure) > 3000


@pytest.mark.parametrize("score", [0.8, math.nan])
def test_matrix_of_one_period_is_drawn(score: float) -> None:
    scores: Any = np.array([[score]])
    figure: Any = plots.matrix_figure(scores, versions=["first"], periods=["first"], job="j", metric="f1")
    assert rendered(figure) > 3000


def test_no_figure_needs_pyplot(row: LeaderboardRow) -> None:
    before = "matplotlib.pyplot" in sys.modules
    rendered(plots.leaderboard_figure([row]))
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize("label", ["$", "$$", "cost $5 or $6_{", "\\$x^$", "$\\alpha$"])
def test_text_of_the_users_is_drawn_as_text(label: str, trials: Any, row: LeaderboardRow) -> None:
    drawn = [
        plots.answers_figure(Confusion(gold=[label, "b"], said=["b", label], labels=[label, "b"]), job=label),
        plots.answers_figure(
            Entities(scores={label: {"precision": 1.0, "recall": 0.5, "f1": 0.67, "support": 3.0}}), job=label
        ),
        plots.search_figure(trials, job=label, metric="f1"),
        plots.leaderboard_figure([dataclasses.replace(row, job=label)]),
        plots.matrix_figure([[0.5]], versions=[label], periods=[label], job=label, metric="f1"),
    ]
    for figure in drawn:
        assert rendered(figure) > 1000
        assert not [text for text in figure.findobj(_Text()) if text.get_parse_math()]


def _Text() -> Any:
    from matplotlib.text import Text

    return Text
