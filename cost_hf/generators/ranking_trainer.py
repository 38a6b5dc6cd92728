"""Training by `Trainer` with the checkpoint chosen by ranking: NDCG@10 of items on validation users.

The lowest loss is often not the best ranking, so early stopping and the choice of the checkpoint use the ranking
metric. Generators and dense models train by the same rules. The order of examples is a function of (seed, epoch), so
a killed run resumes bit for bit; it groups examples by length where batches are padded.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch.utils.data import Dataset, Sampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback
from transformers.utils import logging as transformers_logging

from cost_hf.checkpoints import CheckpointDigests, drop_incomplete_checkpoints, last_complete_checkpoint
from cost_hf.generators.options import RankingTrainingOptions
from cost_hf.generators.prompts import IGNORED_LABEL
from cost_hf.precision import trains_in_bf16
from cost_hf.sharding import ShardedModel, is_sharded, whole_weights
from cost_hf.trackers import require_trackers

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
        validate: ranks validation users with a model and returns metrics, `selected_by` among them; None trains the
            given epochs and keeps the last weights.
        selected_by: metric that the checkpoint is chosen by, the higher the better.
        may_shard: spread the weights over processes where the launch asks for it (FSDP); else every process has all.

    Raises:
        ValueError: for weights that are spread by another way than FSDP2, or a tracker that is not installed.
    """

    model: Any
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
        selected_by: str = SELECTION_METRIC,
        may_shard: bool = False,
    ) -> None:
        require_trackers(options.report_to, f"{options.section}.report_to")
        has_patience = validate is not None and options.patience is not None
        self._launched = nullcontext if may_shard else whole_weights
        with self._launched():
            super().__init__(
                model=model,
                args=_training_arguments(
                    options, len(dataset), directory, seed, selected_by=None if validate is None else selected_by
                ),
                train_dataset=dataset,
                eval_dataset=dataset,  # Trainer asks for one; `evaluate` ranks the validation users instead
                data_collator=collator,
                callbacks=[CheckpointDigests(), *([ResumableEarlyStopping(options.patience)] if has_patience else [])],
            )
            self._is_sharded = is_sharded(self.accelerator.state)
        self._sharded: ShardedModel | None = None  # from the beginning of a training on
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(directory.parent / "tensorboard")  # checkpoints are deleted in the end
        self._validate = validate
        self._lengths = dataset.lengths if groups_by_length else None

    def fit(self) -> PreTrainedModel:
        """Train from the last complete checkpoint, if any, and return the chosen weights in eval mode."""
        directory = self.args.output_dir
        with PartialState().main_process_first():
            if PartialState().is_main_process:
                drop_incomplete_checkpoints(directory)
        if PartialState().process_index > 0:
            # processes drop different activations; the first one those of a run of one process, and a checkpoint
            # restores the state of each
            torch.manual_seed(self.args.seed + PartialState().process_index)
        if self._is_sharded:
            self._sharded = ShardedModel(self.model)
            self.model = self.model_wrapped = self.callback_handler.model = self._sharded.trained
        with self._launched(), _one_progress_bar(), _without_mtime_warning():
            self.train(resume_from_checkpoint=last_complete_checkpoint(directory))
        model = self.accelerator.unwrap_model(self.model) if self._sharded is None else self._sharded.gather()
        return model.eval()

    def evaluate(self, *_args: Any, metric_key_prefix: str = "eval", **_kwargs: Any) -> dict[str, float]:
        """Rank the validation sample; every process returns the same metrics."""
        if self._validate is None:
            raise ValueError("this trainer was built without validate, so there is nothing to evaluate; give one")
        with self._searched() as model:
            was_training = model.training
            model.eval()
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._validate(model).items()}
            model.train(was_training)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _searched(self) -> AbstractContextManager[Any]:
        """Return a context of the model with all of its weights."""
        if self._sharded is not None:
            return self._sharded.gathered()
        return nullcontext(self.accelerator.unwrap_model(self.model))

    def over_all_labels(self, found: Any, labels: torch.Tensor) -> Any:
        """Return a mean over the labels of this process as its part of the mean over those of all processes.

        Gradients are averaged over the processes, whose batches may have differently many labels.

        Args:
            found: the loss, or the loss and the output of the model.
            labels: of the batch, -100 where there is none.
        """
        if self.args.world_size == 1:
            return found
        count = (labels != IGNORED_LABEL).sum()
        part = self.args.world_size * count / self.accelerator.gather(count).sum()
        return (part * found[0], *found[1:]) if isinstance(found, tuple) else part * found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, or raise FloatingPointError where the loss or the gradient norm is no finite number.

        Single steps are not checked, since a GPU would have to wait: one broken step breaks all later ones, so it shows
        in the mean loss of the interval, before a checkpoint is written.
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
    """Return the folder of the checkpoints of a run that is not finished."""
    return Path(output_dir) / "checkpoints"


