"""Tiny recommenders of every kind, and what two directories of them have in common."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cost_hf.files import read_json
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.semantic_ids.catalog import Catalog
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.ranker.ranker_toys import toy_ranker
from tests.methods.sasrec.test_sasrec_recommender import toy as toy_sasrec
from tests.recommenders.toys import TOY_IDS, toy_catalog, toy_recommender, toy_t5, toy_text_recommender

KINDS: dict[str, Callable[[], Recommender]] = {
    "causal": lambda: toy_text_recommender(),
    "seq2seq": lambda: toy_text_recommender(toy_t5, titles=False),
    "ids": lambda: toy_sasrec("ids"),
    "texts": lambda: toy_sasrec("text"),
    "counting": lambda: toy_counting("markov_text"),
    "fusion": lambda: toy_fusion(),
    "ranker": lambda: toy_ranker(),
}


def other() -> GenerativeRecommender:
    """Return a recommender that has fewer parts than those above: no quantizer, text encoder, titles, journal."""
    codes = toy_catalog(20, (4, 5, 3), seed=3).codes[:, :3]
    return toy_recommender(Catalog.from_codes(TOY_IDS, codes, level_sizes=(4, 5, 3)), max_history=4)


def with_journal(system: Recommender) -> Recommender:
    """Return a recommender with a journal and an older catalog."""
    system.remove_items(["item004"])
    return system


def answers(system: Recommender) -> list[tuple[str, float]]:
    return [(answer.item_id, float(np.round(answer.score, 4))) for answer in system.recommend(["item001"], top_k=8)]


def parts_of(directory: Path) -> set[str]:
    """Return the files that a manifest names, itself included."""
    manifest = read_json(directory / "recommender.json")
    return {*manifest["files"], "recommender.json", *(["journal.jsonl"] if manifest["journal"] else [])}


def files_of(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory, without its lock."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
