"""Fine-tuning a generator with `Trainer`, judged by what users see: NDCG@10 of items on validation users.

Language-model loss and ranking quality part ways (specs: LETTER selects on loss), so early stopping and the choice of
the checkpoint use the ranking metric. Batches are grouped by length by a sampler that is a function of (seed, epoch),
so a killed run continues bit for bit.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, SchedulerType, Trainer, TrainerControl, TrainingArguments

from cost_hf.checkpoints import drop_incomplete_checkpoints, last_complete_checkpoint
from cost_hf.recommender.backbones import Backbone, GeneratorOptions, add_residual_dropout
from cost_hf.recommender.collation import (
    CausalCollator,
    LengthGroupedSampler,
    PrefixCollator,
    PrefixDataset,
    SequenceDataset,
)
from cost_hf.recommender.early_stopping import ResumableEarlyStopping
from cost_hf.recommender.prompts import PromptBuilder

SELECTION_METRIC = "ndcg@10"
Validate = Callable[[PreTrainedModel], dict[str, float]]


@dataclass
class TrainingOptions:
    """Recipe section `training` (of the generator)."""

    epochs: int = field(default=17, metadata={"help": "passes over the training set"})
    batch_size: int = field(default=64, metadata={"help": "rows per device and step"})
    gradient_accumulation: int = field(default=1, metadata={"help": "steps summed before an update"})
    learning_rate: float = field(default=2e-3, metadata={"help": "peak learning rate"})
    embedding_learning_rate_multiplier: float = field(
        default=1.0, metadata={"help": "factor on the learning rate of the shared embedding (T5 from scratch: 15)"}
    )
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW weight decay"})
    beta2: float = field(default=0.98, metadata={"help": "AdamW second-moment decay"})
    warmup_steps: int = field(default=100, metadata={"help": "steps of linear warm-up"})
    scheduler: str = field(default="linear", metadata={"help": "learning-rate schedule, a transformers SchedulerType"})
    gradient_clip: float = field(default=1.0, metadata={"help": "largest gradient norm"})
    precision: str = field(default="auto", metadata={"help": "fp32, bf16, or auto (bf16 on CUDA, fp32 on CPU)"})
    validate_every: int = field(default=1, metadata={"help": "epochs between validations and checkpoints"})
    validation_users: int = field(default=512, metadata={"help": "size of the fixed seeded validation sample"})
    validation_beams: int = field(default=10, metadata={"help": "beams in validation"})
    patience: int | None = field(
        default=10, metadata={"help": "validations without a better NDCG@10 before stopping; null never stops"}
    )

    def validate(self) -> None:
        """Raise ValueError for values no run can have."""
        for name in ("epochs", "batch_size", "gradient_accumulation", "validate_every", "validation_users"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, got {getattr(self, name)!r}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"training.patience must be at least 1, or null to never stop, got {self.patience!r}")
        if self.learning_rate <= 0 or self.embedding_learning_rate_multiplier <= 0:
            raise ValueError(
                "training.learning_rate and embedding_learning_rate_multiplier must be above 0, got "
                f"{self.learning_rate!r} and {self.embedding_learning_rate_multiplier!r}"
            )
        if self.scheduler not in {kind.value for kind in SchedulerType}:
            names = ", ".join(kind.value for kind in SchedulerType)
            raise ValueError(f"training.scheduler must be one of {names}, got {self.scheduler!r}")
        if self.validation_beams < 10:
            raise ValueError(
                f"training.validation_beams must be at least 10 for NDCG@10, got {self.validation_beams!r}"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"training.precision must be auto, fp32 or bf16, got {self.precision!r}")


class GeneratorTrainer(Trainer):
    """Trainer whose evaluation is a ranking, whose batches are length-grouped and whose embedding may learn faster."""

    optimizer: Any
    control: TrainerControl

    def __init__(
        self, *args: Any, validate: Validate, lengths: Any, embedding_multiplier: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._validate, self._lengths, self._embedding_multiplier = validate, lengths, embedding_multiplier

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        # neighbours in the order go to different processes: the group is the batch of all of them
        group = self.args.train_batch_size * self.args.world_size
        return LengthGroupedSampler(self._lengths, batch_size=group, seed=self.args.seed)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Give the shared embedding its own learning rate and no decay where the multiplier asks for it."""
        target = self.model if model is None else model
        if self.optimizer is None and self._embedding_multiplier != 1.0:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = optimizer_class(self._parameter_groups(target), **settings)
        return super().create_optimizer(model)

    def _parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        shared = self.accelerator.unwrap_model(model).get_input_embeddings().weight
        decayed = set(self.get_decay_parameter_names(model))
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        rest = [(name, weight) for name, weight in named if weight is not shared]
        return [
            {"params": [w for n, w in rest if n in decayed], "weight_decay": self.args.weight_decay},
            {"params": [w for n, w in rest if n not in decayed], "weight_decay": 0.0},
            {"params": [shared], "weight_decay": 0.0, "lr": self.args.learning_rate * self._embedding_multiplier},
        ]

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # a tied head is not saved twice, so the best checkpoint "misses" it
        missing = [key for key in load_result.missing_keys if key not in self.model.all_tied_weights_keys]
        super()._issue_warnings_after_load(type(load_result)(missing, load_result.unexpected_keys))

    def evaluate(self, *_args: Any, metric_key_prefix: str = "eval", **_kwargs: Any) -> dict[str, float]:
        """Rank the validation sample; every process returns the same metrics."""
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._validate(model).items()}
        model.train(was_training)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


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
) -> TrainedGenerator:
    """Train on users' sequences, keep the checkpoint with the best validation NDCG@10, continue a killed run.

    Args:
        backbone: model and vocabulary, trained in place.
        prompts: layout of the catalog's items; its kind decides between all-position and every-prefix training.
        sequences: item rows of every training user, oldest first.
        validate: ranks the validation sample with a model and returns metrics, `ndcg@10` among them.
        output_dir: holds `checkpoints/` while the run is going on.
    """
    training.validate()
    checkpoints = Path(output_dir) / "checkpoints"
    if prompts.is_causal:
        # a full prompt and its answer: the answer's positions must be trained as well
        dataset: Any = SequenceDataset(sequences, user_ids, max_items=generator.max_history + 1)
        collator: Any = CausalCollator(prompts)
        handles = add_residual_dropout(backbone.model, generator.dropout or 0.0)
    else:
        dataset, collator = (
            PrefixDataset(sequences, user_ids, max_history=generator.max_history),
            PrefixCollator(prompts),
        )
        handles = []
    if len(dataset) == 0:
        raise ValueError(
            f"the training part holds no example ({len(sequences)} users); lower data.min_user_interactions or give "
            "longer histories"
        )
    trainer = GeneratorTrainer(
        model=backbone.model,
        args=_training_arguments(training, len(dataset), checkpoints, seed),
        train_dataset=dataset,
        eval_dataset=dataset,  # Trainer asks for one; `evaluate` ranks the validation users instead
        data_collator=collator,
        callbacks=[] if training.patience is None else [ResumableEarlyStopping(training.patience)],
        validate=validate,
        lengths=dataset.lengths,
        embedding_multiplier=training.embedding_learning_rate_multiplier,
    )
    with PartialState().main_process_first():
        if PartialState().is_main_process:
            drop_incomplete_checkpoints(checkpoints)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(checkpoints))
    for handle in handles:
        handle.remove()
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.config.use_cache = True  # Trainer turns it off, and generation would stay slow after loading
    return TrainedGenerator(model.eval(), trainer.state.log_history)


