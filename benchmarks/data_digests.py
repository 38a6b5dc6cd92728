"""Digests of everything that is made of data sets before training, to compare two versions of this package.

    python benchmarks/data_digests.py --data DIR --output before.json
    python benchmarks/data_digests.py --data DIR --output after.json --against before.json

DIR holds one data set a folder (`items.parquet`, `interactions.parquet`). Each is read under several options, split by
every rule that it allows and counted. A made-up log comes beside them, with what the sets lack: times with
ties, types of events, guests, repeats, ids in several forms, and text files.
"""

import argparse
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import cost_hf
from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.data.schema import Tables
from cost_hf.data.splits import Split, split_interactions
from cost_hf.data.tables import read_interactions, read_tables
from cost_hf.files import content_digest, file_digests
from cost_hf.methods.counting.counting import fit_tables
from cost_hf.recommenders.new_clicks import NewClicks

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {"on_empty_text": "drop"},
    "core": {"on_empty_text": "drop", "min_user_interactions": 5, "min_item_interactions": 5},
    "latest, cold": {"on_empty_text": "drop", "max_user_interactions": 8, "cold_share": 0.05, "min_history": 2},
}
MADE_UP: dict[str, dict[str, Any]] = {
    "times": {},
    "split by time": {"split": "time"},
    "core by time": {"min_user_interactions": 4, "min_item_interactions": 3, "split": "time"},
    "by position": {"order": "position"},
    "events": {"event_column": "event", "event_weights": {"view": 1, "buy": 5}, "on_unknown_event": "ignore"},
    "targets": {"event_column": "event", "target_events": ["buy"]},
    "no repeats": {"on_duplicate_click": "drop"},
    "source": {"split": "source", "split_column": "part"},
    "source, no repeats": {"split": "source", "split_column": "part", "on_duplicate_click": "drop"},
    "sessions": {"on_missing_user": "session", "session_gap": 30},
    "named sessions": {"on_missing_user": "session", "session_column": "visit", "session_gap": 30},
    "normal ids": {"normalize_ids": ["strip", "nfc", "lower"]},
    "latest": {"max_user_interactions": 5, "min_item_interactions": 4, "seed": 3},
}
COUNTED = ("popularity", "item_knn", "markov")
LARGE = 30_000  # clicks; larger sets are read under the first options alone


def table_facts(tables: Tables) -> dict[str, Any]:
    """Return the digests of tables, and what their cells alone do not tell: types, counts, notices."""
    frames = {"items": tables.items, "interactions": tables.interactions}
    is_small = len(tables.interactions) <= LARGE  # the digest of the tables has all cells, too
    return {
        "source": tables.source_digest,
        "tables": tables.digest,
        "counts": {name: int(count) for name, count in tables.counts.items()},
        "notices": [dataclasses.asdict(notice) for notice in tables.notices],
        "frames": {name: _frame_digest(frame) for name, frame in frames.items() if is_small},
        "types": {
            name: [[str(column), str(kind)] for column, kind in frame.dtypes.items()] for name, frame in frames.items()
        },
    }


def split_facts(tables: Tables, options: DataOptions) -> dict[str, Any]:
    """Return the digests of a split, of its files and of what is counted in it."""
    try:
        split = split_interactions(tables, options)
    except DataError as error:
        return {"error": str(error)}
    with tempfile.TemporaryDirectory() as folder:
        split.save(folder)
        files = file_digests(folder)
        loaded = Split.load(folder)
    baselines = {}
    for name in COUNTED:
        arrays = fit_tables(name, split.train, tables.num_items, weights=split.weights_of_users())
        baselines[name] = content_digest(*(part for key in sorted(arrays) for part in (key, arrays[key])))
    labels = split.label_weights()
    return {
        "split": split.digest,
        "counts": split.counts,
        "shares": split.shares(),
        "labels": None if labels is None else content_digest(np.concatenate(labels)),
        "popularity": content_digest(split.popularity(tables.num_items)),
        "files": files,
        "loaded": content_digest(loaded.digest, list(loaded.test.user_ids), *loaded.test.histories[:1000]),
        "baselines": baselines,
        "fitting": split.fitting_part(lambda user: hash_of(user) % 3 > 0).digest,
        "sample": content_digest(*split.test.sample(50, seed=1).histories),
    }


