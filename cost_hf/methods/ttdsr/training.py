"""Training of TTDSR: the tasks of a recipe with an index that follows the language model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_hf.generators.ranking_trainer import checkpoints_of
from cost_hf.generators.tasks import Task
from cost_hf.generators.templates import fitting_items
from cost_hf.methods.generative.training import train as train_generative
from cost_hf.methods.training_stages import training_clicks
from cost_hf.methods.ttdsr.dynamic_index import FOLDER, DynamicIndex
from cost_hf.methods.ttdsr.prompts import UserBackbone, tokens_of_users
from cost_hf.methods.ttdsr.stages import FirstIndex, entity_texts, index_stage, tower_options
from cost_hf.methods.ttdsr.text_states import TextRows
from cost_hf.methods.ttdsr.towers import ITEMS, USERS, Tower, load_index
from cost_hf.methods.ttdsr.trainer import IndexedTrainer
from cost_hf.methods.ttdsr.user_tasks import UserFields, build_user_tasks
from cost_hf.quantizers.fit import CodesResult
from cost_hf.semantic_ids.catalog import Catalog

if TYPE_CHECKING:
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.methods.base import Workspace
    from cost_hf.methods.ttdsr.method import Ttdsr
    from cost_hf.methods.ttdsr.options import TtdsrOptions
    from cost_hf.semantic_ids.trie import SidTrie


def with_users(
    backbone: Backbone, options: TtdsrOptions, users: Catalog | None, profile_items: Sequence[np.ndarray]
) -> Backbone:
    """Return a backbone that knows the semantic IDs of users; a prompt that shows one may hold fewer items for it.

    Args:
        backbone: without them.
        options: of the recipe.
        users: with their semantic IDs; None without users.
        profile_items: items that the text of each user tells of.
    """
    if users is None or backbone.users is None:
        return backbone
    tokens = tokens_of_users(users.codes, backbone.users)
    most = backbone.max_history
    if options.users.in_prompt:
        levels = len(backbone.vocabulary.level_sizes)
        most = fitting_items(
            most,
            text=max(layout.constant_tokens for layout in backbone.layouts) + tokens.shape[1],
            item=levels,
            answer=levels,
            context=backbone.context,
            overflow=options.generator.overflow,
        )
    known = vars(backbone) | {"max_history": most}
    return UserBackbone(
        **known,
        user_ids=users.item_ids,
        user_tokens=tokens,
        profile_items=profile_items,
        shows_users=options.users.in_prompt,
    )


def train(
    method: Ttdsr,
    workspace: Workspace,
    backbone: Backbone,
    prompts: Sequence[PromptBuilder],
    catalog: Catalog,
    trie: SidTrie,
    *,
    folder: Path,
    seed: int,
) -> list[dict[str, float]]:
    """Train a backbone in place, write the index that it ends with beside the checkpoints, and return the log."""
    options = method.options
    popularity = training_clicks(workspace)
    texts = entity_texts(workspace, options)
    first = index_stage(workspace, options, seed=seed)
    index = dynamic_index(
        backbone,
        prompts,
        catalog,
        first.users(workspace),
        first,
        options,
        texts=texts,
        fit_rows=workspace.data.fit_rows,
        seed=seed,
    )

    trained = train_generative(
        method,
        workspace,
        backbone,
        prompts,
        catalog,
        trie,
        folder=folder,
        seed=seed,
        current=lambda: (index.trie(popularity), index.towers[ITEMS].catalog),
        own_tasks=user_tasks(backbone, index, workspace, options, texts, seed=seed),
        make_trainer=partial(IndexedTrainer, index=index, alignment=options.alignment),
    )
    drift = index.settle(trained.model)
    index.save(checkpoints_of(folder))
    return [*trained.history, drift]


def dynamic_index(
    backbone: Backbone,
    prompts: Sequence[PromptBuilder],
    catalog: Catalog,
    users: Catalog | None,
    first: FirstIndex,
    options: TtdsrOptions,
    *,
    texts: dict[str, list[str]],
    fit_rows: np.ndarray | None,
    seed: int,
) -> DynamicIndex:
    """Return the index in training, which begins with the codes of the pretrained model."""
    models: dict[str, Any] = {name: own.model for name, own in first.codes.items()}
    towers = {ITEMS: Tower(models[ITEMS], catalog)}
    vocabularies = {ITEMS: backbone.vocabulary}
    user_tokens = None
    if isinstance(backbone, UserBackbone) and backbone.users is not None and users is not None:
        towers[USERS] = Tower(models[USERS], users)
        vocabularies[USERS] = backbone.users
        user_tokens = backbone.user_tokens[:, 1:]  # a view: what is written there stands in the prompts, too
    encoder = backbone.prompt_encoder()
    rows = {name: TextRows.of(texts[name], encoder, max_tokens=options.index.max_text_tokens) for name in towers}
    return DynamicIndex(
        towers,
        rows,
        prompts,
        vocabularies,
        user_tokens=user_tokens,
        codes=tower_options(options),
        options=options.index,
        fit_rows=fit_rows,
        seed=seed,
    )


def user_tasks(
    backbone: Backbone,
    index: DynamicIndex,
    workspace: Workspace,
    options: TtdsrOptions,
    texts: dict[str, list[str]],
    *,
    seed: int,
) -> dict[str, Task]:
    """Return the tasks of users, whose examples read the tokens of the index."""
    if not options.tasks.user_tasks:
        return {}
    fields = UserFields(
        backbone.prompt_encoder(),
        index.tokens(ITEMS).numpy(),
        index.tokens(USERS).numpy(),
        texts[USERS],
        options.tasks.max_text_tokens,
    )
    return build_user_tasks(
        options.tasks.user_tasks,
        options.tasks,
        fields,
        workspace.data.split,
        max_users=backbone.max_history,
        context=backbone.context,
        overflow=options.generator.overflow,
        seed=seed,
    )


def frozen_codes(folder: Path, catalog: Catalog, codes: CodesResult | None) -> tuple[Catalog, CodesResult]:
    """Return the catalog and the codes of the index that training ended with.

    Args:
        folder: of the generator, before its checkpoints are removed.
        catalog: of the same items, as training began.
        codes: of that catalog.
    """
    model: Any = None if codes is None else codes.model
    tower = load_index(checkpoints_of(folder) / FOLDER, {ITEMS: Tower(model, catalog)})[ITEMS]
    history = [] if codes is None else codes.history
    sizes = tuple(tower.quantizer.level_sizes)
    return tower.catalog, CodesResult(
        tower.model_codes, sizes, tower.quantizer, history, tower.catalog.quantizer_digest
    )


def shown_users(backbone: Backbone) -> Catalog | None:
    """Return the users that prompts show, with their semantic IDs; None where they show none."""
    if not isinstance(backbone, UserBackbone) or not backbone.shows_users or backbone.users is None:
        return None
    codes = backbone.users.decode(backbone.user_tokens[:, 1:]).numpy()
    return Catalog.from_codes(list(backbone.user_ids), codes, level_sizes=backbone.users.level_sizes, collisions="none")
