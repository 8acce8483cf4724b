"""Figures of sweeps and retrainings, without pyplot and its global state; matplotlib is imported when one is drawn.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; what differs in colour
differs in marker too.
"""

from collections import Counter
from collections.abc import Sequence
from math import isfinite, nan
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from pipeline.config import signed
from pipeline.core.tasks import figures
from pipeline.reports import words
from pipeline.reports.comparison import ComparisonRow
from pipeline.reports.results import TrialResult
from pipeline.reports.tables import LeaderboardRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#777777"
_MAX_LABELS = 30
"""Labels or entity types that are drawn; the most frequent ones."""


def search_figure(trials: Sequence[TrialResult], *, job: str, metric: str, winner: int | None = None) -> "Figure":
    """Best score of each trial over its learning rate, coloured by bottleneck width.

    `trials` are all of a job, and those without a score stand as a cross on the lower edge; `winner` is the number of
    the trial to be ringed.
    """
    figure, axes = _canvas(6.4, 4.2)
    scored = [(trial, signed(metric, score)) for trial in trials if (score := trial.best_primary) is not None]
    for place, width in enumerate(sorted({_width(trial) for trial, _ in scored}, key=lambda width: width or 0)):
        some = [(trial, score) for trial, score in scored if _width(trial) == width]
        axes.scatter(
            [_rate(trial) for trial, _ in some],
            [score for _, score in some],
            s=[36 if trial.status == "pruned" else 64 for trial, _ in some],
            color=_COLOURS[place % len(_COLOURS)],
            marker=_MARKERS[place % len(_MARKERS)],
            label=f"width {width}" if width is not None else None,
            zorder=3,
        )
    for trial, score in scored:
        note = str(trial.trial.index) + (" pruned" if trial.status == "pruned" else "")
        spot = (_rate(trial), score)
        axes.annotate(note, spot, xytext=(7, 5), textcoords="offset points", fontsize=8, color=_GREY)
        if trial.trial.index == winner:
            axes.scatter(*spot, s=230, facecolors="none", edgecolors="black", label="winner", zorder=4)
    failed = [_rate(trial) for trial in trials if trial.status == "failed" and trial.best_primary is None]
    if failed:
        floor = min((score for _, score in scored), default=0.0)
        axes.scatter(failed, [floor] * len(failed), color="black", marker="x", label="failed")
    axes.set(xscale="log", xlabel="learning rate", ylabel=f"validation {metric}", title=f"{job}: the search")
    axes.margins(x=0.12, y=0.12)
    _plain_log_ticks(axes)
    _legend_beside(axes)
    return figure


