"""The recommender of the method, and its training."""

from typing import Any

import torch
from made_up_package.modeling import MeanConfig, MeanModel
from torch import nn

from cost_hf.files import content_digest
from cost_hf.generators.collation import pad_rows
from cost_hf.methods.base import Workspace
from cost_hf.methods.training_stages import item_list, recommender_stage, training_clicks
from cost_hf.recommenders.dense import DenseRecommender


class MeanRecommender(DenseRecommender):
    """Recommends by `MeanModel`."""

    kind = "made_up_mean"
    source = "made_up_mean"
    model_class = MeanModel


def fit(options: Any, workspace: Workspace, *, seed: int) -> MeanRecommender:
    """Train in a stage and return the recommender."""
    catalog = item_list(workspace)

    def train(folder: Any) -> None:
        torch.manual_seed(seed)
        model = MeanModel(MeanConfig(num_items=len(catalog), hidden_size=options.model.hidden_size))
        rows = pad_rows([sequence[:-1] for sequence in workspace.data.split.train])
        labels = torch.tensor([int(sequence[-1]) for sequence in workspace.data.split.train])
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.training.learning_rate)
        for _ in range(options.training.epochs):
            table = model.item_table()
            nn.functional.cross_entropy(model.users(rows, table) @ table.T, labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        MeanRecommender(model, catalog, popularity=training_clicks(workspace)).save_pretrained(folder)

    return recommender_stage(
        workspace,
        workspace.stage_of("made_up_mean"),
        digest=content_digest(workspace.data.split.digest, options.model.hidden_size, options.training.epochs, seed),
        train=train,
        load=MeanRecommender.read,
        catalog=catalog,
    )
