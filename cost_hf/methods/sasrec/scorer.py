"""A trained SASRec as a `Scorer` (`recommender/rankers.py`): one product with item vectors that are computed once."""

import numpy as np
import torch

from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel


class SasRecScorer:
    """Scores the whole catalog by a SASRec model.

    Args:
        model: in eval mode, whose weights stay as they are from now on.
        item_vectors: frozen item vectors of the catalog `[N, E]`, for models with text inputs. A model of text alone
            also scores items that its training never saw.
    """

    def __init__(self, model: SasRecModel, item_vectors: np.ndarray | None = None):
        self.model = model
        vectors = None if item_vectors is None else torch.from_numpy(item_vectors).to(model.device)
        with torch.inference_mode():
            self.table = model.item_table(vectors)  # [N, D]
            self.targets = model.targets(self.table)  # [N, D], for cosines the same at unit length

    def scores(self, histories: np.ndarray) -> np.ndarray:
        """Return scores, float32 `[B, N]`, of histories `[B, T]` (catalog rows, oldest first, -1 pads on the right).

        The latest `max_history` items are read. An empty history scores all items 0, so that popularity decides.
        """
        with torch.inference_mode():
            rows = torch.from_numpy(histories).to(self.model.device)
            return (self.model.users(rows, self.table) @ self.targets.T).cpu().numpy()
