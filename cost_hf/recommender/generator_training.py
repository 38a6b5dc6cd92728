"""Fine-tuning a generator: all positions of a user at once (causal), or every prefix (seq2seq)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, TrainerCallback

from cost_hf.recommender.backbones import Backbone, GeneratorOptions
from cost_hf.recommender.collation import (
    CausalCollator,
    OnePrefixSampler,
    PrefixCollator,
    PrefixDataset,
    SequenceDataset,
)
from cost_hf.recommender.dropout import add_residual_dropout
from cost_hf.recommender.prompts import PromptBuilder
from cost_hf.recommender.ranking_trainer import (
    RankingTrainer,
    RankingTrainingOptions,
    Validate,
    checkpoints_of,
    remove_checkpoints,
)

__all__ = [
    "GeneratorTrainer",
    "TrainedGenerator",
    "TrainingOptions",
    "Validate",
    "divide_logits",
    "remove_checkpoints",
    "train_generator",
    "training_examples",
]


@dataclass
class TrainingOptions(RankingTrainingOptions):
    """Recipe section `training` (of the generator)."""

    embedding_learning_rate_multiplier: float = field(
        default=1.0, metadata={"help": "factor on the learning rate of the shared embedding (T5 from scratch: 15)"}
    )
    optimizer: str = field(
        default="adamw", metadata={"help": "adamw, or adafactor (steps relative to a weight's size, as T5X trains)"}
    )
    first_items: bool = field(
        default=False, metadata={"help": "seq2seq: learn a user's first item too, from an empty history"}
    )
    target_items: int = field(
        default=1, metadata={"help": "seq2seq: following items that the decoder learns to write for a prefix"}
    )
    prefixes: str = field(
        default="every", metadata={"help": "seq2seq: every prefix of a user in an epoch, or one at random"}
    )
    validation_beams: int = field(default=10, metadata={"help": "beams in validation"})
    temperature: float = field(
        default=1.0,
        metadata={
            "help": "divides the logits in the loss; LETTER's ranking-guided loss, arXiv 2405.07314, CE(logits / tau)"
        },
    )

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        super().validate()
        for name in ("embedding_learning_rate_multiplier", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name} must be above 0, got {getattr(self, name)!r}")
        for name, names in (("optimizer", ("adamw", "adafactor")), ("prefixes", ("every", "one"))):
            if getattr(self, name) not in names:
                raise ValueError(f"training.{name} must be {' or '.join(names)}, got {getattr(self, name)!r}")
        if self.target_items < 1:
            raise ValueError(f"training.target_items must be at least 1, got {self.target_items!r}")
        if self.validation_beams < 10:
            raise ValueError(
                f"training.validation_beams must be at least 10 for NDCG@10, got {self.validation_beams!r}"
            )


class GeneratorTrainer(RankingTrainer):
    """Ranking trainer whose shared embedding may learn faster."""

    def __init__(self, model: PreTrainedModel, options: TrainingOptions, **kwargs: Any) -> None:
        super().__init__(model, options, **kwargs)
        self._options = options
        if model.config.is_encoder_decoder:
            # T5 takes `num_items_in_batch` and ignores it: its loss is a mean that accumulation still has to divide
            self.model_accepts_loss_kwargs = False

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Give the shared embedding its own learning rate and no decay, and every weight the optimizer asked for."""
        target = self.model if model is None else model
        factor = self._options.embedding_learning_rate_multiplier
        if self.optimizer is None and self._options.optimizer == "adafactor":
            # torch's scales every step by the size of the weight, as T5X does; the one of Trainer does not
            self.optimizer = torch.optim.Adafactor(self._parameter_groups(target, factor), lr=self.args.learning_rate)
        elif self.optimizer is None and factor != 1.0:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = optimizer_class(self._parameter_groups(target, factor), **settings)
        return super().create_optimizer(model)

    def _parameter_groups(self, model: Any, embedding_factor: float) -> list[dict[str, Any]]:
        shared = self.accelerator.unwrap_model(model).get_input_embeddings().weight
        decayed = set(self.get_decay_parameter_names(model))
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        rest = [(name, weight) for name, weight in named if weight is not shared]
        return [
            {"params": [w for n, w in rest if n in decayed], "weight_decay": self.args.weight_decay},
            {"params": [w for n, w in rest if n not in decayed], "weight_decay": 0.0},
            {"params": [shared], "weight_decay": 0.0, "lr": self.args.learning_rate * embedding_factor},
        ]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        if self._options.prefixes == "one" and isinstance(self.train_dataset, PrefixDataset):
            group = self.args.train_batch_size * self.args.world_size
            return OnePrefixSampler(self.train_dataset, batch_size=group, seed=self.args.seed)
        return super()._get_train_sampler(train_dataset)


