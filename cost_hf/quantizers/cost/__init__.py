"""The residual quantizer as a Hub closure: flat files that need torch, transformers and huggingface_hub only.

Importing it registers model and pipeline, so that `AutoModel` and `pipeline("semantic-id")` need no remote code.
"""

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_cost import CostConfig
from .modeling_cost import CostModel, CostOutput, CostPreTrainedModel
from .pipeline_cost import SemanticIdPipeline
from .residual_cost import QuantizedLatents, ResidualQuantizer

AutoConfig.register(CostConfig.model_type, CostConfig, exist_ok=True)
AutoModel.register(CostConfig, CostModel, exist_ok=True)
if "semantic-id" not in PIPELINE_REGISTRY.get_supported_tasks():
    PIPELINE_REGISTRY.register_pipeline(
        "semantic-id", pipeline_class=SemanticIdPipeline, pt_model=AutoModel, type="multimodal"
    )

__all__ = [
    "CostConfig",
    "CostModel",
    "CostOutput",
    "CostPreTrainedModel",
    "QuantizedLatents",
    "ResidualQuantizer",
    "SemanticIdPipeline",
]
