"""What a request log and the clicks after it show about the models that answered: `cost-hf replay`.

Online: the click-through rate of what was shown, by model and by rank. Offline: recall, NDCG and reciprocal rank of the
user's next clicks in the lists as they were shown; nothing is ranked again, so there is no counterfactual.

Intervals are bootstraps over users, drawn once for all models, so a difference takes into account that some users may
have seen several of them. A rate is a ratio of sums over users, since users have different numbers of lists.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from cost_hf.data.cells import normalized
from cost_hf.data.errors import DataError
from cost_hf.data.events import IS_TARGET, event_types, target_text
from cost_hf.data.options import DataOptions
from cost_hf.data.sources import Source
from cost_hf.data.tables import read_interactions
from cost_hf.evaluation.ranking import per_user_metrics
from cost_hf.evaluation.statistics import Claim, apply_holm, bootstrap_means, compare_systems, interval_of
from cost_hf.serving.attribution import (
    MICROSECONDS,
    Clicks,
    Impressions,
    NextClicks,
    join_clicks,
    join_next_clicks,
)
from cost_hf.serving.log_reading import LogFindings, ShownLists, read_log

SHOWN_DIGEST = 8  # characters of a digest in the name of a model
MAX_RANKS = 20  # of the table of ranks; deeper ones are added up
CTR = "ctr"
CLICKED_LISTS = "clicked_lists"
Key = tuple[str, str]  # name of a group, metric
Ratio = tuple[np.ndarray, np.ndarray]  # sums over each user's cases, and numbers of cases, float64 `[U]` each


@dataclass(frozen=True)
class ReplayOptions:
    """How a log is judged by clicks.

    Attributes:
        window_seconds: longest time from a list to a click that counts for it.
        cutoffs: list lengths k of the offline metrics; those above the longest list are its length.
        next_clicks: clicks after each list that are its targets.
        by: `model`: a model of an arm of the test; or `variant`: an arm, whatever models it had.
        baseline: name, arm or digest that the others are compared with; the group with the most lists by default.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: for a value out of range.
    """

    window_seconds: float = 86_400.0
    cutoffs: tuple[int, ...] = (1, 5, 10)
    next_clicks: int = 1
    by: str = "model"
    baseline: str | None = None
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.window_seconds < 10**9:
            raise ValueError(f"the window is {self.window_seconds!r} seconds, expected more than 0; raise it")
        if not self.cutoffs or min(self.cutoffs) < 1:
            raise ValueError(f"cutoffs are {list(self.cutoffs)!r}, expected list lengths of at least 1")
        if self.by not in ("model", "variant"):
            raise ValueError(f"by is {self.by!r}, expected model or variant")
        for name in ("next_clicks", "draws"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value!r}, expected at least 1; raise it")


@dataclass(frozen=True)
class ReplayResult:
    """What a replay found; every field holds plain values, ready for JSON.

    Attributes:
        log: files, records, damaged records, first and last time, lists left out by reason.
        clicks: numbers of clicks and of those that could be joined, first and last time.
        protocol: window, targets and what the rates mean.
        models: a row per model (or arm): lists, users, impressions, rates and metrics with intervals, rates by rank.
        catalogs: a row per model and catalog: lists, users, impressions, click-through rate.
        baseline: name of the model that the others are compared with; None with one model.
        differences: other model minus baseline, by metric; tests for the click-through rate.
        cautions: what the figures can't tell, sentences.
    """

    log: dict[str, Any]
    clicks: dict[str, Any]
    protocol: dict[str, Any]
    models: list[dict[str, Any]]
    catalogs: list[dict[str, Any]]
    baseline: str | None
    differences: list[dict[str, Any]]
    cautions: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def replay(
    log: str | Sequence[str],
    clicks: Source,
    *,
    data: DataOptions | None = None,
    timezone: str | None = None,
    options: ReplayOptions | None = None,
) -> ReplayResult:
    """Join clicks to the lists of a request log and report what was clicked, by model.

    Args:
        log: directories, files or patterns of a request log.
        clicks: DataFrame, `datasets.Dataset` or file of clicks with `user_id`, `item_id` and `timestamp`.
        data: data section by which the clicks are read, as that of the run; users without an id are left out.
        timezone: of click times that carry no offset, such as `Europe/Berlin`; UTC by default.
        options: window, metrics and groups.

    Raises:
        DataError: for a log or clicks that can't be read, a log without user ids, or times that do not overlap.
        ValueError: for an unknown baseline or time zone.
    """
    options = ReplayOptions() if options is None else options
    data = DataOptions() if data is None else data
    lists, findings = read_log([log] if isinstance(log, str) else log)
    counts: dict[str, int] = {}
    table = _read_clicks(clicks, data, timezone, counts)
    joined = _Joined.of(lists, table, data, options)
    groups = _groups(joined.lists, options.by)
    summary = _Summary.of(joined, groups, _all_columns(joined, options), options)
    baseline = _baseline(groups, options.baseline)
    models = [summary.row(name) for name in groups]
    return ReplayResult(
        log=_log_facts(lists, joined, findings),
        clicks=_click_facts(table, joined, counts),
        protocol=_protocol(data, options),
        models=models,
        catalogs=_catalog_rows(joined, options),
        baseline=baseline if len(groups) > 1 else None,
        differences=summary.differences(baseline) if len(groups) > 1 else [],
        cautions=_cautions(joined, groups, options),
    )


def _read_clicks(source: Source, data: DataOptions, timezone: str | None, counts: dict[str, int]) -> Clicks:
    options = _reading_options(data)
    _check_timezone(timezone)
    frame = read_interactions(source, options=options, with_nanoseconds=True, timezone=timezone, counts=counts)
    times = frame["timestamp"].to_numpy(dtype=np.int64) * MICROSECONDS + frame["nanoseconds"].to_numpy() // 1_000
    column = data.event_column
    is_target = frame[IS_TARGET] if IS_TARGET in frame else pd.Series(True, index=frame.index)
    events = pd.Series("", index=frame.index) if column is None else event_types(frame, column)
    return Clicks(
        frame["user_id"].to_numpy(dtype=object),
        frame["item_id"].to_numpy(dtype=object),
        times,
        events.to_numpy(dtype=object),
        is_target.to_numpy(dtype=bool),
    )


def _reading_options(data: DataOptions) -> DataOptions:
    """Return the options by which clicks are read for a join: by time, and without users that no request can name."""
    options = DataOptions(**{name: value for name, value in vars(data).items()})
    options.order = "timestamp"
    options.on_missing_user = "drop"
    options.session_column = None
    options.session_gap = None
    options.validate()
    return options


def _check_timezone(timezone: str | None) -> None:
    try:
        pd.DatetimeIndex([]).tz_localize(timezone)
    except (KeyError, ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"expected a time zone such as Europe/Berlin, got {timezone!r:.60} ({error})") from error


@dataclass(frozen=True, eq=False)
class _Joined:
    """Lists that can be judged, with the clicks on them and after them, and how many others were left out."""

    lists: ShownLists
    clicks: Clicks
    impressions: Impressions
    next_clicks: NextClicks
    without_user: int
    outside: int
    cut_off: int  # judged lists whose window ends after the last click

    @classmethod
    def of(cls, lists: ShownLists, clicks: Clicks, data: DataOptions, options: ReplayOptions) -> "_Joined":
        """Join clicks to lists.

        Raises:
            DataError: where no list can be judged.
        """
        has_user = np.array([user is not None for user in lists.users], dtype=bool)
        if not has_user.any():
            raise DataError(
                f"none of the {len(lists):,} lists of the log has a user id, expected one to join clicks by; send it "
                "with every request as user_id in the body or as header X-User-ID"
            )
        window = round(options.window_seconds * MICROSECONDS)
        first = int(clicks.times.min())
        last = int(clicks.times.max())
        is_inside = (lists.times <= last) & (lists.times >= first - window)
        chosen = np.flatnonzero(has_user & is_inside)
        if not len(chosen):
            own = lists.times[has_user]
            raise DataError(
                f"the log and the clicks do not overlap: lists were shown {_time(own.min())} to {_time(own.max())}, "
                f"clicks are from {_time(first)} to {_time(last)} (UTC); give clicks of the time after the lists, or "
                "name the time zone of the clicks"
            )
        judged = lists.taken(chosen)
        if data.normalize_ids:
            users = normalized(pd.Series(judged.users), data.normalize_ids).to_numpy(dtype=object)
            judged = replace(judged, users=users)
        shared = np.isin(clicks.users.astype(str), judged.users.astype(str))
        if not shared.any():
            raise DataError(
                f"no user of the log clicked: the log has users such as {judged.users[0]!r}, the clicks "
                f"{clicks.users[0]!r}; check that both name users in the same way"
            )
        targets = clicks.taken(clicks.is_target)
        return cls(
            judged,
            clicks,
            join_clicks(judged, clicks, window_seconds=options.window_seconds),
            join_next_clicks(judged, targets, window_seconds=options.window_seconds, most=options.next_clicks),
            without_user=int((~has_user).sum()),
            outside=int((has_user & ~is_inside).sum()),
            cut_off=int((judged.times + window > last).sum()),
        )


def _groups(lists: ShownLists, by: str) -> dict[str, np.ndarray]:
    """Return the lists of every group by its name, indices; most lists first."""
    labels = [
        (variant, model if by == "model" else "") for variant, model in zip(lists.variants, lists.models, strict=True)
    ]
    if by == "variant" and all(variant is None for variant, _ in labels):
        raise DataError("no record of the log has a variant; start the server with one, or group by model")
    return _named_groups(labels, _model_name)


def _named_groups(labels: Sequence[tuple], name: Callable[..., str]) -> dict[str, np.ndarray]:
    """Return the places of every label by its name; names that two labels share get whole digests."""
    distinct = list(dict.fromkeys(labels))
    number_of = {label: number for number, label in enumerate(distinct)}
    numbers = np.array([number_of[label] for label in labels])
    counts = np.bincount(numbers)
    names = [name(*label) for label in distinct]
    if len(set(names)) < len(names):
        names = [name(*label, digits=None) for label in distinct]
    return {names[group]: np.flatnonzero(numbers == group) for group in np.argsort(-counts, kind="stable")}


def _model_name(variant: str | None, model: str, *, digits: int | None = SHOWN_DIGEST) -> str:
    parts = [part for part in (variant, model[:digits]) if part]
    return " ".join(parts) or "no variant"


def _catalog_name(variant: str | None, model: str, catalog: str, *, digits: int | None = SHOWN_DIGEST) -> str:
    return f"{_model_name(variant, model, digits=digits)} / {catalog[:digits]}"


def _baseline(groups: Mapping[str, np.ndarray], wanted: str | None) -> str:
    """Return the name of the group that the others are compared with.

    Args:
        wanted: its name, or its beginning.
    """
    if wanted is None:
        return next(iter(groups))
    found = [name for name in groups if name == wanted or name.startswith(wanted)]
    found += [
        name for name in groups if name.rpartition(" ")[2].startswith(wanted[:SHOWN_DIGEST]) and name not in found
    ]
    if len(found) != 1 and wanted not in groups:
        raise ValueError(
            f"expected the name of one model as baseline, got {wanted!r:.80}; there are {', '.join(groups)}"
        )
    return wanted if wanted in groups else found[0]


@dataclass(frozen=True, eq=False)
class _Summary:
    """Rates and metrics of all groups, with their values in every bootstrap sample of users.

    A rate is a sum over cases by a number of cases, each summed over users first.
    """

    joined: _Joined
    groups: Mapping[str, np.ndarray]
    values: dict[Key, float]
    drawn: dict[Key, np.ndarray]

    @classmethod
    def of(
        cls,
        joined: _Joined,
        groups: Mapping[str, np.ndarray],
        columns: Sequence["_RateColumn"],
        options: ReplayOptions,
    ) -> "_Summary":
        values, drawn = _bootstrapped(_ratios(joined, groups, columns), options)
        return cls(joined, groups, values, drawn)

    def row(self, name: str) -> dict[str, Any]:
        """Return the row of a group."""
        own = self.groups[name]
        lists = self.joined.lists
        is_own = np.zeros(len(lists), dtype=bool)
        is_own[own] = True
        impressions = self.joined.impressions
        shown = is_own[impressions.list_of]
        variants = sorted({variant for variant in lists.variants[own] if variant is not None})
        return {
            "name": name,
            "variant": variants[0] if len(variants) == 1 else None,
            "models": sorted(set(lists.models[own])),
            "catalogs": len(set(lists.catalogs[own])),
            "first": _time(lists.times[own].min()),
            "last": _time(lists.times[own].max()),
            "lists": len(own),
            "users": len(set(lists.users[own])),
            "impressions": int(shown.sum()),
            "clicked": int(impressions.is_clicked[shown].sum()),
            "cases": int(is_own[self.joined.next_clicks.list_of].sum()),
            "rates": {metric: self._cell((group, metric)) for group, metric in self.values if group == name},
            "ranks": _by_rank(impressions.rank[shown], impressions.is_clicked[shown]),
        }

    def differences(self, baseline: str) -> list[dict[str, Any]]:
        """Return every other group minus the baseline, by metric; the click-through rates are tested."""
        metrics = [metric for group, metric in self.values if group == baseline]
        claims = [
            self._claim(name, baseline, metric)
            for metric in metrics
            for name in self.groups
            if name != baseline and self._is_comparable((name, metric), (baseline, metric))
        ]
        tested = apply_holm([claim for claim in claims if claim.metric == CTR])
        return [claim.to_dict() for claim in (*tested, *(claim for claim in claims if claim.metric != CTR))]

    def _is_comparable(self, own: Key, other: Key) -> bool:
        """Return whether both groups have the metric, in more than one of the samples."""
        if own not in self.values or other not in self.values:
            return False
        return int((np.isfinite(self.drawn[own]) & np.isfinite(self.drawn[other])).sum()) > 1

    def _claim(self, name: str, baseline: str, metric: str) -> Claim:
        own = self.drawn[name, metric]
        other = self.drawn[baseline, metric]
        usable = np.isfinite(own) & np.isfinite(other)
        return compare_systems(
            name,
            baseline,
            own[usable],
            other[usable],
            self.values[name, metric],
            self.values[baseline, metric],
            metric=metric,
            seen="",
            purpose="claim" if metric == CTR else "description",
        )

    def _cell(self, key: Key) -> dict[str, float | None]:
        """Return a rate with its interval; without one where a single user saw the group."""
        value = self.values[key]
        means = self.drawn[key][np.isfinite(self.drawn[key])]
        if len(means) < 2 or len(set(self.joined.lists.users[self.groups[key[0]]])) < 2:
            return {"value": value, "low": None, "high": None}
        found = interval_of(value, means)
        return {"value": found.value, "low": found.low, "high": found.high}


@dataclass(frozen=True, eq=False)
class _RateColumn:
    """A rate: the list of each of its cases, int64 `[M]`, and the value of each, `[M]`."""

    metric: str
    list_of: np.ndarray
    values: np.ndarray


def _click_through(joined: _Joined) -> _RateColumn:
    return _RateColumn(CTR, joined.impressions.list_of, joined.impressions.is_clicked)


def _all_columns(joined: _Joined, options: ReplayOptions) -> list[_RateColumn]:
    """Return the rates of a group: of items and lists that were clicked, by type of event, and the offline metrics."""
    impressions = joined.impressions
    clicked_lists = np.zeros(len(joined.lists), dtype=bool)
    clicked_lists[impressions.list_of[impressions.is_clicked]] = True
    targets = joined.next_clicks
    longest = int(joined.lists.lengths.max(initial=0))
    metrics = per_user_metrics(targets.rank, sorted({min(cutoff, longest) for cutoff in options.cutoffs}))
    return [
        _click_through(joined),
        _RateColumn(CLICKED_LISTS, np.arange(len(joined.lists)), clicked_lists),
        *(_RateColumn(f"{CTR}.{event}", impressions.list_of, hit) for event, hit in _by_event(joined).items()),
        *(_RateColumn(metric, targets.list_of, values) for metric, values in metrics.items()),
    ]


def _ratios(joined: _Joined, groups: Mapping[str, np.ndarray], columns: Sequence[_RateColumn]) -> dict[Key, Ratio]:
    """Return every rate of every group as sums over users; those without a case are left out."""
    users = pd.factorize(joined.lists.users)[0]
    num_users = int(users.max()) + 1
    group_of = np.full(len(joined.lists), -1, dtype=np.int64)
    for number, own in enumerate(groups.values()):
        group_of[own] = number
    found: dict[Key, Ratio] = {}
    for column in columns:
        for number, name in enumerate(groups):
            is_own = group_of[column.list_of] == number
            if is_own.any():
                user_of = users[column.list_of[is_own]]
                sums = np.bincount(user_of, weights=column.values[is_own].astype(np.float64), minlength=num_users)
                cases = np.bincount(user_of, minlength=num_users).astype(np.float64)
                found[name, column.metric] = (sums, cases)
    return found


def _by_event(joined: _Joined) -> dict[str, np.ndarray]:
    """Return which impressions have a click of each type of event, where there are types."""
    events = joined.clicks.events
    types = sorted(set(events))
    if types in ([], [""]):
        return {}
    click_of = joined.impressions.click_of
    found = {}
    for event in types:
        hit = np.zeros(len(joined.impressions.list_of), dtype=bool)
        hit[click_of[(click_of >= 0) & (events == event)]] = True
        found[event or "no type"] = hit
    return found


def _bootstrapped(
    ratios: Mapping[Key, Ratio], options: ReplayOptions
) -> tuple[dict[Key, float], dict[Key, np.ndarray]]:
    """Return every rate, and its value in each of the samples of users, which are the same for all rates.

    A sample without a case of a group has no rate, nan.
    """
    table = np.stack([column for ratio in ratios.values() for column in ratio], axis=1)  # [U, 2C]
    means = bootstrap_means(table, draws=options.draws, seed=options.seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = means[:, 0::2] / means[:, 1::2]  # [draws, C]
    values = {key: float(sums.sum() / cases.sum()) for key, (sums, cases) in ratios.items()}
    return values, dict(zip(ratios, rates.T, strict=True))


def _by_rank(rank: np.ndarray, is_clicked: np.ndarray) -> list[dict[str, Any]]:
    """Return impressions and clicked ones by rank; ranks beyond `MAX_RANKS` are one row."""
    capped = np.minimum(rank, MAX_RANKS + 1)
    shown = np.bincount(capped, minlength=1)
    clicked = np.bincount(capped, weights=is_clicked, minlength=1)
    return [
        {
            "rank": str(place) if place <= MAX_RANKS else f"{MAX_RANKS + 1}+",
            "impressions": int(shown[place]),
            "clicked": int(clicked[place]),
            "ctr": float(clicked[place] / shown[place]),
        }
        for place in range(1, len(shown))
        if shown[place]
    ]


def _catalog_rows(joined: _Joined, options: ReplayOptions) -> list[dict[str, Any]]:
    """Return a row per model and catalog, in order of their first lists."""
    lists = joined.lists
    labels = list(zip(lists.variants, lists.models, lists.catalogs, strict=True))
    groups = _named_groups(labels, _catalog_name)
    summary = _Summary.of(joined, groups, [_click_through(joined)], options)
    rows = [summary.row(name) | {"catalog": lists.catalogs[own[0]]} for name, own in groups.items()]
    kept = (
        "name",
        "variant",
        "models",
        "catalog",
        "first",
        "last",
        "lists",
        "users",
        "impressions",
        "clicked",
        "rates",
    )
    return [{name: row[name] for name in kept} for row in sorted(rows, key=lambda row: row["first"])]


def _log_facts(lists: ShownLists, joined: _Joined, findings: LogFindings) -> dict[str, Any]:
    return {
        "files": len(findings.files),
        "in_progress": findings.in_progress,
        "damaged": findings.damaged,
        "first_damaged": findings.first_damaged,
        "lists": len(lists),
        "first": _time(lists.times.min()),
        "last": _time(lists.times.max()),
        "without_user": joined.without_user,
        "outside": joined.outside,
        "judged": len(joined.lists),
        "cut_off": joined.cut_off,
        "longest": int(joined.lists.lengths.max(initial=0)),
    }


def _click_facts(clicks: Clicks, joined: _Joined, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "clicks": len(clicks),
        "users": len(set(clicks.users)),
        "first": _time(clicks.times.min()),
        "last": _time(clicks.times.max()),
        "on_lists": int((joined.impressions.click_of >= 0).sum()),
        "without_user": counts.get("dropped_guest_clicks", 0),
        "unreadable": counts.get("dropped_unreadable_rows_of_interactions", 0),
    }


def _protocol(data: DataOptions, options: ReplayOptions) -> dict[str, Any]:
    return {
        "window_seconds": options.window_seconds,
        "cutoffs": list(options.cutoffs),
        "next_clicks": options.next_clicks,
        "by": options.by,
        "targets": target_text(data),
        "draws": options.draws,
        "seed": options.seed,
    }


def _cautions(joined: _Joined, groups: Mapping[str, np.ndarray], options: ReplayOptions) -> list[str]:
    """Return what the figures can't tell, and what in this log makes them worse."""
    cautions = [
        "Clicks depend on what was shown: an item that was in no list could hardly be clicked. The offline metrics are "
        "therefore those of the lists as they were shown, and favour the model that showed them; nothing was ranked "
        "again. What another model would have got is not known from this log.",
    ]
    if len(groups) > 1:
        cautions += _assignment(joined.lists, groups)
    if joined.cut_off:
        cautions.append(
            f"{joined.cut_off:,} of {len(joined.lists):,} lists were shown less than the window before the last click, "
            "so some of their clicks may be missing."
        )
    return cautions


