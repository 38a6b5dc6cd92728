"""Item vectors in, codes out: one door for all kinds of codes.

Neural kinds train with the stock `Trainer`; what is special (initialisation, revival, health, the stop on collapse) lies in
functions and one callback. A killed fit continues from its last checkpoint and ends with the same weights, bit for bit.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from cost_hf.checkpoints import drop_incomplete_checkpoints, last_complete_checkpoint
from cost_hf.files import atomic_path, content_digest, read_json, write_json
from cost_hf.quantizer.configuration_cost import CostConfig
from cost_hf.quantizer.modeling_cost import CostModel
from cost_hf.quantizer_training.callbacks import CodebookCare, check_collapse, initialize_codebooks, measure_health
from cost_hf.quantizer_training.fixed_codes import category_codes, random_codes
from cost_hf.quantizer_training.options import CodesOptions
from cost_hf.quantizer_training.rkmeans import fit_rkmeans
from cost_hf.semantic_ids.digests import assignment_digest


@dataclass(frozen=True, eq=False)
class CodesResult:
    """Codes of all items and where they come from.

    Attributes:
        codes: int64 `[N, L]`, without an appended level.
        level_sizes: codes per level.
        model: the assigner; None for `random` and `category`.
        lineage: assignment digest: of the codebooks, or of the rule for codes without a model.
        history: health after every epoch, one dict each (one in all for kinds without epochs).
    """

    codes: np.ndarray
    level_sizes: tuple[int, ...]
    model: CostModel | None
    lineage: str
    history: list[dict[str, Any]]

    def save(self, directory: str | Path) -> None:
        """Write the model (config.json, model.safetensors), `codes.safetensors` and, last, `codes.json`."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self.model is not None:
            self.model.save_pretrained(folder)
        with atomic_path(folder / "codes.safetensors") as temporary:
            save_file({"codes": np.ascontiguousarray(self.codes)}, temporary)
        header = {"level_sizes": list(self.level_sizes), "lineage": self.lineage, "history": self.history}
        write_json(folder / "codes.json", header | {"has_model": self.model is not None})

    @classmethod
    def load(cls, directory: str | Path) -> "CodesResult":
        """Read what `save` wrote."""
        header = read_json(Path(directory) / "codes.json")
        model = CostModel.from_pretrained(directory) if header["has_model"] else None
        codes = load_file(Path(directory) / "codes.safetensors")["codes"]
        return cls(codes, tuple(header["level_sizes"]), model, header["lineage"], header["history"])


def fit_codes(
    vectors: np.ndarray | Tensor,
    options: CodesOptions,
    *,
    items: pd.DataFrame,
    output_dir: str | Path,
    seed: int = 0,
) -> CodesResult:
    """Give every item its model-level codes.

    Args:
        vectors: item vectors, `[N, E]`.
        options: the codes section.
        items: catalog with `item_id` (and the category column), N rows.
        output_dir: holds `checkpoints/` while a neural fit is going on; a call with the same arguments continues there.
        seed: of weights, batches, initialisation and random codes.

    Raises:
        ValueError: for options or data that make no codes.
        CodebookCollapse: where training gives all items (nearly) the same code; the message says what to change.
    """
    options.validate()
    sizes = tuple(options.level_sizes)
    if options.kind == "random":
        codes = random_codes(items["item_id"].tolist(), sizes, seed=seed)
        return CodesResult(codes, sizes, None, content_digest("random codes", list(sizes), seed), [])
    if options.kind == "category":
        codes = category_codes(items, options.category_column, sizes)
        return CodesResult(codes, sizes, None, content_digest("category codes", codes), [])
    table = torch.as_tensor(np.ascontiguousarray(vectors, dtype=np.float32))
    if options.is_neural:
        model, history = _train(table, options, Path(output_dir) / "checkpoints", seed=seed)
    else:
        model, history = fit_rkmeans(table, options, seed=seed), []
    health = measure_health(model, table, batch_size=options.batch_size)
    check_collapse(health, model, options, epoch=options.epochs)
    history = [*history, {"final": True, **health}]
    return CodesResult(model.encode(table).numpy(), sizes, model, assignment_digest(model), history)


class VectorDataset(Dataset):
    """Rows of a vector table; a whole batch is one gather, where a row at a time would cost more than the training."""

    def __init__(self, vectors: Tensor):
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"item_embeddings": self.vectors[index]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """Return a batch, as torch's fetcher asks for it."""
        return {"item_embeddings": self.vectors[indices]}


def _train(vectors: Tensor, options: CodesOptions, directory: Path, *, seed: int) -> tuple[CostModel, list[dict]]:
    torch.manual_seed(seed)
    model = CostModel(CostConfig(**options.config_fields(vectors.shape[1])))
    if PartialState().is_main_process:
        drop_incomplete_checkpoints(directory)
    PartialState().wait_for_everyone()
    checkpoint = last_complete_checkpoint(directory)
    if checkpoint is None:
        initialize_codebooks(model, vectors, options, seed=seed)
    trainer = Trainer(
        model=model,
        args=_training_arguments(options, directory, seed),
        train_dataset=VectorDataset(vectors),
        data_collator=_as_it_is,
        callbacks=[CodebookCare(vectors, options, seed=seed)],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        shutil.rmtree(directory, ignore_errors=True)
    history = [entry for entry in trainer.state.log_history if "perplexity" in entry]
    return trainer.accelerator.unwrap_model(trainer.model).cpu().eval(), history


def _as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


def _training_arguments(options: CodesOptions, directory: Path, seed: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(directory),
        seed=seed,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=not torch.cuda.is_available(),
        logging_strategy="no",
        save_strategy="no",  # CodebookCare asks for checkpoints behind the revival of an epoch
        save_total_limit=1,
        remove_unused_columns=False,
        report_to=[],
    )
