"""What quantizer, generator and search of a recipe will cost on this machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cost_hf.generators.distillation import SOFT_LABELS, ListTable, TeacherLists
from cost_hf.generators.generator_training import training_dropout, training_examples
from cost_hf.generators.ranking_trainer import LengthGroupedSampler, ShuffledSampler
from cost_hf.methods.base import DataFacts, Estimate, collaborative_method
from cost_hf.methods.benchmarking import SEEN_SETTINGS, fastest, training_step, weights_mb
from cost_hf.methods.generative.teacher import MAX_POSITIONS
from cost_hf.methods.generative.teacher_method import teacher_method
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie

if TYPE_CHECKING:
    from cost_hf.generators.backbones import Backbone
    from cost_hf.generators.options import TrainingOptions
    from cost_hf.generators.prompts import PromptBuilder
    from cost_hf.methods.generative.method import GenerativeMethod, GenerativeOptions
    from cost_hf.quantizers.base import CodesOptions

NON_GRADIENT_SECONDS = 10.0  # of CPU: residual k-means, categories or random codes
TIMED_BATCHES = 3
TIMED_USERS = 16


def estimate(method: GenerativeMethod[Any], facts: DataFacts) -> Estimate | str:
    """Return the costs of a recipe from timed steps of its untrained parts, or why they can't be measured."""
    options: GenerativeOptions = method.options
    if options.generator.backbone is not None:
        return f"the pretrained backbone {options.generator.backbone!r} is not loaded for a check"
    num_items = facts.tables.num_items
    try:
        sizes = options.codes.sizes_for(num_items, facts.item_dim)
    except ValueError as error:
        return str(error)
    if options.catalog.collisions == "append" and math.prod(sizes) * options.catalog.append_size < num_items:
        return f"codes of {sizes} have no room for {num_items:,} items"
    codes = _codes_seconds(options.codes, facts)
    if isinstance(codes, str):
        return codes
    assumptions = [f"all {options.training.epochs} epochs (training may stop early)"]
    if options.codes.needs_collaborative_vectors:
        source = collaborative_method(options.codes.collaborative_method).estimate(facts)
        if isinstance(source, str):
            return source
        codes += sum(seconds for stage, seconds in source.seconds.items() if stage != "evaluation")
        assumptions += source.assumptions
    taught: dict[str, float] = {}
    if options.training.has_teacher:
        teacher = teacher_seconds(options.training, facts)
        if isinstance(teacher, str):
            return teacher
        taught = {"teacher": teacher}
    catalog = _stand_in_catalog(options, sizes, facts.tables.items["item_id"].tolist())
    backbone, catalog = method.untrained(catalog, facts.item_dim)
    prompts = backbone.prompts(catalog)[0]
    training = options.training.epochs * _epoch_seconds(method, backbone, prompts, facts)
    validations = math.ceil(options.training.epochs / options.training.validate_every)
    validated = min(options.training.validation_users, len(facts.split.validation))
    parts = (backbone.model.eval(), prompts, SidTrie.from_catalog(catalog), catalog, facts.split.popularity(num_items))
    beams = options.training.validation_beams
    training += validations * validated * _user_seconds(method.ranker(*parts, beams=beams), facts, top_k=beams)
    beams = facts.evaluation.num_beams
    ranker = method.evaluation_ranker(*parts, beams=beams)
    evaluation = SEEN_SETTINGS * facts.cases * _user_seconds(ranker, facts, top_k=beams)
    seconds = {"codes": codes, **taught, "generator": training, "evaluation": evaluation}
    return Estimate(seconds, weights_mb(backbone.model), assumptions)


def teacher_seconds(options: TrainingOptions, facts: DataFacts) -> float | str:
    """Return the CPU seconds of fitting a teacher once a fold and once to all, and of its lists, or why not."""
    found = teacher_method(str(options.teacher)).estimate(facts)
    if isinstance(found, str):
        return f"teacher {options.teacher}: {found}"
    fitting = sum(seconds for stage, seconds in found.seconds.items() if stage != "evaluation")
    lists = sum(min(len(rows), MAX_POSITIONS) for rows in facts.split.train) + facts.tables.num_items
    listing = found.seconds.get("evaluation", 0.0) / (SEEN_SETTINGS * facts.cases) * lists
    return (options.teacher_folds + 1) * fitting + listing