def hash_of(text: str) -> int:
    """Return a number of a text that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def _frame_digest(frame: pd.DataFrame) -> str:
    parts: list[Any] = [list(map(str, frame.index[:1000]))]
    for name in frame.columns:
        parts += [str(name), [None if value is None else str(value) for value in frame[name]]]
    return content_digest(*parts)


def checked(folder: Path, overrides: Mapping[str, Any]) -> Any:
    """Return what a check finds, without measured costs."""
    found = cost_hf.check(folder, overrides={"method": "popularity", **overrides}).to_dict()
    del found["estimate"], found["source"]
    return json.loads(json.dumps(found, default=str).replace(str(folder), "DIR"))


def made_up_log(draw: np.random.Generator, clicks: int = 6_000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a catalog and a click log in which much of what the reader handles occurs."""
    num_items = clicks // 30
    items = pd.DataFrame(
        {
            "item_id": [f"Item {number}" if number % 7 else f"Café {number}" for number in range(num_items)],
            "title": [f'Lamp {number // 2} <b>"bright"</b>' if number % 5 else "" for number in range(num_items)],
            "price": draw.integers(1, 50, num_items) / 2,
            "tags": [["a", "b\n"][: number % 3] for number in range(num_items)],
        }
    )
    users = np.array(
        [f"user {number}" if number % 11 else f'ü"{number}' for number in range(clicks // 8)], dtype=object
    )
    log = pd.DataFrame(
        {
            "user_id": users[(len(users) * draw.random(clicks) ** 2).astype(int)],
            "item_id": items["item_id"].to_numpy()[draw.integers(0, num_items, clicks)],
            "timestamp": 1_600_000_000 + draw.integers(0, 300, clicks) * 450,
            "event": np.array(["view", "view", "buy", "share"], dtype=object)[draw.integers(0, 4, clicks)],
            "visit": np.array(["x", "y", None], dtype=object)[draw.integers(0, 3, clicks)],
            "rating": np.where(draw.random(clicks) < 0.2, np.nan, draw.integers(1, 6, clicks)),
        }
    )
    log = pd.concat([log, log.sample(200, random_state=0)], ignore_index=True)
    log["part"] = np.where(
        log["timestamp"] < 1_600_080_000, "train", np.where(log["timestamp"] < 1_600_110_000, "valid", "TEST ")
    )
    log["position"] = log.groupby("user_id").cumcount()[::-1].to_numpy()
    log["position"] = log.groupby("user_id")["position"].rank(method="first").astype(int) * 3
    return items, log


def made_up_facts(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the facts of a made-up log under many options and in several forms."""
    items, log = made_up_log(np.random.default_rng(0))
    by_time = log.drop(columns="position")
    for name, fields in MADE_UP.items():
        own = log if name == "by position" else by_time
        if "sessions" in name:
            own = own.assign(user_id=own["user_id"].where(np.arange(len(own)) % 9 > 0))
        if name == "normal ids":
            own = own.assign(item_id=own["item_id"].str.upper() + " ")
        options = DataOptions(on_empty_text="drop", on_unknown_item="drop", **fields)
        tables = read_tables(options, items=items, interactions=own)
        yield f"made up, {name}", {**table_facts(tables), **split_facts(tables, options)}
    forms = {
        "whole ids": by_time.assign(item_id=by_time["item_id"].str.extract(r"(\d+)")[0].astype(int)),
        "fractions": by_time.assign(timestamp=by_time["timestamp"] + 0.25 * (np.arange(len(by_time)) % 3)),
        "dates": by_time.assign(timestamp=pd.to_datetime(by_time["timestamp"], unit="s")),
        "texts": by_time.assign(timestamp=pd.to_datetime(by_time["timestamp"], unit="s").astype(str)),
        "categories": by_time.assign(
            user_id=by_time["user_id"].astype("category"), event=by_time["event"].astype("category")
        ),
        "missing times": log.assign(timestamp=log["timestamp"].where(log.index % 5 > 0)),
        "objects": by_time.assign(extra=[{"a": row % 3, "b": None} for row in range(len(by_time))]),
    }
    digits = items.assign(item_id=items["item_id"].str.extract(r"(\d+)")[0])
    for name, own in forms.items():
        options = DataOptions(on_empty_text="drop", on_unknown_item="drop")
        tables = read_tables(options, items=digits if name == "whole ids" else items, interactions=own)
        yield f"made up, {name}", {**table_facts(tables), **split_facts(tables, options)}
        counts: dict[str, int] = {}
        clicks = read_interactions(own, with_nanoseconds=True, counts=counts)
        yield (
            f"clicks, {name}",
            {"frame": _frame_digest(clicks), "types": [str(kind) for kind in clicks.dtypes], "counts": counts},
        )
    items.drop(columns="tags").to_csv(folder / "items.csv", index=False)
    by_time.to_csv(folder / "interactions.csv", index=False)
    by_time.to_json(folder / "log.jsonl", orient="records", lines=True)
    by_time.to_csv(folder / "log.tsv.gz", index=False, sep="\t")
    by_time.iloc[:3000].to_parquet(folder / "log-1.parquet")
    by_time.iloc[3000:].to_parquet(folder / "log-2.parquet")
    for log_name in ("interactions.csv", "log.jsonl", "log.tsv.gz", "log-*.parquet"):
        options = DataOptions(path=str(folder), interactions=log_name, on_empty_text="drop")
        tables = read_tables(options)
        yield f"made up, {log_name}", {**table_facts(tables), **split_facts(tables, options)}
        yield f"check of made up, {log_name}", checked(folder, {"data.interactions": log_name})
    given = {name: [0, 1, 2] for name in range(3)}
    new = NewClicks.of_new_users([np.array(rows) for rows in given.values()])
    yield "new clicks", content_digest(new.clicks_of_items(4))


def set_facts(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the facts of one data set under several options and splits."""
    size = len(pd.read_parquet(folder / "interactions.parquet", columns=["user_id"]))
    for name, fields in VARIANTS.items():
        if name != "as it is" and size > LARGE:
            continue
        options = DataOptions(path=str(folder), **fields)
        tables = read_tables(options)
        yield f"{folder.name}, {name}", table_facts(tables)
        for split in ("leave_one_out", "source"):
            chosen = dataclasses.replace(options, split=split)
            yield f"{folder.name}, {name}, {split}", split_facts(tables, chosen)
        if name == "as it is":
            times = tables.interactions["position"] * 1000 + tables.interactions["item_row"] % 7
            timed = dataclasses.replace(
                tables, interactions=tables.interactions.assign(timestamp=times.astype("Int64"))
            )
            yield f"{folder.name}, by time", split_facts(timed, dataclasses.replace(options, split="time"))


def main() -> None:
    """Write the digests, and name those that differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory of data sets")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="an earlier output")
    parser.add_argument("--sets", help="names of data sets, and `made_up`; all by default")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.data.glob("*/interactions.parquet"))
    wanted = ["made_up", *(folder.name for folder in folders)] if options.sets is None else options.sets.split(",")
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "made_up" in wanted:
            facts |= dict(made_up_facts(Path(folder)))
    for path in folders:
        if path.name in wanted:
            facts |= dict(set_facts(path))
    options.output.write_text(json.dumps(facts, indent=1, default=str) + "\n")
    if options.against is not None:
        facts = json.loads(options.output.read_text())
        before = {name: value for name, value in json.loads(options.against.read_text()).items() if name in facts}
        differing = [name for name, value in facts.items() if before.get(name) != value]
        for name in differing:
            print("differs:", name)
        if differing:
            raise SystemExit(f"{len(differing)} of {len(facts)} differ")
        print(f"all {len(facts)} are equal")


if __name__ == "__main__":
    main()
