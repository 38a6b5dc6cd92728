"""Training of a generator: all positions of a user at once, or every prefix, and text tasks beside them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from cost_hf.generators.backbones import Backbone, GeneratorOptions
from cost_hf.generators.collation import CausalCollator, PrefixDataset, Seq2SeqCollator, SequenceDataset
from cost_hf.generators.distillation import SOFT_LABELS, Teacher, TeacherLists, soft_label_loss
from cost_hf.generators.dropout import add_residual_dropout
from cost_hf.generators.item_texts import ItemTexts
from cost_hf.generators.options import NEXT_ITEM, TaskOptions, TrainingOptions
from cost_hf.generators.prompts import IGNORED_LABEL, LABEL_WEIGHTS, PromptBuilder
from cost_hf.generators.ranking_trainer import (
    RankingTrainer,
    Validate,
    checkpoints_of,
    remove_checkpoints,
)
from cost_hf.generators.tasks import NextItemTask, OpenTask, Substitution, Task, TaskMixture, build_text_tasks
from cost_hf.search.cached_decoders import unsupported_reason
from cost_hf.semantic_ids.prefix_groups import PrefixGroups

__all__ = [
    "GeneratorTrainer",
    "TrainedGenerator",
    "Validate",
    "divide_logits",
    "fit_generator",
    "remove_checkpoints",
    "train_generator",
    "training_examples",
]


class GeneratorTrainer(RankingTrainer):
    """Ranking trainer that takes soft labels and logs `tokens_per_step`.

    The shared embedding, or SID embeddings beside an adapter, may have a higher learning rate. The tokens are those
    that one process reads, without padding; an encoder-decoder also reads its labels, which are not counted.
    """

    def __init__(self, model: PreTrainedModel, options: TrainingOptions, **kwargs: Any) -> None:
        super().__init__(model, options, **kwargs)
        self._embedding_multiplier = options.embedding_learning_rate_multiplier
        self._teacher_weight = options.teacher_weight
        self._tokens: Any = 0  # since the last log, in a tensor: a GPU does not wait for the count
        self._counted_from: int | None = None  # steps before the first one of them
        if model.config.is_encoder_decoder:
            # T5 takes `num_items_in_batch` and ignores it: its loss is a mean that accumulation still has to divide
            self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the model's loss, and what a teacher and the weights of labels add to it.

        Both are sums over labels, divided by the number of labels as the model's own loss is.
        """
        self.count_tokens(num_tokens(inputs))
        soft = {name: inputs[name] for name in SOFT_LABELS if name in inputs}
        rest = {name: value for name, value in inputs.items() if name not in soft}
        weights = rest.pop(LABEL_WEIGHTS, None)
        if weights is not None and not ((weights != 1) & (inputs["labels"] != IGNORED_LABEL)).any():
            weights = None  # labels of weight 0 are none, and models of other losses may give no logits
        loss, outputs = super().compute_loss(model, rest, True, num_items_in_batch)
        added: Any = 0.0
        if soft:
            added = added + self._teacher_weight * soft_label_loss(outputs["logits"], soft)
        if weights is not None:
            is_causal = not self.model.config.is_encoder_decoder
            added = added + extra_loss(outputs["logits"], inputs["labels"], weights, is_causal=is_causal)
        if soft or weights is not None:
            # T5 takes the mean over its own batch, whatever the number of labels of all batches is
            takes_count = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            count = num_items_in_batch if takes_count else (inputs["labels"] != IGNORED_LABEL).sum()
            added = added / count
            if self.args.average_tokens_across_devices and takes_count:
                added = added * self.accelerator.num_processes  # as Trainer does: the count is that of all processes
            loss = loss + added
        return (loss, outputs) if return_outputs else loss

    def count_tokens(self, count: int | Tensor) -> None:
        """Count tokens that the model reads in this step."""
        if self._counted_from is None:
            self._counted_from = self.state.global_step
        self._tokens = self._tokens + count

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; with a loss, also the mean number of tokens a step since the last one."""
        if "loss" in logs and self._counted_from is not None:
            steps = max(self.state.global_step - self._counted_from, 1)
            logs = {**logs, "tokens_per_step": float(self._tokens) / steps}
            self._tokens = 0
            self._counted_from = None
        super().log(logs, start_time)

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
        fast = [weight for name, weight in named if weight is shared or "trainable_tokens_delta" in name]
        rest = [(name, weight) for name, weight in named if not any(weight is other for other in fast)]
        return [
            {"params": [w for n, w in rest if n in decayed], "weight_decay": self.args.weight_decay},
            {"params": [w for n, w in rest if n not in decayed], "weight_decay": 0.0},
            {"params": fast, "weight_decay": 0.0, "lr": self.args.learning_rate * self._embedding_multiplier},
        ]


def num_tokens(inputs: Mapping[str, Any]) -> int | Tensor:
    """Return how many tokens a batch has, without padding."""
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        return mask.sum()
    return inputs["input_ids"].numel()  # packed rows have hardly any padding


@dataclass(frozen=True)
class TrainedGenerator:
    """The best checkpoint's model and the log of the run (one dict a logging event)."""

    model: PreTrainedModel
    history: list[dict[str, float]]


