"""Training curves: scores and losses of systems, losses and perplexities of quantizers, and what else is logged."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cost_hf.reporting import words
from cost_hf.reporting.document import NO_DRAWING, Chart, ChartRow, Section
from cost_hf.reporting.drawing import Scale, Series, backdrop_of, line_chart, nice_scale
from cost_hf.reporting.standings import Standings

BACKDROP = "all-validation"
QUANTIZER = "quantizer"
PLACES = ("epoch", "step")  # of a record
LEAD = "The epoch with the best validation score is kept."
OTHERS = "Grey lines are the other systems on the same axes."
LEVELS = "Perplexity has one line per level; a drop to near 1 is a codebook collapse."
Records = Sequence[Mapping[str, Any]]


def curve_section(standings: Standings) -> Section:
    """Return up to four charts per trained system, and one for each part that logs something of its own."""
    curves = standings.compare.get("curves") or {}
    names = [name for name in standings.in_order if curves.get(name)]
    names += [name for name in curves if name not in names and curves[name]]
    scores = {name: _series(_training(curves[name]), standings.primary["metric"]) for name in names}
    backdrop = _Backdrop(scores, words.metric_name(standings.primary["metric"]))
    rows = [
        ChartRow(name, standings.family(name), charts)
        for name in names
        if (charts := tuple(_charts(name, curves[name], backdrop, standings.family(name))))
    ]
    has_levels = any(curves[name].get(QUANTIZER) for name in names)
    return Section(
        anchor="curves",
        title="Training curves",
        lead=(LEAD,),
        key=" ".join([*([OTHERS] if backdrop.name else []), *([LEVELS] if has_levels else [])]),
        charts=tuple(rows),
        chart_definitions=backdrop.definitions,
    )


class _Backdrop:
    """The validation curves of all systems on common axes, drawn once."""

    def __init__(self, scores: Mapping[str, Series | None], metric: str):
        self.scores = {name: series for name, series in scores.items() if series is not None}
        self.metric = metric
        self.x, self.y = _axes(self.scores.values())
        is_shared = len(self.scores) > 1
        self.name = BACKDROP if is_shared else None
        self.definitions = (
            backdrop_of([*self.scores.values()], x=self.x, y=self.y, name=BACKDROP) if is_shared else NO_DRAWING
        )


def _charts(name: str, curves: Mapping[str, Records], backdrop: _Backdrop, family: str) -> Iterable[Chart]:
    if name in backdrop.scores:
        caption = f"validation {backdrop.metric}"
        drawing = line_chart(
            [backdrop.scores[name]],
            x=backdrop.x,
            y=backdrop.y,
            label=f"{name}, {caption} by epoch",
            family=family,
            backdrop=backdrop.name,
        )
        yield Chart(caption, drawing)
    records = curves.get(QUANTIZER) or []
    for caption, log in (("training loss", _training(curves)), ("quantizer loss", records)):
        loss = _series(log, "loss")
        if loss is not None:
            yield Chart(caption, _chart([loss], f"{name}, {caption} by epoch", family))
    keys = sorted({key for record in records for key in record if key.startswith("perplexity_")})
    levels = [series for key in keys if (series := _series(records, key, key.removeprefix("perplexity_")))]
    if levels:
        yield Chart("perplexity per level", _chart(levels, f"{name}, perplexity per level by epoch", family, floor=0.0))
    for part, log in curves.items():
        lines = [] if part == QUANTIZER or log is _training(curves) else _lines(log)
        if lines:
            caption = part.replace("_", " ")
            yield Chart(caption, _chart(lines, f"{name}, {caption} by epoch", family, floor=0.0))


def _training(curves: Mapping[str, Records]) -> Records | None:
    """Return the log of the system itself: the one with a loss that is not the quantizer's."""
    logs = [log for part, log in curves.items() if part != QUANTIZER]
    return next((log for log in logs if any("loss" in record for record in log)), next(iter(logs), None))


def _lines(log: Records) -> list[Series]:
    """Return a line for every value of the log of a part."""
    keys = dict.fromkeys(key for record in log for key in record if key not in PLACES)
    return [series for key in keys if (series := _series(log, key, key.replace("_", " ")))]


def _chart(series: Sequence[Series], label: str, family: str, *, floor: float | None = None) -> Markup:
    x, y = _axes(series, floor=floor)
    return line_chart(series, x=x, y=y, label=label, family=family)


def _axes(series: Iterable[Series], *, floor: float | None = None) -> tuple[Scale, Scale]:
    points = [point for entry in series for point in entry.points]
    x = nice_scale([0.0, *(epoch for epoch, _ in points)], num_ticks=3)
    return x, nice_scale([floor, *(value for _, value in points)], num_ticks=3)


def _series(records: Records | None, key: str, label: str = "") -> Series | None:
    """Return the line of one logged value; None for fewer than two points."""
    points = [
        (float(record["epoch"]), float(record[key]))
        for record in records or []
        if record.get("epoch") is not None and record.get(key) is not None
    ]
    return Series(tuple(sorted(points)), label) if len(points) > 1 else None
