"""Training a generator of semantic IDs on with the clicks of another day."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cost_hf.generators.adapters import train_adapter
from cost_hf.generators.generator_training import train_generator
from cost_hf.generators.options import NEXT_ITEM, TaskOptions
from cost_hf.methods.base import Fitted, WarmStart

if TYPE_CHECKING:
    from cost_hf.methods.generative.method import GenerativeMethod
    from cost_hf.recommenders.generative import GenerativeRecommender


def train_on(method: GenerativeMethod[Any], recommender: GenerativeRecommender, start: WarmStart) -> Fitted:
    """Train the model of a recommender in place, by its own prompt, and return the recommender of the new weights."""
    options = method.options
    split = start.split
    popularity = split.popularity(len(recommender.catalog))
    backbone = recommender.backbone
    if backbone.base is not None:
        train_adapter(backbone.model)
    method.attach_catalog(backbone.model, recommender.catalog, popularity)
    trained = train_generator(
        backbone,
        [recommender.prompts],
        split.train,
        [str(user) for user in split.train_user_ids],
        generator=options.generator,
        training=dataclasses.replace(start.training(options.training), teacher=None),
        validate=None,
        output_dir=start.folder,
        seed=start.seed,
        tasks=TaskOptions({NEXT_ITEM: options.tasks.weights[NEXT_ITEM]}),
        names_items=method.names_items,
        long_history=method.long_history,
        weights=split.label_weights(),
    )
    return Fitted(recommender.after_training(popularity), {"training": trained.history})
