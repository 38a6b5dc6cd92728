"""`HstuModel`: histories of items → HSTU layers → scores of the whole catalog, as a Transformers model.

arXiv 2402.17152, without its bias of time differences: histories are items in order. Items, scores and losses are those
of SASRec.
"""

from torch import nn

from cost_hf.methods.sasrec.modeling_sasrec import SequenceModel

from .configuration_hstu import HstuConfig
from .layers_hstu import HstuLayer


class HstuModel(SequenceModel):
    """Hierarchical sequential transduction unit (HSTU) over item ids, text vectors or both.

    Args:
        config: sizes and objective.
    """

    config: HstuConfig
    base_model_prefix = "hstu"
    _no_split_modules = ("HstuLayer",)

    def __init__(self, config: HstuConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(HstuLayer(config) for _ in range(config.num_layers))
        self.output_norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.post_init()
