"""Training a quantizer by `Trainer` on a `datasets.Dataset`.

What is particular to codebooks happens in callbacks. The sampler is a function of (seed, epoch) and checkpoints lie
behind whole epochs, so a killed run continues bit for bit.
"""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from accelerate import PartialState
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, ProgressCallback, TrainingArguments

from cost_hf.checkpoints import CheckpointDigests, drop_incomplete_checkpoints, last_complete_checkpoint
from cost_hf.files import read_json, write_json
from cost_hf.quantizers.callbacks import (
    CheckpointCallback,
    CodesProgress,
    HealthCallback,
    InitializationCallback,
    ItemTable,
    RevivalCallback,
)
from cost_hf.quantizers.codebook_utilization import health_records
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.quantizers.letter import DiversityTerm
from cost_hf.quantizers.options import CodesOptions
from cost_hf.quantizers.trainer import CodesTrainer


def train_quantizer(
    table: Tensor,
    config: CostConfig,
    options: CodesOptions,
    *,
    folder: Path,
    digest: str,
    seed: int,
    collaborative: Tensor | None = None,
) -> tuple[CostModel, list[dict[str, Any]]]:
    """Train a quantizer and return it, in eval mode, with its per-epoch health.

    Args:
        table: item vectors, fp32 `[N, E]`.
        config: of the model.
        options: of the training.
        folder: of the checkpoints; whole ones of the same `digest` are continued, others deleted.
        digest: of everything that the result depends on.
        seed: of weights, order of items, k-means, revival and diversity.
        collaborative: collaborative vectors of the items, fp32 `[N, D]`, where a loss term needs them.

    Raises:
        CodebookCollapse: where most items end up with the same codes.
        ValueError: for a batch size that the processes can't share.
    """
    state = PartialState()
    if state.is_main_process:
        _prepare_checkpoints(folder, digest)
    state.wait_for_everyone()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = CostModel(config)
    model.fit_statistics(table)
    trainer = CodesTrainer(
        weights=options.extra_weights,
        diversity=DiversityTerm(options.diversity_clusters, seed=seed),
        model=model,
        args=_training_arguments(options, folder, seed),
        train_dataset=as_dataset(table, collaborative),
    )
    seen = ItemTable(table, seed=seed)
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(CodesProgress())
    trainer.add_callback(InitializationCallback(seen, options, seed=seed))
    trainer.add_callback(HealthCallback(seen, options, trainer=trainer))
    trainer.add_callback(RevivalCallback(seen, options, seed=seed))
    trainer.add_callback(CheckpointCallback(options.save_epochs))
    trainer.add_callback(CheckpointDigests())
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    if hasattr(model.config, "use_cache"):
        del model.config.use_cache  # Trainer leaves this generation setting in any model's configuration
    return model, health_records(trainer.state.log_history)


def _training_arguments(options: CodesOptions, folder: Path, seed: int) -> TrainingArguments:
    world = PartialState().num_processes
    if options.batch_size % world:
        raise ValueError(
            f"codes.batch_size counts the items of all processes and must be a multiple of their number {world}, got "
            f"{options.batch_size!r}"
        )
    on_cuda, weights = torch.cuda.is_available(), options.weights | options.extra_weights
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
        # without either term codebooks have no gradient
        ddp_find_unused_parameters=not (weights["codebook_weight"] or weights["diversity_weight"]),
        ddp_broadcast_buffers=False,
        save_strategy="no",  # CheckpointCallback asks for them
        logging_strategy="no",  # HealthCallback logs
        save_total_limit=1,
        report_to=[],
        remove_unused_columns=False,  # CodesTrainer uses what the model does not
    )
    if arguments.world_size != world:
        raise RuntimeError(
            f"Trainer runs in {arguments.world_size} processes, but accelerate was set up for {world} before; call "
            "PartialState(cpu=True) first where processes share CPUs"
        )
    # one process trains on one device: DataParallel would split the batch and with it the contrastive candidates
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _prepare_checkpoints(folder: Path, digest: str) -> None:
    """Keep checkpoints of the same inputs only, and of those the whole ones."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "inputs.json"
    if not record.is_file() or read_json(record) != digest:
        shutil.rmtree(folder)
        write_json(record, digest)
    drop_incomplete_checkpoints(folder)


def as_dataset(table: Tensor, collaborative: Tensor | None = None) -> Dataset:
    """Return item vectors `[N, E]` as the column that `CostModel.forward` takes, without copying them.

    With collaborative vectors `[N, D]` there is a column `collaborative` too.
    """
    columns = {"item_embeddings": table} | ({} if collaborative is None else {"collaborative": collaborative})
    return Dataset(pa.table({name: _as_column(rows) for name, rows in columns.items()})).with_format("torch")


def _as_column(rows: Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.numpy().reshape(-1)), rows.shape[1])
