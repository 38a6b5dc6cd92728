"""The stages that make a recommender, one function each: vectors → codes → catalog → generator, or SASRec alone.

Each result lies on disk and is skipped when nothing that it depends on changed (`stages.py`). Nothing of the
evaluation parts is fitted to, and with the cold-start protocol nothing of the cold items.
"""

from cost_hf.building.generators import generator_stage
from cost_hf.building.identifiers import build_catalog, codes_stage, encoder_parts, vector_stage
from cost_hf.building.systems import TRAINING_LOG, sasrec_stage

__all__ = [
    "TRAINING_LOG",
    "build_catalog",
    "codes_stage",
    "encoder_parts",
    "generator_stage",
    "sasrec_stage",
    "vector_stage",
]
