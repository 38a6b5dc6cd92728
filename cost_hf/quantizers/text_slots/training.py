"""Training of text slots by the stock `Trainer`, then k-means of what they keep of all texts.

As for other quantizers: checkpoints are written at the end of epochs, the order of items is a function of (seed,
epoch), and a killed run resumes where it stopped.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL_LAYERS
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.pytorch_utils import Conv1D

from cost_hf.base_models import commit_of, weights_digest
from cost_hf.checkpoints import CheckpointDigests, forget_generation_settings, last_complete_checkpoint
from cost_hf.files import readable_load_errors
from cost_hf.precision import trains_in_bf16
from cost_hf.quantizers.base import CodebookCollapse
from cost_hf.quantizers.text_slots.configuration_text_slots import TextSlotsConfig
from cost_hf.quantizers.text_slots.modeling_text_slots import TEXTS_PER_BATCH, TextSlotsModel, padded
from cost_hf.quantizers.text_slots.options import TextSlotsOptions
from cost_hf.quantizers.training.callbacks import CheckpointCallback, QuantizerProgress
from cost_hf.quantizers.training.kmeans import kmeans_centers, residual_kmeans
from cost_hf.quantizers.training.trainer import QuantizerTrainer, prepare_checkpoints, training_arguments
from cost_hf.semantic_ids.codebook_utilization import codebook_utilization
from cost_hf.sharding import whole_weights
from cost_hf.trackers import require_trackers

LARGEST_GROUP = 0.5  # share of the items with the same codes above which codes are useless
LEAST_GAIN = 1.05  # of perplexity by the slots of a text, below which they are said to be empty
SAMPLE = 512  # texts that perplexities are measured on
DIGITS = 6  # of perplexities in logs
logger = logging.getLogger(__name__)


class TextSlotsTrainer(QuantizerTrainer):
    """Trains a `TextSlotsModel` on tokens of texts."""

    def model_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return tokens and mask."""
        return dict(inputs)


class TokenRows(Dataset):
    """Token ids of texts, by row."""

    def __init__(self, tokens: Sequence[Sequence[int]]):
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> Sequence[int]:
        return self.tokens[row]