def _codes_seconds(options: CodesOptions, facts: DataFacts) -> float | str:
    """Return the CPU seconds of fitting the quantizer, or why they can't be measured."""
    timed = options.timed_step(num_items=facts.tables.num_items, item_dim=facts.item_dim)
    if timed is None:
        return NON_GRADIENT_SECONDS
    if isinstance(timed, str):
        return timed
    step, steps = timed
    return steps * fastest(step)


def _user_seconds(ranker: Any, facts: DataFacts, *, top_k: int) -> float:
    """Return the CPU seconds of ranking one user."""
    cases = facts.split.validation.sample(TIMED_USERS, seed=0)
    histories = torch.from_numpy(cases.histories_matrix(np.arange(len(cases))))
    users = list(cases.user_ids)
    return fastest(lambda: ranker.rank(histories, top_k=top_k, user_ids=users)) / len(cases)


def _epoch_seconds(
    method: GenerativeMethod[Any], backbone: Backbone, prompts: PromptBuilder, facts: DataFacts
) -> float:
    """Time a few batches of an epoch and scale by its tokens, to which the work is proportional; padding counts.

    An empty history still has a token that marks its begin or end and, read by another part, those of its target.
    """
    options: GenerativeOptions = method.options
    split = facts.split
    dataset, collator = training_examples(
        backbone,
        [prompts],
        split.train,
        list(split.train_user_ids),
        training=options.training,
        names_items=method.names_items,
        long_history=method.long_history,
        teacher=_stand_in_lists(options.training, facts) if options.training.has_teacher else None,
    )
    size = options.training.batch_size
    lengths = dataset.lengths
    tokens = lengths.astype(float) + (0 if prompts.is_causal else prompts.item_tokens.shape[1])
    sampler: ShuffledSampler = LengthGroupedSampler(lengths, batch_size=size, seed=0)
    training_dropout(backbone, options.generator)
    if prompts.is_causal:  # packed: hardly any padding, in any order
        sampler = ShuffledSampler(len(dataset), seed=0)
    order = np.fromiter(sampler, dtype=np.int64)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    filled = np.array([tokens[batch].sum() for batch in batches])
    padded = np.array([len(batch) * tokens[batch].max() for batch in batches])
    work = filled if prompts.is_causal else padded
    chosen = np.random.default_rng(0).permutation(len(batches))[:TIMED_BATCHES]
    # `fastest` warms up on the first batch; its memory is then the optimizer's
    seconds = 0.0
    for number in chosen:
        batch = collator([dataset[int(row)] for row in batches[number]])
        inputs = {name: part for name, part in batch.items() if name not in SOFT_LABELS}  # the trainer reads these
        seconds += fastest(training_step(backbone.model, inputs))
    return float(seconds / work[chosen].sum() * work.sum())


def _stand_in_lists(options: TrainingOptions, facts: DataFacts) -> TeacherLists:
    """Return lists of random items, which take the time of a teacher's."""
    num_items = facts.tables.num_items
    tables = [
        ListTable.empty([len(rows) for rows in facts.split.train], width=options.teacher_items, most=MAX_POSITIONS),
        ListTable.empty([1] * num_items, width=options.teacher_items, most=1),
    ]
    for table in tables:
        table.items[:] = np.random.default_rng(0).integers(num_items, size=table.items.shape)
        table.scores[:] = 0.0
    return TeacherLists(*tables)


def _stand_in_catalog(options: GenerativeOptions, sizes: list[int], item_ids: list[str]) -> Catalog:
    """Return a catalog with these codes per level whose items are spread evenly over the codes."""
    capacity = int(np.prod(sizes, dtype=object))
    numbers = [row * capacity // len(item_ids) for row in range(len(item_ids))]
    codes = np.stack(np.unravel_index(np.array(numbers, dtype=np.int64), sizes), axis=1)
    policy = "append" if options.catalog.collisions == "append" else "none"
    return Catalog.from_codes(
        item_ids, codes, level_sizes=sizes, collisions=policy, append_size=options.catalog.append_size
    )
