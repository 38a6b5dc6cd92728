"""Made-up shops: texts of products from small vocabularies, and the training items of a recommender of theirs."""

import numpy as np
import torch

from cost_hf.data import LsaEncoder
from cost_hf.experiments.drift.items import ItemValues, item_values
from cost_hf.experiments.drift.reference import Coding, TrainingItems
from cost_hf.experiments.drift.statistics import VERDICTS, statistic_of
from cost_hf.experiments.drift.thresholds import limits_of
from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.rkmeans import fit_rkmeans

KITCHEN = ("kettle", "teapot", "grinder", "filter", "toaster", "blender", "skillet", "whisk", "ladle", "sieve")
GARDEN = ("spade", "rake", "hose", "shears", "trowel", "mower", "barrow", "seeder", "trellis", "sprinkler")
COLOURS = ("red", "blue", "green", "white", "black", "silver", "copper", "yellow")
BRANDS = tuple(f"brand{number}" for number in range(12))


def products(count: int, *, seed: int, kinds=KITCHEN, colours=COLOURS, brands=BRANDS) -> list[str]:
    """Texts of products: a kind, a colour, a brand and a model, and sometimes a material."""
    generator = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        kind, colour, brand = (str(generator.choice(words)) for words in (kinds, colours, brands))
        material = " of steel" if generator.random() < 0.4 else ""
        texts.append(f"{colour} {kind} by {brand}{material}, model {generator.integers(40)}")
    return texts


def shop(count: int = 400, *, seed: int = 0) -> tuple[TrainingItems, LsaEncoder]:
    """The training items of a shop whose codes are residual k-means of LSA vectors, and its text encoder."""
    texts = products(count, seed=seed)
    lsa = LsaEncoder.fit(texts, dim=16)
    vectors = lsa.encode(texts)
    options = CodesOptions.of("rkmeans", level_sizes=[12, 12], pca_dim=8)
    quantizer = fit_rkmeans(torch.from_numpy(vectors), options.config(vectors.shape[1]), seed=0)
    codes = quantizer.encode(torch.from_numpy(vectors)).numpy()
    ids = [f"item{number}" for number in range(count)]
    return TrainingItems(ids, texts, vectors, {"": Coding(quantizer, codes)}), lsa


def statuses(found: ItemValues) -> dict[str, str]:
    """The verdict on every statistic."""
    limits = limits_of(found.samples, {name: statistic_of(name)[0].side for name in found.new})
    return {name: limits[name].status(value) for name, value in found.new.items()}


def verdict(item_ids: list[str], texts: list[str], training: TrainingItems, encoder, *, seed: int = 0) -> str:
    """The worst verdict on new items."""
    found = item_values(item_ids, texts, training, encoder, seed=seed)
    return max(statuses(found).values(), key=VERDICTS.index)
