"""Model classes of a method, in place of those of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import LlamaForCausalLM, PreTrainedConfig, PreTrainedModel, T5ForConditionalGeneration

SCRATCH: dict[str, type[PreTrainedModel]] = {"llama": LlamaForCausalLM, "t5": T5ForConditionalGeneration}
NOT_COPIED = {"model_type", "architectures", "transformers_version", "auto_map", "_name_or_path"}


@dataclass(frozen=True)
class ModelClasses:
    """Model classes that a method brings in place of those of transformers.

    A class extends the one that it replaces, and its `config_class` extends that one's with a `model_type` of its own.
    The module `Method.auto_models` registers both (`AutoConfig.register`, `AutoModelForSeq2SeqLM.register` or
    `AutoModelForCausalLM.register`), so that a saved generator loads by its Auto class. What the search uses of a class
    is in `cost_hf.search.protocol`. The name of a causal class ends in `ForCausalLM`, by which transformers finds its
    loss.

    Attributes:
        classes: from the `model_type` of transformers to the class: `llama` and `t5` from scratch, that of the backbone
            where one is pretrained. A type that is not listed is an error.
        config_fields: values of fields that the configuration classes add, and of others that differ from the stock
            generator's.
    """

    classes: Mapping[str, type[PreTrainedModel]]
    config_fields: Mapping[str, Any] = field(default_factory=dict)

    def of_type(self, model_type: str) -> type[PreTrainedModel]:
        """Return the class for a model type; raise ValueError where there is none."""
        if model_type not in self.classes:
            raise ValueError(
                f"this method has model classes for {', '.join(self.classes)}, got a {model_type}; choose another "
                "generator.kind or generator.backbone"
            )
        return self.classes[model_type]

    def build(self, model_type: str, **values: Any) -> PreTrainedModel:
        """Return a model with new weights.

        Weights that the class of transformers has are drawn as that class draws them, before all others: the parts
        that a method adds change nothing of a generator for the same seed.

        Args:
            model_type: a key of `classes`.
            values: of the configuration.
        """
        own = self.of_type(model_type)
        stock = SCRATCH[model_type]
        config = self.config(model_type, **values)
        base = stock(config)
        if own is stock:
            return base
        # transformers initialises classes outside of it by other rules (the shared embedding of T5 is left out)
        model = own(config)
        weights = model.state_dict()
        for name, value in base.state_dict().items():
            if name in weights and weights[name].shape == value.shape:
                weights[name].copy_(value)
        return model

    def config(self, model_type: str, **values: Any) -> PreTrainedConfig:
        """Return the configuration of the class for a model type, with `config_fields`."""
        return self.of_type(model_type).config_class(**{**values, **self.config_fields})

    def extended(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return the configuration of the class that takes the place of a pretrained model's."""
        values = {name: value for name, value in config.to_dict().items() if name not in NOT_COPIED}
        return self.config(config.model_type, **values)


STOCK = ModelClasses(SCRATCH)
