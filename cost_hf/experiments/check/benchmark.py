"""Short measurements of the real parts of a recipe on this machine: a few steps each, on batches of real lengths.

Speeds differ more between machines and models than any table could say, and a few seconds of the real thing are enough
to tell minutes from hours. All figures are CPU seconds of one thread, the fastest of a few repetitions, because a wall
clock on a busy machine measures the others' work; `wall_seconds` turns them into time on an idle one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cost_hf.data.splits import Split
from cost_hf.experiments.recipe import Recipe
from cost_hf.generators.backbones import Backbone, build_backbone
from cost_hf.generators.generator_training import training_dropout, training_examples
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.generators.samplers import LengthGroupedSampler, ShuffledSampler
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.recommenders.beam_ranker import BeamRanker
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie

BUDGET_SECONDS = 1.0  # of one measurement, beyond its first repetition
THREAD_GAIN = 0.7  # n threads do n ** 0.7 times the work of one, as small models do
TIMED_BATCHES = 3
TIMED_USERS = 16
SASREC_POSITIONS = 1_024


@dataclass(frozen=True)
class GeneratorSpeed:
    """Speed of a recipe's generator, in CPU seconds of one thread.

    Attributes:
        epoch_seconds: one pass over the training examples.
        user_seconds: ranking one user, by number of beams.
        parameters: weights of the model.
    """

    epoch_seconds: float
    user_seconds: dict[int, float]
    parameters: int


def time_generator(recipe: Recipe, item_ids: list[str], split: Split) -> GeneratorSpeed:
    """Time training steps and beam search of the recipe's generator, untrained, on this split's sequences.

    Args:
        recipe: gives generator, training and level sizes.
        item_ids: of the catalog, N.
        split: training sequences and validation cases.
    """
    catalog = _stand_in_catalog(recipe, item_ids)
    backbone = build_backbone(recipe.generator, catalog, seed=0)
    prompts = backbone.prompts(catalog)[0]
    epoch_seconds = _epoch_seconds(recipe, backbone, prompts, split)
    trie = SidTrie.from_catalog(catalog)
    cases = split.validation.sample(TIMED_USERS, seed=0)
    histories = torch.from_numpy(cases.histories_matrix(np.arange(len(cases))))
    user_seconds = {}
    for beams in {recipe.training.validation_beams, recipe.evaluation.num_beams}:
        ranker = BeamRanker(backbone.model.eval(), prompts, trie, num_beams=beams)

        def rank(ranker: BeamRanker = ranker, beams: int = beams) -> None:
            ranker.rank(histories, top_k=beams, user_ids=list(cases.user_ids))

        user_seconds[beams] = fastest(rank) / len(cases)
    return GeneratorSpeed(epoch_seconds, user_seconds, sum(weight.numel() for weight in backbone.model.parameters()))


def time_quantizer(recipe: Recipe, *, num_items: int, item_dim: int) -> float:
    """Return the CPU seconds of one epoch of the recipe's quantizer on N vectors of this width."""
    options = recipe.codes
    config = CostConfig(
        item_dim=item_dim,
        hidden_sizes=options.hidden_sizes,
        latent_dim=options.latent_dim,
        level_sizes=options.level_sizes,
        contrastive_weight=0.1,  # the dearest of the objectives
        reconstruction_weight=1.0,
    )
    model = CostModel(config)
    size = min(options.batch_size, num_items)
    batch = torch.nn.functional.normalize(torch.randn(size, item_dim, generator=torch.Generator().manual_seed(0)))
    step = training_step(model, {"item_embeddings": batch})
    return fastest(step) * num_items / size


def time_sasrec(num_items: int, positions: int, *, width: int) -> float:
    """Return the CPU seconds of one epoch of a SASRec: full softmax over N items at every training position."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(SASREC_POSITIONS, width, generator=generator, requires_grad=True)
    table = torch.randn(num_items, width, generator=generator, requires_grad=True)
    labels = torch.randint(num_items, (SASREC_POSITIONS,), generator=generator)

    def step() -> None:
        nn.functional.cross_entropy(hidden @ table.T, labels).backward()

    return fastest(step) * positions / SASREC_POSITIONS


def training_step(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """Return a function that makes one step of AdamW on a batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def step() -> None:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def fastest(work: Callable[[], object]) -> float:
    """Return the CPU seconds, in one thread, of the fastest of a few calls; the first one only warms up."""
    times: list[float] = []
    with one_thread():
        work()
        while not times or (sum(times) < BUDGET_SECONDS and len(times) < 5):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return min(times)


def wall_seconds(cpu_seconds: float, threads: int) -> float:
    """Return the time that work of so many CPU seconds takes on an idle machine."""
    return cpu_seconds / threads**THREAD_GAIN


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _epoch_seconds(recipe: Recipe, backbone: Backbone, prompts: PromptBuilder, split: Split) -> float:
    """Time a few batches of an epoch and scale by its tokens, to which the work is proportional; padding counts.

    An empty history still has a token that marks its begin or end and, read by another part, those of its target.
    """
    dataset, collator = training_examples(
        backbone, [prompts], split.train, list(split.train_user_ids), training=recipe.training
    )
    size, lengths = recipe.training.batch_size, dataset.lengths
    tokens = lengths.astype(float) + (0 if prompts.is_causal else prompts.item_tokens.shape[1])
    sampler: ShuffledSampler = LengthGroupedSampler(lengths, batch_size=size, seed=0)
    training_dropout(backbone, recipe.generator)
    if prompts.is_causal:  # packed: hardly any padding, in any order
        sampler = ShuffledSampler(len(dataset), seed=0)
    order = np.fromiter(sampler, dtype=np.int64)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    filled = np.array([tokens[batch].sum() for batch in batches])
    padded = np.array([len(batch) * tokens[batch].max() for batch in batches])
    work = filled if prompts.is_causal else padded
    chosen = np.random.default_rng(0).permutation(len(batches))[:TIMED_BATCHES]
    # `fastest` warms up on the first batch; its memory is then the optimizer's
    seconds = sum(
        fastest(training_step(backbone.model, collator([dataset[int(row)] for row in batches[number]])))
        for number in chosen
    )
    return float(seconds / work[chosen].sum() * work.sum())


def _stand_in_catalog(recipe: Recipe, item_ids: list[str]) -> Catalog:
    """Return a catalog with the recipe's sizes whose items are spread evenly over the codes."""
    sizes = recipe.codes.level_sizes
    places = int(np.prod(sizes, dtype=object))
    numbers = [row * places // len(item_ids) for row in range(len(item_ids))]
    codes = np.stack(np.unravel_index(np.array(numbers, dtype=np.int64), sizes), axis=1)
    policy = "append" if recipe.catalog.collisions == "append" else "none"
    return Catalog.from_codes(
        item_ids, codes, level_sizes=sizes, collisions=policy, append_size=recipe.catalog.append_size
    )