def train_generator(
    backbone: Backbone,
    prompts: Sequence[PromptBuilder],
    sequences: Sequence[np.ndarray],
    user_ids: list[str],
    *,
    generator: GeneratorOptions,
    training: TrainingOptions,
    validate: Validate | None,
    output_dir: str | Path,
    seed: int,
    tasks: TaskOptions | None = None,
    item_texts: ItemTexts | None = None,
    names_items: bool = False,
    long_history: int = 0,
    teacher: TeacherLists | None = None,
    weights: Sequence[np.ndarray] | None = None,
    own_tasks: Mapping[str, Task] | None = None,
    make_trainer: Callable[..., GeneratorTrainer] = GeneratorTrainer,
) -> TrainedGenerator:
    """Train on users' sequences, keep the checkpoint with the best validation NDCG@10, continue a killed run.

    Args:
        backbone: model and vocabulary, trained in place.
        prompts: prompt builders of the catalog, the one for recommendations first, whose layout decides between
            all-position and every-prefix training.
        sequences: item rows of every training user, oldest first.
        user_ids: their users.
        generator: section `generator`.
        training: section `training`.
        validate: ranks the validation sample with a model and returns metrics, `ndcg@10` among them; None trains the
            given epochs and keeps the last weights.
        output_dir: holds `checkpoints/` until `remove_checkpoints`.
        seed: of the order of examples and of dropout.
        tasks: what is learned beside next items; nothing by default.
        item_texts: titles and texts of the catalog, for text tasks.
        names_items: give batches the catalog rows of their tokens and labels too, for models that read more of an item
            than its tokens.
        long_history: give batches at most this many items before the first label too (`long_rows`), for models that
            read more of a history than the prompt; 0 for none.
        teacher: lists for the sequences, whose items are soft targets beside the next ones; None for none.
        weights: of the loss of every item, float32 arrays like `sequences`, of mean 1; 0 is no label. None where all
            are 1.
        own_tasks: of a method, by name, beside those that are made here; their weights are in `tasks`.
        make_trainer: class of the trainer, called with the arguments of `GeneratorTrainer`.
    """
    training.validate()
    dataset, collator = training_examples(
        backbone,
        prompts,
        sequences,
        user_ids,
        training=training,
        tasks=tasks,
        item_texts=item_texts,
        overflow=generator.overflow,
        names_items=names_items,
        long_history=long_history,
        teacher=teacher,
        weights=weights,
        own_tasks=own_tasks,
        seed=seed,
    )
    if len(dataset) == 0:
        raise ValueError(
            f"the training part holds no example ({len(sequences)} users); lower data.min_user_interactions or give "
            "longer histories"
        )
    return fit_generator(
        backbone,
        dataset,
        collator,
        generator=generator,
        training=training,
        validate=validate,
        output_dir=output_dir,
        seed=seed,
        make_trainer=make_trainer,
    )


def fit_generator(
    backbone: Backbone,
    dataset: Any,
    collator: Callable[..., dict[str, Tensor]],
    *,
    generator: GeneratorOptions,
    training: TrainingOptions,
    validate: Validate | None,
    output_dir: str | Path,
    seed: int,
    make_trainer: Callable[..., GeneratorTrainer] = GeneratorTrainer,
) -> TrainedGenerator:
    """Train on examples made elsewhere; `train_generator` makes those of next items and text tasks.

    The loss is the one that the model's `forward` returns for a batch. A model class whose loss is a mean that does
    not use `num_items_in_batch` sets `accepts_loss_kwargs = False`, as for any `Trainer`, so that gradient accumulation
    divides it.

    Args:
        backbone: model and vocabulary, trained in place.
        dataset: has `len`, an example for every number (example i of epoch e has the number e * count + i) and
            `lengths` `[examples]`.
        collator: makes batches of examples, with everything that `forward` takes; where its attribute `packs` is true,
            batches are not grouped by length.
        generator, training, validate, output_dir, seed, make_trainer: as for `train_generator`.
    """
    training.validate()
    trainer = make_trainer(
        backbone.model,
        training,
        dataset=dataset,
        collator=collator,
        groups_by_length=not getattr(collator, "packs", False),  # packed rows are full in any order
        directory=checkpoints_of(output_dir),
        seed=seed,
        validate=validate,
        may_shard=backbone.is_pretrained and backbone.base is None,
    )
    handles = training_dropout(backbone, generator)
    if training.temperature != 1.0:
        handles.append(divide_logits(backbone.model, training.temperature))
    try:
        model = trainer.fit()
    finally:  # the caller's model has no hooks after an error either
        for handle in handles:
            handle.remove()
        backbone.model.config.use_cache = True  # Trainer turns it off, and generation would stay slow after loading
    return TrainedGenerator(model, trainer.state.log_history)