def curves_figure(trials: Sequence[TrialResult], *, job: str, metric: str, winner: int | None = None) -> "Figure":
    """Validation score of each trial over the epochs; the winner in colour. Arguments as of `search_figure`."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _canvas(6.4, 4.2)
    drawn = [trial for trial in trials if trial.curve]
    for trial in sorted(drawn, key=lambda trial: trial.trial.index != winner):
        epochs, scores = zip(*sorted(trial.curve.items()), strict=True)
        label = f"{trial.trial.index}: lr {words.rate(_rate(trial))}"
        label += f" width {_width(trial)}" if _width(trial) is not None else ""
        is_winner = trial.trial.index == winner
        axes.plot(
            epochs,
            [signed(metric, score) for score in scores],
            color=_COLOURS[0] if is_winner else "#AAAAAA",
            marker=_MARKERS[trial.trial.index % len(_MARKERS)],
            linewidth=2.2 if is_winner else 1.0,
            zorder=3 if is_winner else 2,
            linestyle="--" if trial.status == "pruned" else "-",
            label=label + (" (winner)" if is_winner else " (pruned)" if trial.status == "pruned" else ""),
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=f"validation {metric}", title=f"{job}: learning curves")
    _legend_beside(axes)
    return figure


def answers_figure(shown: figures.Figure, *, job: str) -> "Figure":
    """Draw what a kind of task has to show of its answers."""
    if isinstance(shown, figures.Confusion):
        return confusion_figure(shown, job=job)
    if isinstance(shown, figures.Scatter):
        return scatter_figure(shown, job=job)
    assert isinstance(shown, figures.Entities), f"{shown.name} cannot be drawn yet"
    return entities_figure(shown, job=job)


def confusion_figure(shown: figures.Confusion, *, job: str) -> "Figure":
    """Rows a pair of labels, shaded by the share of the true label's rows."""
    gold, labels = shown.gold, shown.labels
    counts, totals = Counter(zip(gold, shown.said, strict=True)), Counter(gold)
    names = sorted(sorted(labels, key=lambda label: -totals[label])[:_MAX_LABELS], key=list(labels).index)
    side = max(3.6, 1.6 + 0.5 * len(names))
    figure, axes = _canvas(side + 0.8, side)
    shares = [[counts[true, said] / max(totals[true], 1) for said in names] for true in names]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, true in enumerate(names):
        for column, said in enumerate(names):
            colour = "white" if shares[row][column] > 0.5 else "black"
            text = str(counts[true, said]) if counts[true, said] else ""
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    slanted = any(len(label) > 8 for label in names) or len(names) > 6
    axes.set_xticks(range(len(names)), names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    title = f"{job}: {len(gold)} test rows" + _left_out(labels, names)
    axes.set(xlabel="answer", ylabel="true label", title=title)
    figure.colorbar(image, ax=axes, label="share of the true label", fraction=0.046)
    return figure


def entities_figure(shown: figures.Entities, *, job: str) -> "Figure":
    """Precision, recall and F1 of each entity type, with its number of entities; or of each label."""
    scores = shown.scores
    names = sorted(scores, key=lambda name: -scores[name]["support"])[:_MAX_LABELS]
    figure, axes = _canvas(6.4, 1.4 + 0.55 * max(len(names), 2))
    places = range(len(names))
    for number, measure in enumerate(("precision", "recall", "f1")):
        values = [scores[name][measure] for name in names]
        offset = (number - 1) * 0.26
        label = measure.upper() if measure == "f1" else measure
        axes.barh([place + offset for place in places], values, height=0.24, color=_COLOURS[number], label=label)
    axes.set_yticks(places, [f"{name} ({scores[name]['support']:.0f})" for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    title = f"{job}: {shown.what} (number)" + _left_out(list(scores), names)
    axes.set(xlim=(0, 1), xlabel="score on the test rows", title=title)
    _legend_beside(axes)
    return figure


def scatter_figure(shown: figures.Scatter, *, job: str) -> "Figure":
    """Predicted over true number of each row; on the line both are equal."""
    figure, axes = _canvas(4.8, 4.6)
    both = [*shown.gold, *shown.said]
    ends = [min(both), max(both)]
    axes.plot(ends, ends, color=_GREY, linewidth=0.8, linestyle=":")
    axes.scatter(shown.gold, shown.said, color=_COLOURS[0], s=14, alpha=0.5, linewidths=0, zorder=3)
    axes.set(xlabel="true score", ylabel="answer", title=f"{job}: {len(shown.gold)} test rows")
    return figure


def leaderboard_figure(rows: Sequence[LeaderboardRow]) -> "Figure":
    """Test score of each winner with its 95 % interval, and the baseline beside it."""
    figure, axes = _canvas(7.2, 1.5 + 0.45 * max(len(rows), 2))
    for place, row in enumerate(rows):
        ends, height = [signed(row.metric, end) for end in (row.low, row.high)], [place, place]
        axes.plot(ends, height, color=_COLOURS[0], linewidth=2, solid_capstyle="butt", zorder=2)
        spot, note = (signed(row.metric, row.test), place), words.score(row.test, row.metric)
        axes.annotate(note, spot, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    places, baselines = range(len(rows)), [signed(row.metric, row.baseline) for row in rows]
    tests = [signed(row.metric, row.test) for row in rows]
    axes.scatter(tests, places, color=_COLOURS[0], s=48, zorder=3, label="winner, 95 % interval")
    axes.scatter(baselines, places, color=_COLOURS[1], marker="|", s=160, linewidths=2, label="baseline")
    axes.set_yticks(places, [f"{row.job}\n{row.metric}" for row in rows])
    axes.grid(visible=False, axis="y")
    ends = [signed(row.metric, end) for row in rows for end in (row.low, row.high, row.baseline)]
    limits = (min(-0.02, *ends), max(1.02, *ends))  # a correlation may be below 0, an error above 1
    axes.set(xlim=limits, ylim=(len(rows) - 0.4, -0.6), xlabel="score on the test rows", title="Leaderboard")
    _legend_beside(axes)
    return figure


def comparison_figure(rows: Sequence[ComparisonRow]) -> "Figure":
    """Test score of each method over its trained parameters, a panel a job; bars are one standard deviation."""
    jobs = list(dict.fromkeys(row.job for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = _sheet(1.4 + 4.6 * len(jobs), 4.2)
    for place, (job, axes) in enumerate(zip(jobs, figure.subplots(1, len(jobs), squeeze=False)[0], strict=True)):
        some = [row for row in rows if row.job == job]
        for row in some:
            number = methods.index(row.method)
            axes.errorbar(
                row.num_trained,
                signed(row.metric, fmean(row.test)),
                yerr=stdev(row.test) if len(row.test) > 1 else None,
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=8,
                capsize=3,
                label=row.method,
            )
            if row.method == "full":
                axes.axhline(signed(row.metric, fmean(row.test)), color=_GREY, linewidth=0.8, linestyle=":")
        axes.set(xscale="log", xlabel="trained parameters", ylabel=f"test {some[0].metric}", title=job)
        _plain_log_ticks(axes)
        axes.spines[["top", "right"]].set_visible(False)
        if place == len(jobs) - 1:
            _legend_beside(axes)
    return figure


def matrix_figure(
    scores: Sequence[Sequence[float]], *, versions: Sequence[str], periods: Sequence[str], job: str, metric: str
) -> "Figure":
    """Score of every version on every evaluation slice, written into its cell; a frame marks a version's own slice.

    Args:
        scores: A row a version, a column a slice, (T, T); an array will do. A cell that is NaN is grey and has a dash.
        versions, periods: Names of the T versions and slices.
        job, metric: For the title and the scale.
    """
    from matplotlib.patches import Rectangle

    side = max(3.6, 1.6 + 0.6 * len(periods))
    figure, axes = _canvas(side + 1.2, side)
    scores = [[signed(metric, float(score)) for score in row] for row in scores]
    known = [score for row in scores for score in row if isfinite(score)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    shown = [[score if isfinite(score) else nan for score in row] for row in scores]
    image = axes.imshow(shown, cmap="Blues", vmin=low, vmax=high if high > low else low + 1)
    axes.set_facecolor("#DDDDDD")
    for version, row in enumerate(shown):
        for place, score in enumerate(row):
            text = f"{score:.3f}" if isfinite(score) else "-"
            colour = "white" if isfinite(score) and score - low > 0.6 * (high - low) > 0 else "black"
            axes.text(place, version, text, ha="center", va="center", color=colour, fontsize=9)
        axes.add_patch(Rectangle((version - 0.5, version - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.2))
    axes.set_xticks(range(len(periods)), periods, rotation=45, ha="right")
    axes.set_yticks(range(len(versions)), versions)
    axes.grid(visible=False)
    axes.set(xlabel="evaluation slice", ylabel="version of", title=f"{job}: every version on every slice")
    figure.colorbar(image, ax=axes, label=metric, fraction=0.046)
    return figure


def _canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    figure = _sheet(width, height)
    axes = figure.add_subplot()
    axes.grid(visible=True, color="#E5E5E5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _sheet(width: float, height: float) -> "Figure":
    """An empty figure, on which text is text: labels and names of the user's may have any number of `$`."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams["text.parse_math"] = False  # for good: ticks are made when a figure is drawn
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain_log_ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.rate(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend_beside(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)


def _rate(trial: TrialResult) -> float:
    return trial.trial.settings.engine.learning_rate


def _width(trial: TrialResult) -> int | None:
    return trial.trial.settings.method.shown_width


def _left_out(known: Sequence[str], shown: Sequence[str]) -> str:
    return f" ({len(shown)} of {len(known)} labels)" if len(shown) < len(known) else ""
