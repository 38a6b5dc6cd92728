"""Training of the generator of semantic IDs, and the recommender that comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import set_seed

from cost_hf.data.encoders import ItemEncoder, model_identity
from cost_hf.files import content_digest, file_digest, file_digests, read_json, write_json
from cost_hf.generators.generator_training import GeneratorTrainer, TrainedGenerator, train_generator
from cost_hf.generators.item_texts import ItemTexts
from cost_hf.generators.ranking_trainer import remove_checkpoints
from cost_hf.generators.templates import load_templates
from cost_hf.methods.generative.teacher import teacher_lists
from cost_hf.methods.training_stages import (
    ENCODER,
    TRAINING_LOG,
    as_fitted,
    recommender_stage,
    training_clicks,
    validation_metrics,
)
from cost_hf.recommenders.repository import update_manifest
from cost_hf.recommenders.validity import invalid_shares
from cost_hf.semantic_ids.trie import SidTrie

if TYPE_CHECKING:
    from cost_hf.data.splits import Targets
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.generators.tasks import Task
    from cost_hf.methods.base import Workspace
    from cost_hf.methods.generative.method import GenerativeMethod, GenerativeOptions, SearchOptions
    from cost_hf.quantizers.fit import CodesResult
    from cost_hf.recommenders.generative import GenerativeRecommender
    from cost_hf.semantic_ids.catalog import Catalog

STAGE = "generator"


def generator_stage(
    method: GenerativeMethod[Any], workspace: Workspace, catalog: Catalog, codes: CodesResult | None, *, seed: int
) -> GenerativeRecommender:
    """Train the generator and write the whole recommender, with what gives new items their SIDs."""
    digest = content_digest(
        method.name,
        catalog.digest,
        catalog.quantizer_digest,
        list(catalog.level_sizes),
        catalog.policy,
        workspace.data.split.digest,
        workspace.data_seed,
        *method.training_inputs(workspace),
        seed,
    )
    recommender = recommender_stage(
        workspace,
        workspace.stage_of(STAGE),
        digest=digest,
        train=lambda folder: _train_recommender(method, workspace, catalog, codes, folder, seed=seed),
        load=method.recommender_class().read,
        catalog=catalog,
        shared_as=STAGE,
    )
    recommender = as_fitted(recommender, method.fitted_catalog(catalog, recommender.catalog))
    _set_search(recommender, method.search_settings(workspace), workspace)
    return recommender


def _set_search(recommender: GenerativeRecommender, settings: dict[str, Any], workspace: Workspace) -> None:
    """Write the settings of the search where they are others: they are no reason to train again."""
    if settings == {name: getattr(recommender, name) for name in settings}:
        return
    for name, value in settings.items():
        setattr(recommender, name, value)
    if PartialState().is_main_process:
        workspace.stages.reopen()
        update_manifest(workspace.stages.output_dir / workspace.folder, **settings)


def _train_recommender(
    method: GenerativeMethod[Any],
    workspace: Workspace,
    catalog: Catalog,
    codes: CodesResult | None,
    folder: Path,
    *,
    seed: int,
) -> None:
    """Train in every process; the main one writes the recommender and the training log."""
    set_seed(seed)
    backbone = method.build_backbone(workspace, catalog, codes, seed=seed)
    prompts = backbone.prompts(catalog)
    trie = SidTrie.from_catalog(catalog, popularity=training_clicks(workspace))
    history = method.train(workspace, backbone, prompts, catalog, trie, folder=folder, seed=seed)
    if not PartialState().is_main_process:
        return
    method.make_recommender(workspace, backbone, catalog, codes).save_pretrained(folder)
    write_json(folder / TRAINING_LOG, history)
    remove_checkpoints(folder)


def train(
    method: GenerativeMethod[Any],
    workspace: Workspace,
    backbone: Backbone,
    prompts: Sequence[PromptBuilder],
    catalog: Catalog,
    trie: SidTrie,
    *,
    folder: Path,
    seed: int,
    current: Callable[[], tuple[SidTrie, Catalog]] | None = None,
    own_tasks: Mapping[str, Task] | None = None,
    make_trainer: Callable[..., GeneratorTrainer] = GeneratorTrainer,
) -> TrainedGenerator:
    """Train a backbone in place on the training users and keep the weights that rank validation users best.

    Args:
        method, workspace, backbone, prompts, catalog, trie, folder, seed: as for `GenerativeMethod.train`.
        current: returns the trie and the catalog that a validation searches; None searches those given.
        own_tasks, make_trainer: of a method, as for `train_generator`.
    """
    options = method.options
    split = workspace.data.split
    beams = options.training.validation_beams
    popularity = training_clicks(workspace)

    def validate(model: Any) -> dict[str, float]:
        searched = (trie, catalog) if current is None else current()
        ranker = method.ranker(model, prompts[0], *searched, popularity, beams=beams)
        return validation_metrics(ranker, workspace, users=options.training.validation_users, top_k=beams)

    return train_generator(
        backbone,
        prompts,
        split.train,
        list(split.train_user_ids),
        generator=options.generator,
        training=options.training,
        validate=validate,
        output_dir=folder,
        seed=seed,
        tasks=options.tasks,
        item_texts=_item_texts(options, workspace),
        names_items=method.names_items,
        long_history=method.long_history,
        teacher=teacher_lists(workspace, options.training),
        weights=split.label_weights(),
        own_tasks=own_tasks,
        make_trainer=make_trainer,
    )


def recommender_parts(method: GenerativeMethod[Any], workspace: Workspace, codes: CodesResult | None) -> dict[str, Any]:
    """Return what a recommender has beside backbone and catalog, as arguments of its class."""
    quantizer = None if codes is None else codes.model
    encoder = workspace.stages.output_dir / ENCODER
    return {
        "popularity": training_clicks(workspace),
        **method.search_settings(workspace),
        "quantizer": quantizer,
        "encoder": None if quantizer is None else ItemEncoder.load(encoder),
    }


def pretraining_parts(options: GenerativeOptions, workspace: Workspace) -> list[Any]:
    """Return what a generator from a backbone depends on beside its options; nothing for one from scratch."""
    if options.generator.backbone is None:
        return []
    weights = model_identity(options.generator.backbone, options.generator.revision)
    tasks = [*options.tasks.text_tasks, *({options.generator.prompt} - {"bare"})]
    templates = [dataclasses.asdict(entry) for name in tasks for entry in load_templates(name, options.tasks.templates)]
    item_texts = _item_texts(options, workspace)
    texts = [] if item_texts is None else [list(item_texts.titles), list(item_texts.texts)]
    return [weights, dataclasses.asdict(options.adapter), dataclasses.asdict(options.tasks), templates, *texts]


def outside_parts(options: GenerativeOptions) -> list[Any]:
    """Return what the names of models and files stand for now: content, which a name does not tell."""
    parts: list[Any] = [] if options.catalog.reference is not None else [*options.codes.input_parts]
    if options.generator.backbone is not None:
        parts.append(model_identity(options.generator.backbone, options.generator.revision))
    for name in (options.catalog.reference, options.tasks.templates):
        if name is not None and Path(name).is_file():
            parts.append(file_digest(name))
        elif name is not None and Path(name).is_dir():
            parts.append(file_digests(name))
    return parts


def training_curve(workspace: Workspace) -> list[dict[str, float]]:
    """Return the log of the training of this row's recommender."""
    return read_json(workspace.stages.output_dir / workspace.folder / TRAINING_LOG)


def shares_of_invalid(
    options: SearchOptions, recommender: Any, workspace: Workspace, targets: Targets
) -> dict[str, float]:
    """Return the shares of beams that are no item, with and without the trie, on a seeded sample of test cases."""
    order = np.random.default_rng(workspace.data_seed).permutation(len(targets))
    sample = np.sort(order[: options.invalid_users])
    histories = torch.from_numpy(targets.histories_matrix(sample))
    users = [str(targets.user_ids[case]) for case in sample]
    return invalid_shares(recommender, histories, user_ids=users)


def _item_texts(options: GenerativeOptions, workspace: Workspace) -> ItemTexts | None:
    if not options.tasks.text_tasks:
        return None
    return ItemTexts.of(workspace.data, workspace.vector_options.item_template)