def training_examples(
    backbone: Backbone,
    prompts: Sequence[PromptBuilder],
    sequences: Sequence[np.ndarray],
    user_ids: list[str],
    *,
    training: TrainingOptions,
    tasks: TaskOptions | None = None,
    item_texts: ItemTexts | None = None,
    overflow: str = "error",
    names_items: bool = False,
    long_history: int = 0,
    teacher: TeacherLists | None = None,
    weights: Sequence[np.ndarray] | None = None,
    own_tasks: Mapping[str, Task] | None = None,
    seed: int = 0,
) -> tuple[TaskMixture, CausalCollator | Seq2SeqCollator]:
    """Return the data set of a generator's training and the collator of its batches.

    Arguments are those of `train_generator`; `overflow` is that of the section `generator`.
    """
    tasks = tasks or TaskOptions()
    first = prompts[0]
    pad_id = backbone.vocabulary.pad_id
    prefixes = PrefixDataset(
        sequences,
        user_ids,
        max_history=first.max_history,
        with_first_items=training.first_items,
        weights=weights,
    )
    rows: SequenceDataset | PrefixDataset = prefixes
    if first.learns_all_positions:
        # a full prompt and its answer: the answer's positions must be trained as well
        rows = SequenceDataset(sequences, user_ids, max_items=first.max_history + 1, weights=weights)
    taught = None
    passes = dict(tasks.weights)
    others: dict[str, Task] = {}
    if teacher is not None and training.teacher_weight > 0:
        temperature = training.teacher_temperature
        taught = Teacher(teacher.positions, training.teacher_weight, temperature, seed)
        items = list(np.arange(len(teacher.catalog.items))[:, None])
        ends, alone = (Teacher(table, 1.0, temperature, seed) for table in (teacher.positions, teacher.catalog))
        others["teacher_ends"] = OpenTask(ends, sequences, user_ids, prompts, seed=seed)
        others["teacher_catalog"] = OpenTask(alone, items, [None] * len(items), prompts, seed=seed)
        passes |= {name: getattr(training, name) for name in others}
    substitution = None
    if training.substitute_share:
        if first.vocabulary.has_parallel_levels:
            raise ValueError(
                f"training.substitute_share={training.substitute_share!r} replaces items by others with the same first "
                "codes, and the levels of this catalog do not depend on each other, so that such items are not alike; "
                "set it to 0"
            )
        groups = PrefixGroups(first.item_tokens.numpy(), prefix=training.substitute_prefix)
        substitution = Substitution(groups, training.substitute_share, seed=seed)
    next_item = NextItemTask(
        rows, prompts, seed=seed, teacher=taught, substitution=substitution, long_history=long_history
    )
    if tasks.text_tasks:
        if not backbone.is_pretrained or item_texts is None:
            raise ValueError(
                f"tasks {', '.join(tasks.text_tasks)} need a backbone pretrained on text, and the items' texts; set "
                "generator.backbone, or leave them out of tasks.weights"
            )
        others |= build_text_tasks(
            tasks,
            next_item.prompts[0].item_tokens.numpy(),
            prefixes,
            item_texts,
            backbone.prompt_encoder(),
            context=backbone.context,
            overflow=overflow,
            seed=seed,
        )
    others |= own_tasks or {}
    mixture = TaskMixture({NEXT_ITEM: next_item, **others}, passes, seed=seed)
    if not first.is_causal:
        return mixture, Seq2SeqCollator(pad_id, names_items=names_items)
    reason = unsupported_reason(backbone.model)
    packs = reason is None and not long_history
    if first.learns_all_positions and taught is not None and not packs:
        raise ValueError(
            f"training.teacher needs a model that takes a mask for every pair of tokens, and {reason}; set "
            "training.teacher to null, or generator.prompt to instruction"
        )
    return mixture, CausalCollator(pad_id, packs=packs, names_items=names_items)


def extra_loss(logits: Tensor, labels: Tensor, weights: Tensor, *, is_causal: bool) -> Tensor:
    """Return what weights add to a sum over labels of negative log-probabilities: nothing where all are 1.

    Args:
        logits: `[R, S, V]`.
        labels: `[R, S]`, -100 where there is none.
        weights: of the labels, `[R, S]`.
        is_causal: whether a token is predicted from the position before it, else from its own.
    """
    rows, columns = ((labels != IGNORED_LABEL) & (weights != 1)).nonzero(as_tuple=True)
    predicted = logits[rows, columns - 1 if is_causal else columns].float()
    losses = functional.cross_entropy(predicted, labels[rows, columns], reduction="none")
    return ((weights[rows, columns] - 1) * losses).sum()


def training_dropout(backbone: Backbone, generator: GeneratorOptions) -> list[Any]:
    """Add dropout to a model for the time of training; return the handles that remove it."""
    if not backbone.is_causal or backbone.is_pretrained:  # these have dropout of their own, and so has an adapter
        return []
    return add_residual_dropout(backbone.model, generator.scratch_dropout)


def divide_logits(model: PreTrainedModel, temperature: float) -> Any:
    """Divide the logits by `temperature` in training, and so in the model's own loss; return the hook's handle.

    Searches use the plain logits: the temperature sets how strongly the loss penalises competing items, not how items
    are ranked.
    """

    def hook(module: nn.Module, _args: Any, logits: Tensor) -> Tensor:
        return logits / temperature if module.training else logits

    return model.get_output_embeddings().register_forward_hook(hook)
