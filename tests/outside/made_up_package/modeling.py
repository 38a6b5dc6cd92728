"""The model of the method, known to the Auto classes; importing it takes nothing but torch and transformers."""

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel


class MeanConfig(PreTrainedConfig):
    """Sizes of the model."""

    model_type = "made_up_mean"
    num_items: int = 1
    hidden_size: int = 16
    has_ids: bool = True
    text_dim: int | None = None


class MeanModel(PreTrainedModel):
    """Item embeddings; a user is the mean of those of the history."""

    config_class = MeanConfig

    def __init__(self, config: MeanConfig):
        super().__init__(config)
        self.items = nn.Embedding(config.num_items, config.hidden_size)
        self.post_init()

    def item_table(self, item_vectors: Tensor | None = None) -> Tensor:
        """Return the embeddings `[N, D]`."""
        return self.items.weight

    def targets(self, table: Tensor) -> Tensor:
        """Return the item side of the scores `[N, D]`."""
        return table

    def users(self, histories: Tensor, table: Tensor) -> Tensor:
        """Return the means `[B, D]` of histories `[B, T]`."""
        is_item = (histories >= 0)[..., None]
        return (table[histories.clamp_min(0)] * is_item).sum(1) / is_item.sum(1).clamp_min(1)


AutoConfig.register("made_up_mean", MeanConfig, exist_ok=True)
AutoModel.register(MeanConfig, MeanModel, exist_ok=True)
