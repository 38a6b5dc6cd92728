"""Fitting of a fusion: the members' lists of validation cases choose the weights."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from accelerate import PartialState

from cost_hf.evaluation.rank_fusion import DEPTH, choose_weights
from cost_hf.evaluation.ranking import evaluate_ranker
from cost_hf.files import content_digest, read_json, write_json
from cost_hf.methods.base import Fitted, Workspace
from cost_hf.methods.fusion.options import FusionOptions
from cost_hf.methods.fusion.recommender import FusionRecommender
from cost_hf.methods.training_stages import as_fitted, item_list, recommender_stage

STAGE = "fusion"
WEIGHTS = "weights.json"  # of all members, in the folder of the recommender


def fusion_stage(
    workspace: Workspace, options: FusionOptions, members: Mapping[str, Fitted], *, prefix: str, seed: int
) -> FusionRecommender:
    """Choose the weights in a stage of its own, and return the fusion as it is stored.

    Args:
        members: fitted on the same data, by name.
        prefix: of the members' stages.
    """
    stages = workspace.stages
    data = workspace.data
    evaluation = workspace.evaluation
    recommenders = {name: member.recommender for name, member in members.items()}

    def write(folder: Path) -> None:
        cases = data.split.validation.sample(evaluation.validation_users, seed=workspace.data_seed)
        lists = [
            evaluate_ranker(
                recommender.ranker_for(DEPTH),
                cases,
                sid_keys=None,
                num_items=data.tables.num_items,
                exclude_seen=False,
                top_k=DEPTH,
                batch_size=evaluation.batch_size,
                description=f"{name} on validation",
            ).items
            for name, recommender in recommenders.items()
        ]
        if PartialState().is_main_process:
            weights = choose_weights(lists, cases.items)
            FusionRecommender.combine(recommenders, weights).save_pretrained(folder)
            write_json(folder / WEIGHTS, dict(zip(recommenders, weights.tolist(), strict=True)))

    recommender = recommender_stage(
        workspace,
        STAGE if workspace.row is None else workspace.row,
        digest=content_digest(
            data.tables.items["item_id"].tolist(),
            data.split.digest,
            workspace.text_vectors().digest,
            workspace.data_seed,
            dataclasses.asdict(options),
            sorted((name, digest) for name, digest in stages.digests.items() if name.startswith(f"{prefix}-")),
            [evaluation.validation_users, evaluation.num_beams],
            seed,
        ),
        train=write,
        load=FusionRecommender.read,
        catalog=item_list(workspace),
    )
    return as_fitted(recommender, recommender.fitted_catalog(recommender.catalog.titles))


def chosen_weights(workspace: Workspace) -> dict[str, float]:
    """Return the weight of every member, 0 for one that is left out."""
    return read_json(workspace.stages.output_dir / workspace.folder / WEIGHTS)
