"""Fitting of a fusion: the parts' lists for validation cases choose the weights."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from accelerate import PartialState

from cost_hf.files import content_digest, read_json, write_json
from cost_hf.methods.base import Fitted, Workspace
from cost_hf.methods.fusion.options import FusionOptions
from cost_hf.methods.fusion.recommender import FusionRecommender
from cost_hf.methods.fusion.weights import choose_weights, part_values
from cost_hf.methods.parts import part_stages, recommenders_of
from cost_hf.methods.training_stages import as_fitted, candidate_batches, item_list, recommender_stage

STAGE = "fusion"
WEIGHTS = "weights.json"  # of all parts, in the folder of the recommender


def fusion_stage(
    workspace: Workspace, options: FusionOptions, fitted: Mapping[str, Fitted], *, seed: int
) -> FusionRecommender:
    """Choose the weights in a stage of its own, and return the fusion as it is stored.

    Args:
        fitted: the parts, fitted on the same data, by name.
    """
    data = workspace.data
    evaluation = workspace.evaluation
    parts = recommenders_of(fitted)

    def write(folder: Path) -> None:
        cases = data.split.validation.sample(evaluation.validation_users, seed=workspace.data_seed)
        if PartialState().is_main_process:
            batches = candidate_batches(parts, cases, workspace, description="parts on validation")
            found = [(part_values(options.fusion.kind, own), own, cases.items[rows]) for rows, _, own in batches]
            weights = choose_weights(found)
            FusionRecommender.combine(parts, weights, kind=options.fusion.kind).save_pretrained(folder)
            write_json(folder / WEIGHTS, dict(zip(parts, weights.tolist(), strict=True)))

    recommender = recommender_stage(
        workspace,
        workspace.stage_of(STAGE),
        digest=content_digest(
            data.tables.items["item_id"].tolist(),
            data.split.digest,
            workspace.text_vectors().digest,
            workspace.data_seed,
            dataclasses.asdict(options),
            part_stages(fitted, workspace),
            [evaluation.validation_users, evaluation.num_beams],
            seed,
        ),
        train=write,
        load=FusionRecommender.read,
        catalog=item_list(workspace),
        shared_as=STAGE,
    )
    return as_fitted(recommender, recommender.fitted_catalog(item_list(workspace)))


def chosen_weights(workspace: Workspace) -> dict[str, float]:
    """Return the weight of every part, 0 for one that is left out."""
    return read_json(workspace.stages.output_dir / workspace.folder / WEIGHTS)