def remove_checkpoints(output_dir: str | Path) -> None:
    """Delete the checkpoints of a finished run."""
    folder = checkpoints_of(output_dir)
    if folder.is_dir():  # renamed first: a kill in the middle must not leave half a checkpoint to resume from
        shutil.rmtree(folder.rename(folder.with_name(".checkpoints-finished")))


def _checkpointing(options: RankingTrainingOptions) -> dict[str, Any]:
    """Return the arguments of gradient checkpointing, which transformers 5.23 names differently from 5.17."""
    if not options.gradient_checkpointing:
        return {}
    names = {entry.name for entry in fields(TrainingArguments)}
    name = next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in names)
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}}  # the reentrant kind finds no gradient before LoRA


def _training_arguments(
    options: RankingTrainingOptions, examples: int, directory: Path, seed: int, *, selected_by: str | None
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
        bf16=trains_in_bf16(options.precision),
        use_cpu=not on_cuda,
        eval_strategy="no" if selected_by is None else "steps",
        save_strategy="steps",
        logging_strategy="steps",
        logging_nan_inf_filter=False,  # it reads every step's loss, for which a GPU waits, and hides a broken run
        eval_steps=interval,
        save_steps=interval,
        logging_steps=interval,
        save_total_limit=1,
        load_best_model_at_end=selected_by is not None,
        metric_for_best_model=f"eval_{selected_by or SELECTION_METRIC}",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        remove_unused_columns=False,
        dataloader_drop_last=False,
        report_to=options.report_to,
        run_name="/".join(directory.absolute().parts[-3:-1]),  # such as cost_quickstart-0/recommender
        project="cost_hf",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for accelerate launch, never for DataParallel
    return arguments


@contextmanager
def _one_progress_bar() -> Iterator[None]:
    """Hide the bars of reading and writing weights, which would overwrite the one of the training."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


@contextmanager
def _without_mtime_warning() -> Iterator[None]:
    """Drop a warning of checkpoint rotation: where epochs take less than a second, it sorts by step instead of time."""

    def is_of_use(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("mtime may not be reliable")

    source = logging.getLogger("transformers.trainer_utils")
    source.addFilter(is_of_use)
    try:
        yield
    finally:
        source.removeFilter(is_of_use)


class ResumableEarlyStopping(EarlyStoppingCallback):
    """Early stopping that ends a run at the same checkpoint whether or not it was killed.

    `Trainer` clears its stop flag when it begins to train: a run killed between its last validation and its end would
    train further when resumed, and might find a better checkpoint than the undisturbed run ever had.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop a run whose patience was used up in the checkpoint (after one step, which is discarded)."""
        super().on_train_begin(args, state, control, **kwargs)
        control.should_training_stop |= self._is_over

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Neither evaluate nor save that one step."""
        if self._is_over:
            control.should_evaluate = control.should_save = False

    @property
    def _is_over(self) -> bool:
        return self.early_stopping_patience_counter >= self.early_stopping_patience


class ShuffledSampler(Sampler[int]):
    """Random order of `count` examples; a function of (seed, epoch) alone.

    The stock sampler draws from the global generator, so a resumed run would get other batches.
    """

    def __init__(self, count: int, *, seed: int):
        self.count = count
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.seed, self.epoch]).permutation(self.count).tolist())


class LengthGroupedSampler(ShuffledSampler):
    """Random order in which neighbours have similar lengths; for batches that are padded.

    A permutation is cut into windows of `window` batches, each of them sorted by length; whole batches then follow in
    random order.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int, window: int = 32):
        super().__init__(len(lengths), seed=seed)
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.window = window

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        span = self.batch_size * self.window
        order = np.concatenate(
            [part[np.argsort(self.lengths[part], kind="stable")] for part in _cut(order, span)] or [order]
        )
        batches = _cut(order, self.batch_size)
        full = [batch for batch in batches if len(batch) == self.batch_size]
        mixed = [full[index] for index in generator.permutation(len(full))]
        # the short batch stays last: in the middle it would shift the borders of all batches after it
        return iter(np.concatenate(mixed + batches[len(full) :]).tolist() if batches else [])


class UnrolledSampler(Sampler[int]):
    """Numbers examples consecutively over all epochs, for data sets whose examples change from epoch to epoch.

    Example i of epoch e has the number e · count + i, so a data set has no state and a resumed run sees the same ones.
    """

    def __init__(self, sampler: ShuffledSampler):
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        first = self.sampler.epoch * len(self)
        return (first + index for index in self.sampler)


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