@dataclass(frozen=True)
class TrainedGenerator:
    """The best checkpoint's model and the log of the run (one dict a logging event)."""

    model: PreTrainedModel
    history: list[dict[str, float]]


def train_generator(
    backbone: Backbone,
    prompts: PromptBuilder,
    sequences: list[Any],
    user_ids: list[str],
    *,
    generator: GeneratorOptions,
    training: TrainingOptions,
    validate: Validate,
    output_dir: str | Path,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainedGenerator:
    """Train on users' sequences, keep the checkpoint with the best validation NDCG@10, continue a killed run.

    Args:
        backbone: model and vocabulary, trained in place.
        prompts: layout of the catalog's items; its kind decides between all-position and every-prefix training.
        sequences: item rows of every training user, oldest first.
        validate: ranks the validation sample with a model and returns metrics, `ndcg@10` among them.
        output_dir: holds `checkpoints/` while the run is going on.
        callbacks: of the trainer, such as one that stops it at a limit of time.
    """
    training.validate()
    dataset, collator = training_examples(prompts, sequences, user_ids, generator=generator, training=training)
    handles = add_residual_dropout(backbone.model, generator.dropout or 0.0) if prompts.is_causal else []
    if len(dataset) == 0:
        raise ValueError(
            f"the training part holds no example ({len(sequences)} users); lower data.min_user_interactions or give "
            "longer histories"
        )
    if training.temperature != 1.0:
        handles.append(divide_logits(backbone.model, training.temperature))
    trainer = GeneratorTrainer(
        backbone.model,
        training,
        dataset=dataset,
        collator=collator,
        groups_by_length=not prompts.is_causal,  # packed rows are full in any order
        directory=checkpoints_of(output_dir),
        seed=seed,
        validate=validate,
    )
    for callback in callbacks:
        trainer.add_callback(callback)
    model = trainer.fit()
    for handle in handles:
        handle.remove()
    model.config.use_cache = True  # Trainer turns it off, and generation would stay slow after loading
    return TrainedGenerator(model, trainer.state.log_history)


def training_examples(
    prompts: PromptBuilder,
    sequences: list[Any],
    user_ids: list[str],
    *,
    generator: GeneratorOptions,
    training: TrainingOptions,
) -> tuple[Any, Any]:
    """Return the dataset of a generator's training and the collator of its batches; arguments as `train_generator`."""
    if prompts.is_causal:
        # a full prompt and its answer: the answer's positions must be trained as well
        return SequenceDataset(sequences, user_ids, max_items=generator.max_history + 1), CausalCollator(prompts)
    dataset = PrefixDataset(
        sequences,
        user_ids,
        max_history=generator.max_history,
        with_first_items=training.first_items,
        target_items=training.target_items,
    )
    return dataset, PrefixCollator(prompts)


def divide_logits(model: PreTrainedModel, temperature: float) -> Any:
    """Divide the logits by `temperature` in training, and so in the model's own loss; return the hook's handle.

    Searches see the plain logits: the temperature says how hard the loss pushes competing items down, not how they
    are ranked.
    """

    def hook(module: nn.Module, _args: Any, logits: Tensor) -> Tensor:
        return logits / temperature if module.training else logits

    return model.get_output_embeddings().register_forward_hook(hook)
