"""Training logs as curves: one point an epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

EVALUATION = "eval_"


def epoch_curve(log: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return `{epoch, loss, ndcg@10, recall@10}` per validation of a Trainer log; what an epoch lacks is left out."""
    points: dict[float, dict[str, float]] = {}
    for record in log:
        found = {"loss": record["loss"]} if "loss" in record else {}
        found |= {
            name.removeprefix(EVALUATION): value
            for name, value in record.items()
            if name.startswith(EVALUATION) and name.endswith("@10")
        }
        if found:
            point = points.setdefault(round(record["epoch"], 4), {"epoch": round(record["epoch"], 4)})
            point |= {name: round(float(value), 5) for name, value in found.items()}
    return [points[epoch] for epoch in sorted(points)]
