"""Registers OPQ, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.quantizers.opq.configuration_opq import OpqConfig
from cost_hf.quantizers.opq.modeling_opq import OpqModel

AutoConfig.register(OpqConfig.model_type, OpqConfig, exist_ok=True)
AutoModel.register(OpqConfig, OpqModel, exist_ok=True)
