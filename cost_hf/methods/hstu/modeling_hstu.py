"""`HstuModel`: histories of items → HSTU layers → scores of the whole catalog, as a Transformers model.

arXiv 2402.17152, without its bias of time differences: histories are items in order. Items, scores and losses are those
of SASRec.
"""

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
    layer_class = HstuLayer
    _no_split_modules = ("HstuLayer",)