class TermsCallback(TrainerCallback):
    """Logs the means of the loss terms after each epoch; its record is what a resumed run finds of it."""

    def __init__(self, trainer: QuantizerTrainer):
        self._trainer = trainer

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log them."""
        self._trainer.log(self._trainer.take_mean_terms())


class StepTimes(TrainerCallback):
    """Seconds of every step of this process."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the time."""
        self._start = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep the difference."""
        self.seconds.append(time.perf_counter() - self._start)


@whole_weights()
def fit_text_slots(
    texts: Sequence[str], options: TextSlotsOptions, *, folder: Path, digest: str, seed: int
) -> tuple[TextSlotsModel, Tensor, list[dict[str, Any]]]:
    """Train slots, bottleneck and adapter, set the centroids, and return the model, the slots and the log.

    Args:
        texts: of the items that fitting may see.
        options: model and training.
        folder: of the checkpoints; whole ones of the same `digest` are resumed, others deleted.
        digest: of everything that the result depends on.
        seed: of weights, order of items and k-means.

    Returns:
        The model in eval mode with its language model attached. The slots of the texts, side by side, `[N, S · E]`.
        Records with the mean loss terms of every epoch, and a last one with the utilization of the codes, perplexities
        of texts and what a step took: `tokens_per_step` that are read and rebuilt, and the median of
        `seconds_per_step`, None where no step was left to take.

    Raises:
        CodebookCollapse: where most items get the same codes.
        OSError: where the language model can't be loaded.
        ValueError: for a language model that can't be used, or a tracker that is not installed.
    """
    require_trackers(options.report_to, "codes.report_to")
    state = PartialState()
    if state.is_main_process:
        prepare_checkpoints(folder, digest)
    state.wait_for_everyone()
    model = untrained_model(options, seed=seed)
    tokens = model.tokenized(texts)
    model.match_embeddings(**padded(tokens[:TEXTS_PER_BATCH]))
    trainer = TextSlotsTrainer(
        model=model,
        args=training_arguments(
            options,
            folder,
            seed,
            finds_unused=not options.reconstruction_weight,
            bf16=trains_in_bf16(options.precision, option="codes.precision"),
        ),
        train_dataset=TokenRows(tokens),
        data_collator=padded,
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(QuantizerProgress())
    times = StepTimes()
    for callback in (TermsCallback(trainer), CheckpointCallback(options.save_epochs), CheckpointDigests(), times):
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    forget_generation_settings(model)
    slots = model.embed_texts(texts)
    set_centroids(model, slots, seed=seed)
    codes = model.encode(slots)
    record: dict[str, Any] = {**codebook_utilization(codes.numpy(), model.level_sizes)}
    _check_collapse(record, len(texts))
    steps = max(1, trainer.state.max_steps)
    if options.reconstruction_weight:
        perplexities = text_perplexities(model, slots, codes, texts, seed=seed)
        _warn_of_empty_slots(perplexities)
        record |= perplexities
    record |= {
        "steps": steps,
        "tokens_per_step": _tokens_of(tokens, model.config) * options.epochs / steps,
        "seconds_per_step": median(times.seconds) if times.seconds else None,
    }
    log = [dict(entry) for entry in trainer.state.log_history if "loss" in entry]
    return model, slots, [*log, record]


def untrained_model(options: TextSlotsOptions, *, seed: int) -> TextSlotsModel:
    """Return a model with weights of a seed, and its language model attached.

    Raises:
        OSError: where the language model can't be loaded.
        ValueError: for one that is not decoder-only, has no end token, or lacks the layers that are asked for.
    """
    name = options.backbone
    revision = options.revision
    with readable_load_errors("the language model", name):
        found = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    if found.is_encoder_decoder:
        raise ValueError(
            f"codes.backbone={name!r} is a {found.model_type}, and slots stand behind a text in a decoder-only model; "
            "name a causal one"
        )
    with readable_load_errors("the language model", name):
        base = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {name!r} has no end token (eos); set eos_token in tokenizer_config.json")
    rows, width = base.get_input_embeddings().weight.shape
    config = TextSlotsConfig(
        level_sizes=options.level_sizes,
        base_name=name,
        base_revision=commit_of(name, revision),
        base_digest=weights_digest(base),
        hidden_size=width,
        vocab_size=min(rows, len(tokenizer)),  # semantic IDs may take spare rows of a model
        num_slots=options.slots,
        slot_dim=options.slot_dim,
        clustering=options.clustering,
        max_tokens=options.max_tokens,
        adapter_rank=options.adapter_rank,
        adapter_layers=adapter_layers(base, options.adapter_modules),
        reconstruction_weight=options.reconstruction_weight,
        contrastive_weight=options.contrastive_weight,
        temperature=options.temperature,
        view_dropout=options.view_dropout,
        alignment_weight=options.alignment_weight,
    )
    positions = getattr(base.config, "max_position_embeddings", None)
    if positions is not None and 1 + options.max_tokens + options.slots > positions:
        raise ValueError(
            f"a start token, a text of codes.max_tokens={options.max_tokens} tokens and {options.slots} slots do not "
            f"fit into the {positions} positions of {name!r}; lower codes.max_tokens"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = TextSlotsModel(config)
    model.attach_base(base)
    return model


def adapter_layers(base: PreTrainedModel, modules: list[str] | str | None) -> list[list[str | int]]:
    """Return the layers of a language model that get LoRA, as `[name, inputs, outputs]`, in the order of the model.

    Args:
        base: the language model.
        modules: as `codes.adapter_modules`.

    Raises:
        ValueError: for a name that no linear layer has; the message names those that there are.
    """
    head = base.get_output_embeddings()
    linear = {
        name: layer
        for name, layer in base.named_modules()
        if isinstance(layer, (nn.Linear, Conv1D)) and layer is not head
    }
    wanted = USUAL_LAYERS.get(base.config.model_type) if modules is None else modules
    known = sorted({name.rpartition(".")[2] for name in linear})
    if wanted is None:
        raise ValueError(
            f"peft has no usual layers for a {base.config.model_type}; set codes.adapter_modules to all-linear or some "
            f"of {', '.join(known)}"
        )
    if wanted != "all-linear":
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise ValueError(
                f"codes.adapter_modules must name linear layers of the {base.config.model_type}, got "
                f"{missing[0] if missing else names!r}; choose from {', '.join(known)}"
            )
        linear = {name: layer for name, layer in linear.items() if name.rpartition(".")[2] in names}
    return [[name, *_widths_of(layer)] for name, layer in linear.items()]


def set_centroids(model: TextSlotsModel, slots: Tensor, *, seed: int) -> None:
    """Set the centroids by k-means of slots `[N, S · E]`: of every slot alone, or of the residuals of all."""
    sizes = model.level_sizes
    if model.has_parallel_levels:
        parts = slots.split(model.config.slot_dim, dim=1)
        levels = [
            kmeans_centers(part, size, seed=seed + level)
            for level, (part, size) in enumerate(zip(parts, sizes, strict=True))
        ]
    else:
        levels = residual_kmeans(slots, sizes, seed=seed)
    state = PartialState()  # those of process 0: sums differ on different machines
    model.replace_centroids([broadcast(level.contiguous().to(state.device)).to(model.device) for level in levels])


def text_perplexities(
    model: TextSlotsModel, slots: Tensor, codes: Tensor, texts: Sequence[str], *, seed: int
) -> dict[str, float]:
    """Return perplexities of a token of a sample of texts: given their slots, their codes, and others' slots.

    The last one measures how much of the text the language model predicts without the slots. A perplexity is the
    exponential of the mean over texts of the mean cross-entropy of their tokens.

    Args:
        model: with centroids.
        slots: of the texts, `[N, S · E]`.
        codes: of the texts, `[N, L]`.
        texts: N of them.
        seed: of the sample.

    Returns:
        `text_perplexity_slots`, `text_perplexity_codes`, `text_perplexity_others`.
    """
    drawn = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))[:SAMPLE]
    chosen = [texts[row] for row in drawn.tolist()]
    given = {"slots": slots[drawn], "codes": model.quantized(codes[drawn].to(model.device)).cpu()}
    given["others"] = given["slots"].roll(1, dims=0)
    return {
        f"text_perplexity_{name}": round(float(model.token_losses(own, chosen).mean().exp()), DIGITS)
        for name, own in given.items()
    }


def _warn_of_empty_slots(perplexities: Mapping[str, float]) -> None:
    """Warn where the slots of a text say hardly more of it than those of another one."""
    own = perplexities["text_perplexity_slots"]
    others = perplexities["text_perplexity_others"]
    if others < LEAST_GAIN * own:
        logger.warning(
            "the slots tell hardly anything of the texts: the perplexity of a text is %.2f given its own and %.2f "
            "given those of another one; train longer (codes.epochs)",
            own,
            others,
        )


def _tokens_of(tokens: Sequence[Sequence[int]], config: TextSlotsConfig) -> int:
    """Return the tokens of a pass over all texts: read with their slots, rebuilt behind them, seen in a second view."""
    passes = 1 + bool(config.reconstruction_weight) + bool(config.contrastive_weight)
    return passes * sum(1 + len(own) + config.num_slots for own in tokens)


def _check_collapse(record: Mapping[str, Any], num_items: int) -> None:
    """Raise CodebookCollapse where most items have the same codes."""
    if record["largest_group"] > LARGEST_GROUP * num_items:
        raise CodebookCollapse(
            f"{record['largest_group']} of {num_items} items have the same codes; the slots hardly depend on the "
            "texts: train longer (codes.epochs), lower codes.learning_rate, or set codes.contrastive_weight above 0"
        )


def _widths_of(layer: Any) -> tuple[int, int]:
    """Return inputs and outputs of a linear layer; GPT-2 has transposed ones."""
    rows, columns = layer.weight.shape
    return (rows, columns) if isinstance(layer, Conv1D) else (columns, rows)
