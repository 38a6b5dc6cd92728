"""Small stand-ins shared by the tests of this folder."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cost_hf.data.splits import Targets
from cost_hf.recommenders.rankers import Ranking


class Cases(Targets):
    """Evaluation cases of plain lists."""

    def __init__(self, histories, items, user_ids=None):
        names = [f"u{number}" for number in range(len(items))] if user_ids is None else user_ids
        arrays = [np.asarray(history, dtype=np.int64) for history in histories]
        super().__init__(np.asarray(names, dtype=object), arrays, np.asarray(items, dtype=np.int64))


def pad(histories):
    """Return lists as a matrix, -1 pads on the right."""
    matrix = np.full((len(histories), max(map(len, histories), default=0)), -1, dtype=np.int64)
    for row, history in enumerate(histories):
        matrix[row, : len(history)] = history
    return matrix


class FixedOrder:
    """Ranks the catalog in one order for everybody, the illegal items left out."""

    def __init__(self, order, longest=50):
        self.order, self.longest = list(order), longest

    def rank(self, histories, *, top_k, mask=None):
        width = min(top_k, self.longest)
        items = torch.full((len(histories), width), -1, dtype=torch.int64)
        table = None if mask is None else mask.dense(len(histories))
        for row in range(len(histories)):
            legal = [item for item in self.order if table is None or table[row, item]][:width]
            items[row, : len(legal)] = torch.tensor(legal, dtype=torch.int64)
        return Ranking(items, torch.zeros(items.shape))


def leave_one_out(directory: Path):
    """Return (items, train sequences, test cases) of a real data set: last click test, the one before it left out."""
    items = pd.read_parquet(directory / "items.parquet")
    clicks = pd.read_parquet(directory / "interactions.parquet").sort_values(["user_id", "position"], kind="stable")
    rows = pd.Series(np.arange(len(items)), index=items["item_id"])
    clicks["row"] = rows[clicks["item_id"]].to_numpy()
    grouped = clicks.groupby("user_id", sort=False)["row"]
    users, sequences = zip(*((user, group.to_numpy()) for user, group in grouped), strict=True)
    targets = Cases([line[:-1] for line in sequences], [line[-1] for line in sequences], users)
    return items, [line[:-2] for line in sequences], targets
