"""Training by `Trainer`, judged by what users see: NDCG@10 of items on validation users.

The loss and the quality of a ranking part ways (specs: LETTER selects on loss), so early stopping and the choice of the
checkpoint use the ranking metric. Generators and dense models train by the same rules. The order of examples is a
function of (seed, epoch), so a killed run continues bit for bit; it groups examples by length where batches are padded.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, Trainer, TrainerControl, TrainingArguments

from cost_hf.checkpoints import CheckpointDigests, drop_incomplete_checkpoints, last_complete_checkpoint
from cost_hf.generators.early_stopping import ResumableEarlyStopping
from cost_hf.generators.samplers import LengthGroupedSampler, ShuffledSampler, UnrolledSampler
from cost_hf.generators.training_options import RankingTrainingOptions

SELECTION_METRIC = "ndcg@10"
Validate = Callable[[Any], dict[str, float]]


class RankingTrainer(Trainer):
    """Trainer whose evaluation is a ranking.

    Args:
        model: trained in place.
        options: of the optimisation.
        dataset: training rows, with `lengths` `[examples]`.
        collator: makes batches of its examples.
        groups_by_length: puts examples of similar length into a batch, for collators that pad.
        directory: of the checkpoints.
        seed: of the order of rows and of dropout.
        validate: ranks validation users with a model and returns metrics, `ndcg@10` among them; None trains the given
            epochs and keeps the last weights.
    """

    optimizer: Any
    control: TrainerControl

    def __init__(
        self,
        model: PreTrainedModel,
        options: RankingTrainingOptions,
        *,
        dataset: Any,
        collator: Callable[..., dict[str, torch.Tensor]],
        groups_by_length: bool = True,
        directory: Path,
        seed: int,
        validate: Validate | None,
    ) -> None:
        has_patience = validate is not None and options.patience is not None
        super().__init__(
            model=model,
            args=_training_arguments(options, len(dataset), directory, seed, validates=validate is not None),
            train_dataset=dataset,
            eval_dataset=dataset,  # Trainer asks for one; `evaluate` ranks the validation users instead
            data_collator=collator,
            callbacks=[CheckpointDigests(), *([ResumableEarlyStopping(options.patience)] if has_patience else [])],
        )
        refuse_sharded_weights(self.accelerator.state)
        self._validate, self._lengths = validate, dataset.lengths if groups_by_length else None

    def fit(self) -> PreTrainedModel:
        """Train from the last whole checkpoint, if any, and return the chosen weights in eval mode."""
        directory = self.args.output_dir
        with PartialState().main_process_first():
            if PartialState().is_main_process:
                drop_incomplete_checkpoints(directory)
        if PartialState().process_index > 0:
            # each process drops other activations; the first keeps the draws of a run of one process, and a checkpoint
            # restores the state of each
            torch.manual_seed(self.args.seed + PartialState().process_index)
        self.train(resume_from_checkpoint=last_complete_checkpoint(directory))
        return self.accelerator.unwrap_model(self.model).eval()

    def evaluate(self, *_args: Any, metric_key_prefix: str = "eval", **_kwargs: Any) -> dict[str, float]:
        """Rank the validation sample; every process returns the same metrics."""
        if self._validate is None:
            raise ValueError("this trainer was built without validate, so there is nothing to evaluate; give one")
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._validate(model).items()}
        model.train(was_training)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, or raise FloatingPointError where the loss or the gradient norm is no finite number.

        Steps in between are not looked at, since that would make a GPU wait: one broken step breaks all later ones, so
        the mean loss of the interval tells of it, before a checkpoint is written.
        """
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise FloatingPointError(
                    f"training must have a finite {name}, got {logs[name]!r} at step {self.state.global_step}; lower "
                    f"the learning rate (now at most {self.args.learning_rate!r}), set precision to fp32 or look for "
                    "broken input"
                )
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        if self._lengths is None:
            return UnrolledSampler(ShuffledSampler(len(self.train_dataset), seed=self.args.seed))
        # neighbours in the order go to different processes: the group is the batch of all of them
        group = self.args.train_batch_size * self.args.world_size
        return UnrolledSampler(LengthGroupedSampler(self._lengths, batch_size=group, seed=self.args.seed))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # a tied head is not saved twice, so the best checkpoint "misses" it
        missing = [key for key in load_result.missing_keys if key not in self.model.all_tied_weights_keys]
        super()._issue_warnings_after_load(type(load_result)(missing, load_result.unexpected_keys))


def checkpoints_of(output_dir: str | Path) -> Path:
    """Return the folder that holds the checkpoints while a run is going on."""
    return Path(output_dir) / "checkpoints"


def remove_checkpoints(output_dir: str | Path) -> None:
    """Delete the checkpoints of a finished run."""
    folder = checkpoints_of(output_dir)
    if folder.is_dir():  # renamed first: a kill in the middle must not leave half a checkpoint to go on from
        shutil.rmtree(folder.rename(folder.with_name(".checkpoints-finished")))


def refuse_sharded_weights(state: Any) -> None:
    """Raise ValueError for FSDP and DeepSpeed ZeRO-3: the search that validates reads whole weights, layer by layer."""
    plugin = getattr(state, "deepspeed_plugin", None)
    is_zero3 = plugin is not None and plugin.zero_stage == 3
    if is_zero3 or getattr(state, "fsdp_plugin", None) is not None:
        raise ValueError(
            f"training spreads the weights over processes by {'DeepSpeed ZeRO-3' if is_zero3 else 'FSDP'}, and the "
            "validation by ranking needs whole ones; launch with several GPUs or DeepSpeed ZeRO-2 "
            "(cost_hf/recipes/accelerate/), with LoRA, bf16 and training.gradient_checkpointing where memory is short"
        )


def _checkpointing(options: RankingTrainingOptions) -> dict[str, Any]:
    """Return the arguments that compute activations anew; transformers 5.23 calls them by another name than 5.17."""
    if not options.gradient_checkpointing:
        return {}
    names = {entry.name for entry in fields(TrainingArguments)}
    name = next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in names)
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}}  # the reentrant kind finds no gradient before LoRA


def _training_arguments(
    options: RankingTrainingOptions, examples: int, directory: Path, seed: int, *, validates: bool
) -> TrainingArguments:
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
        **_checkpointing(options),
        bf16=options.precision == "bf16" or (options.precision == "auto" and on_cuda),
        use_cpu=not on_cuda,
        eval_strategy="steps" if validates else "no",
        save_strategy="steps",
        logging_strategy="steps",
        logging_nan_inf_filter=False,  # it looks at every step's loss, for which a GPU waits, and hides a broken run
        eval_steps=interval,
        save_steps=interval,
        logging_steps=interval,
        save_total_limit=1,
        load_best_model_at_end=validates,
        metric_for_best_model=f"eval_{SELECTION_METRIC}",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        remove_unused_columns=False,
        dataloader_drop_last=False,
        report_to=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for accelerate launch, never for DataParallel
    return arguments