def remove_checkpoints(output_dir: str | Path) -> None:
    """Delete the checkpoints of a finished run."""
    folder = Path(output_dir) / "checkpoints"
    if folder.is_dir():  # renamed first: a kill in the middle must not leave half a checkpoint to go on from
        shutil.rmtree(folder.rename(folder.with_name(".checkpoints-finished")))


def _training_arguments(options: TrainingOptions, examples: int, directory: Path, seed: int) -> TrainingArguments:
    world = PartialState().num_processes
    batches = math.ceil(examples / (options.batch_size * world))
    steps_per_epoch = math.ceil(batches / options.gradient_accumulation)
    interval = min(steps_per_epoch * options.validate_every, steps_per_epoch * options.epochs)
    on_cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(directory),
        seed=seed,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        adam_beta2=options.beta2,
        warmup_steps=options.warmup_steps,
        lr_scheduler_type=options.scheduler,
        max_grad_norm=options.gradient_clip,
        bf16=options.precision == "bf16" or (options.precision == "auto" and on_cuda),
        use_cpu=not on_cuda,
        eval_strategy="steps",
        save_strategy="steps",
        logging_strategy="steps",
        eval_steps=interval,
        save_steps=interval,
        logging_steps=interval,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{SELECTION_METRIC}",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        remove_unused_columns=False,
        dataloader_drop_last=False,
        report_to=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for accelerate launch, never for DataParallel
    return arguments
