"""Registers GAOQ, so that `AutoModel.from_pretrained` finds its class without remote code."""

from transformers import AutoConfig, AutoModel

from cost_hf.quantizers.gaoq.configuration_gaoq import GaoqConfig
from cost_hf.quantizers.gaoq.modeling_gaoq import GaoqModel

AutoConfig.register(GaoqConfig.model_type, GaoqConfig, exist_ok=True)
AutoModel.register(GaoqConfig, GaoqModel, exist_ok=True)
