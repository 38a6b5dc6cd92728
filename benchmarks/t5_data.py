"""Codes and split of `t5_study.py` in one file: rows of the catalog as numbers, without ids or texts."""

from pathlib import Path

import numpy as np
from accelerate import PartialState

from cost_hf.data.prepare import prepare_data
from cost_hf.data.splits import Targets
from cost_hf.experiments.pipeline import make_workspace
from cost_hf.experiments.recipe import Recipe
from cost_hf.methods.codes_stage import codes_stage
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.stages import Stages

FILE = "study.npz"


class Study:
    """What `prepare` wrote."""

    def __init__(self, folder: Path):
        self.arrays = dict(np.load(folder / FILE))
        codes = self.arrays["codes"]
        sizes = tuple(self.arrays["level_sizes"].tolist())
        ids = [str(row) for row in range(len(codes))]
        self.catalog = Catalog.from_codes(ids, codes, level_sizes=sizes, collisions="none", quantizer_digest="study")
        self.train = self._sequences("train")
        self.popularity = np.bincount(np.concatenate(self.train), minlength=len(codes))

    def targets(self, name: str, size: int | None) -> Targets:
        """Return the cases of a part, or a seeded sample of them."""
        users = self.arrays[f"{name}_users"].astype(str).astype(object)
        return Targets(users, self._sequences(name), self.arrays[f"{name}_items"]).sample(size, seed=0)

    def _sequences(self, name: str) -> list[np.ndarray]:
        return np.split(self.arrays[f"{name}_rows"], np.cumsum(self.arrays[f"{name}_lengths"])[:-1])


def prepare(folder: Path, *, data: str, vectors: str) -> None:
    """Write split and codes of the recipe cost_industrial under the split that comes with the data."""
    PartialState(cpu=True)
    settings = {"data.path": data, "data.split": "source", "vectors.model": vectors}
    recipe = Recipe.load("cost_industrial", settings)
    stages = Stages(folder / "stages")
    tables = prepare_data(recipe.data, template=recipe.vectors.template)
    workspace = make_workspace(stages, recipe, tables)
    codes = codes_stage(workspace, recipe.options.codes, seed=0)
    catalog = recipe.system.build_catalog(workspace, codes)
    parts = {"train": tables.split.train, "validation": tables.split.validation, "test": tables.split.test}
    arrays = {"codes": np.asarray(catalog.codes), "level_sizes": np.array(catalog.level_sizes)}
    for name, part in parts.items():
        rows = part.histories if isinstance(part, Targets) else part
        arrays |= {f"{name}_rows": np.concatenate(rows), f"{name}_lengths": np.array([len(row) for row in rows])}
        if isinstance(part, Targets):
            arrays |= {f"{name}_items": part.items, f"{name}_users": np.unique(part.user_ids, return_inverse=True)[1]}
    np.savez_compressed(folder / FILE, **arrays)
    print(f"wrote {folder / FILE}")