def _assignment(lists: ShownLists, groups: Mapping[str, np.ndarray]) -> list[str]:
    """Return what the log shows about how users were assigned to models."""
    seen_by = pd.DataFrame({"user": pd.factorize(lists.users)[0], "group": -1})
    for number, own in enumerate(groups.values()):
        seen_by.loc[own, "group"] = number
    per_user = seen_by.drop_duplicates().groupby("user").size()
    several = int((per_user > 1).sum())
    cautions = [
        "The models were shown to different users. Their difference is an effect of the models only where chance "
        "decided which user got which, for the whole time, and the log does not say how users were assigned"
        + ("." if several else "; no user saw several models.")
    ]
    if several:
        cautions.append(
            f"{several:,} of {len(per_user):,} users ({several / len(per_user):.0%}) saw lists of several models, so "
            "models were not assigned by user: a click may be owed to the other model."
        )
    starts = {name: lists.times[own].min() for name, own in groups.items()}
    ends = {name: lists.times[own].max() for name, own in groups.items()}
    for name in list(groups)[1:]:
        first = next(iter(groups))
        if starts[name] > ends[first] or starts[first] > ends[name]:
            cautions.append(
                f"{first} and {name} were never shown at the same time: their difference is one of two periods, with "
                "all else that changed between them."
            )
    return cautions


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(int(microseconds) // MICROSECONDS, UTC).strftime("%Y-%m-%d %H:%M:%S")
