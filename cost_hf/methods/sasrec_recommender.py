"""A trained SASRec as a recommender: the same door as the generative one, without semantic IDs.

Its item table is rows, not codes, so the files hold the item ids in row order and a digest that ties them to the
weights: another catalog would be scored with the wrong rows.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file, save_file

from cost_hf.files import atomic_path, content_digest, read_json, write_json
from cost_hf.methods.sasrec import SasRecModel
from cost_hf.methods.sasrec_scorer import SasRecScorer
from cost_hf.recommender.bundle import MANIFEST
from cost_hf.recommender.door import BaseRecommender
from cost_hf.recommender.rankers import ScoringRanker
from cost_hf.semantic_ids.item_rows import ItemList

FORMAT = 1
KIND = "sasrec"


class SasRecRecommender(BaseRecommender):
    """Recommends catalog items by the scores of a SASRec model.

    Args:
        model: trained on the rows of `catalog`.
        catalog: the items.
        popularity: training clicks of every row, `[N]`.
        item_vectors: frozen item vectors `[N, E]`, for models with text inputs.
    """

    source = KIND
    catalog: ItemList

    def __init__(
        self,
        model: SasRecModel,
        catalog: ItemList,
        *,
        popularity: np.ndarray,
        item_vectors: np.ndarray | None = None,
    ):
        if len(popularity) != len(catalog) or model.config.num_items != len(catalog):
            raise ValueError(
                f"model and popularity must fit the catalog of {len(catalog)} items, got {model.config.num_items!r} "
                f"items and {len(popularity)!r} counts; take all of them from one run"
            )
        super().__init__(catalog, popularity=popularity)
        self.model, self.item_vectors = model.eval(), item_vectors
        self.scorer = SasRecScorer(self.model, item_vectors)

    def to(self, device: torch.device | str) -> "SasRecRecommender":
        """Move the model to a device, in place."""
        self.model.to(device)
        self.scorer = SasRecScorer(self.model, self.item_vectors)
        return self

    @property
    def network(self) -> SasRecModel:
        """The SASRec model."""
        return self.model

    def ranker_for(self, top_k: int) -> ScoringRanker:
        """Return the ranking of the whole catalog; any length is possible."""
        return ScoringRanker(self.scorer, popularity=self.popularity, item_ids=self.catalog.item_ids)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write model, items, popularity and item vectors into `directory`, the manifest last."""
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        with atomic_path(target / "model") as temporary:
            self.model.save_pretrained(temporary)
        columns = {"item_id": pa.array(self.catalog.item_ids, pa.string())}
        if self.catalog.titles is not None:
            columns["title"] = pa.array(self.catalog.titles, pa.string())
        with atomic_path(target / "items.parquet") as temporary:
            pq.write_table(pa.table(columns), temporary)
        tensors = {"popularity": self.popularity.astype(np.int64), "removed": self.catalog.removed.astype(np.uint8)}
        if self.item_vectors is not None:
            tensors["item_vectors"] = np.ascontiguousarray(self.item_vectors, dtype=np.float32)
        with atomic_path(target / "items.safetensors") as temporary:
            save_file(tensors, temporary)
        digest = content_digest(list(self.catalog.item_ids))
        write_json(target / MANIFEST, {"format": FORMAT, "kind": KIND, "items_digest": digest})

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> "SasRecRecommender":
        """Read what `save_pretrained` wrote; a run directory stands for its `recommender` folder.

        Raises:
            OSError: where the directory holds no recommender.
            ValueError: where it holds another kind, or items that are not those of the model.
        """
        source = next((path for path in (Path(directory), Path(directory) / "recommender") if _holds(path)), None)
        if source is None:
            raise FileNotFoundError(f"{directory} holds no {MANIFEST}; give a run directory or its recommender/ folder")
        manifest = read_json(source / MANIFEST)
        if manifest.get("kind") != KIND:
            raise ValueError(f"{source} holds another kind of recommender; load it by cost_hf.Recommender")
        table = pq.read_table(source / "items.parquet")
        item_ids = tuple(table["item_id"].to_pylist())
        found = content_digest(list(item_ids))
        if found != manifest["items_digest"]:
            raise ValueError(
                f"the items in {source} have digest {found}, {MANIFEST} asks for {manifest['items_digest']}; "
                "the files do not belong together: copy the whole directory of one run"
            )
        titles = tuple(table["title"].to_pylist()) if "title" in table.column_names else None
        tensors = load_file(source / "items.safetensors")
        return cls(
            SasRecModel.from_pretrained(source / "model"),
            ItemList(item_ids, tensors["removed"].astype(bool), titles),
            popularity=tensors["popularity"],
            item_vectors=tensors.get("item_vectors"),
        )


def _holds(path: Path) -> bool:
    return (path / MANIFEST).is_file()
