"""Training a `CostModel` by the stock `Trainer` on a `datasets.Dataset`.

Callbacks do what is particular to codebooks. The sampler is a function of (seed, epoch) and checkpoints are written at
the end of epochs, so a killed run resumes bit for bit. Loss terms that need more than item vectors are those of a
subclass of `QuantizerTrainer`, not of the model: a published quantizer knows no users.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from datasets import Dataset
from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from cost_hf.checkpoints import (
    CheckpointDigests,
    drop_incomplete_checkpoints,
    forget_generation_settings,
    last_complete_checkpoint,
)
from cost_hf.files import read_json, write_json
from cost_hf.quantizers.cost import CostModel, CostOutput
from cost_hf.quantizers.residual import TrainedOptions
from cost_hf.quantizers.training.callbacks import (
    CheckpointCallback,
    DeadCodeResetCallback,
    InitializationCallback,
    ItemTable,
    QuantizerProgress,
    UtilizationCallback,
    utilization_records,
)
from cost_hf.sharding import whole_weights
from cost_hf.trackers import require_trackers


class ExtraTerm(NamedTuple):
    """A loss term beside those of the model.

    Attributes:
        weight: in the total loss.
        value: unweighted, a scalar.
    """

    weight: float
    value: Tensor


class QuantizerTrainer(Trainer):
    """Trains a `CostModel` and records the means of all loss terms.

    A subclass adds terms by `extra_terms`, and what the terms of the model need beside vectors by `model_inputs`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._terms: dict[str, list[Tensor]] = {}

    def model_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the model for a batch: the item vectors alone, unless a subclass adds some."""
        return {"item_embeddings": inputs["item_embeddings"]}

    def extra_terms(self, output: CostOutput, inputs: Mapping[str, Tensor]) -> dict[str, ExtraTerm]:
        """Return further loss terms by name.

        Args:
            output: of the model for this batch.
            inputs: columns of the batch: `item_embeddings` `[B, E]`, and those that `train_quantizer` was given.
        """
        return {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch, with the model's output where that is asked for."""
        output = model(**self.model_inputs(inputs))
        extra = self.extra_terms(output, inputs)
        loss = sum((term.weight * term.value for term in extra.values()), start=output.loss)
        terms = {name: value for name, value in output.items() if name.endswith("loss")}
        terms |= {f"{name}_loss": term.value for name, term in extra.items()} | {"loss": loss}
        for name, value in terms.items():
            self._terms.setdefault(name, []).append(value.detach())
        return (loss, output) if return_outputs else loss

    def take_mean_terms(self) -> dict[str, float]:
        """Return the means of the loss terms over the steps since the last call and over all processes."""
        means = {name: reduce(torch.stack(values).mean(), "mean").item() for name, values in self._terms.items()}
        self._terms = {}
        return means


@whole_weights()
def train_quantizer(
    vectors: Tensor,
    options: TrainedOptions,
    *,
    folder: Path,
    digest: str,
    seed: int,
    columns: Mapping[str, Tensor] | None = None,
    make_model: Callable[[], CostModel] | None = None,
    make_trainer: Callable[..., QuantizerTrainer] = QuantizerTrainer,
) -> tuple[CostModel, list[dict[str, Any]]]:
    """Train a quantizer and return it, in eval mode, with the utilization and loss terms of every epoch.

    Args:
        vectors: item vectors, fp32 `[N, E]`.
        options: model and training.
        folder: of the checkpoints; whole ones of the same `digest` are resumed, others deleted.
        digest: of everything that the result depends on.
        seed: of weights, order of items, k-means and dead-code reset.
        columns: further tables `[N, …]` that batches hold by these names.
        make_model: returns the untrained model, with weights from torch's generator; by default that of the options for
            vectors of this width.
        make_trainer: class of the trainer; it is called with the arguments of `Trainer`.

    Raises:
        CodebookCollapse: where most items end up with the same codes.
        ValueError: for a batch size that the processes can't share, or a tracker that is not installed.
    """
    require_trackers(options.report_to, "codes.report_to")
    state = PartialState()
    if state.is_main_process:
        prepare_checkpoints(folder, digest)
    state.wait_for_everyone()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = options.build_model(vectors.shape[1]) if make_model is None else make_model()
    model.fit_statistics(vectors)
    trainer = make_trainer(
        model=model,
        args=training_arguments(options, folder, seed, finds_unused=not options.has_codebook_gradient),
        train_dataset=as_dataset({"item_embeddings": vectors, **(columns or {})}),
    )
    table = ItemTable(vectors, seed=seed)
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(QuantizerProgress())
    trainer.add_callback(InitializationCallback(table, options, seed=seed))
    trainer.add_callback(UtilizationCallback(table, options, trainer=trainer))
    trainer.add_callback(DeadCodeResetCallback(table, options, seed=seed))
    trainer.add_callback(CheckpointCallback(options.save_epochs))
    trainer.add_callback(CheckpointDigests())
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    forget_generation_settings(model)
    return model, utilization_records(trainer.state.log_history)


def training_step(model: CostModel, batch_size: int) -> Callable[[], None]:
    """Return a function that makes one step of AdamW on a batch of random vectors, for measurements."""
    batch = torch.randn(batch_size, model.config.item_dim, generator=torch.Generator().manual_seed(0))
    batch = nn.functional.normalize(batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def step() -> None:
        model(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def as_dataset(columns: Mapping[str, Tensor]) -> Dataset:
    """Return tables `[N, …]` as columns of a data set, without copying them."""
    return Dataset(pa.table({name: _as_column(rows) for name, rows in columns.items()})).with_format("torch")


def _as_column(rows: Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.numpy().reshape(-1)), rows.shape[1])


def training_arguments(options: Any, folder: Path, seed: int, *, finds_unused: bool, **more: Any) -> TrainingArguments:
    """Return the arguments of the trainer of a quantizer.

    Args:
        options: with `batch_size`, `epochs`, `learning_rate`, `weight_decay` and `report_to`.
        folder: of the checkpoints.
        seed: of the order of items and of what is random in steps.
        finds_unused: whether some weights get no gradient.
        more: arguments of a kind's own.

    Raises:
        ValueError: for a batch size that the processes can't share.
    """
    world = PartialState().num_processes
    if options.batch_size % world:
        raise ValueError(
            f"codes.batch_size counts the items of all processes and must be a multiple of their number {world}, got "
            f"{options.batch_size!r}"
        )
    on_cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        data_seed=seed,  # with accelerate's seedable sampler: the order of items is a function of (seed, epoch)
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size // world,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=not on_cuda,
        dataloader_pin_memory=on_cuda,
        ddp_find_unused_parameters=finds_unused,
        ddp_broadcast_buffers=False,
        save_strategy="no",  # CheckpointCallback asks for them
        logging_strategy="no",  # UtilizationCallback logs
        save_total_limit=1,
        report_to=options.report_to,
        remove_unused_columns=False,  # a trainer may use what the model does not
        **more,
    )
    if arguments.world_size != world:
        raise RuntimeError(
            f"Trainer runs in {arguments.world_size} processes, but accelerate was set up for {world} before; call "
            "PartialState(cpu=True) first where processes share CPUs"
        )
    # one process trains on one device: DataParallel would split the batch and with it the contrastive candidates
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def prepare_checkpoints(folder: Path, digest: str) -> None:
    """Keep checkpoints of the same inputs only, and of those the whole ones."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "inputs.json"
    if not record.is_file() or read_json(record) != digest:
        shutil.rmtree(folder)
        write_json(record, digest)
    drop_incomplete_checkpoints(folder)
