"""The model of the quantizer."""

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel


class HashConfig(PreTrainedConfig):
    """Sizes of the model."""

    model_type = "made_up_hash"
    item_dim: int = 4
    bits: int = 3


class HashModel(PreTrainedModel):
    """The sign of the product with a plane is the code of a level."""

    config_class = HashConfig

    def __init__(self, config: HashConfig):
        super().__init__(config)
        self.planes = torch.nn.Parameter(torch.zeros(config.bits, config.item_dim))
        self.post_init()

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Two codes a level."""
        return (2,) * self.config.bits

    def encode(self, item_embeddings: Tensor) -> Tensor:
        """Return the codes `[N, L]`."""
        return (item_embeddings @ self.planes.detach().T > 0).long()

    def level_vectors(self, level: int) -> None:
        """Return None: codes have no vectors."""

    def level_distances(self, item_embeddings: Tensor, prefix: Tensor) -> Tensor:
        """Return the distances to both codes of the next level, `[N, 2]`."""
        cosine = item_embeddings @ self.planes.detach()[prefix.shape[1]]
        return torch.stack([cosine, -cosine], 1)


def draw_planes(item_dim: int, *, bits: int, scale: float, seed: int) -> HashModel:
    """Return a model with random planes."""
    model = HashModel(HashConfig(item_dim=item_dim, bits=bits)).eval()
    with torch.no_grad():
        drawn = torch.randn(model.planes.shape, generator=torch.Generator().manual_seed(seed))
        model.planes.copy_(scale * drawn)
    return model


AutoConfig.register("made_up_hash", HashConfig, exist_ok=True)
AutoModel.register(HashConfig, HashModel, exist_ok=True)
