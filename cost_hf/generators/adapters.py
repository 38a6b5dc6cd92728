"""LoRA (arXiv 2106.09685) on a pretrained generator, with the embeddings of the SID tokens trained beside it.

Only the adapter and those embeddings are saved, in checkpoints too, and never the embedding matrix (peft would add it
whenever a vocabulary has grown: peft issue 2898).
"""

import copy
import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from cost_hf.base_models import weights_digest
from cost_hf.files import DamagedFileError, first_line, readable_load_errors
from cost_hf.generators.options import AdapterOptions
from cost_hf.generators.pretrained import BaseModel, load_model
from cost_hf.semantic_ids.vocabulary import SidVocabulary

ALL_LINEAR = "all-linear"


def add_adapter(
    model: PreTrainedModel,
    options: AdapterOptions,
    vocabulary: SidVocabulary,
    *,
    rank: int,
    users: SidVocabulary | None = None,
) -> PeftModel:
    """Add LoRA to a model, in place; it trains with the embeddings of the vocabulary, all other weights are frozen.

    Args:
        model: with embeddings for the vocabulary.
        options: section `adapter`.
        vocabulary: tokens whose embeddings are trained.
        rank: `options.r`, where it is given.
        users: tokens of users, whose embeddings are trained, too; None for none.

    Raises:
        ValueError: for target modules that the model does not have or peft can't adapt; the message names valid ones.
    """
    named = options.target_modules
    targets = [named] if isinstance(named, str) and named != ALL_LINEAR else named
    _check_targets(model, targets)
    known = [vocabulary] if users is None else [vocabulary, users]
    rows = [row for own in known for row in range(own.first_id, own.size)]
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM,
        r=rank,
        lora_alpha=2 * rank if options.alpha is None else options.alpha,
        lora_dropout=options.dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),
        trainable_token_indices=dict.fromkeys(_embedding_names(model), rows),
    )
    try:
        with _without_deprecation_warning():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise ValueError(
            f"peft can't adapt {type(model).__name__} at target_modules={targets!r} ({error}); choose from "
            f"{', '.join(_layer_names(model)) or 'its linear layers, of which it has none'}"
        ) from error
    return saving_adapter_only(adapted)


def load_adapted(
    directory: Path, base: BaseModel, vocabulary: SidVocabulary, tokenizer: Any, users: SidVocabulary | None = None
) -> PeftModel:
    """Load a base model, extend its vocabulary, and load the adapter, which has the new tokens' embeddings.

    Raises:
        OSError: where the base model can't be loaded.
        ValueError: where its weights or the vocabulary are not those of the training; digests are named.
    """
    try:
        model = load_model(base.name, revision=base.revision)
    except OSError as error:
        raise OSError(
            f"{directory} is an adapter of {base.name!r}, which can't be loaded ({first_line(error)}); restore "
            "that model, or save the recommender with whole weights by GenerativeRecommender.merge() where it loads"
        ) from error
    found = weights_digest(model)
    if found != base.digest:
        raise ValueError(
            f"the adapter in {directory} was trained on {base.name!r} with digest {base.digest}, and that model now "
            f"has {found}; restore the revision that it was trained on"
        )
    known = [vocabulary] if users is None else [vocabulary, users]
    added = sum(len(own.tokens) for own in known)
    if added != base.added_tokens:
        raise ValueError(
            f"the adapter in {directory} was trained with {base.added_tokens} added tokens, and its vocabulary "
            f"{vocabulary.digest} has {added}; the files do not belong together: copy the whole directory of one run"
        )
    for own in known:
        own.extend(tokenizer, model)
    try:
        with readable_load_errors("the adapter", directory), _without_deprecation_warning():
            warnings.filterwarnings("error", message="Found missing adapter keys")  # peft would initialise them anew
            return saving_adapter_only(PeftModel.from_pretrained(model, str(directory)))
    except UserWarning as warning:
        raise DamagedFileError(
            f"the adapter in {directory} lacks weights that its configuration defines ({str(warning)[:200]}); "
            "copy the directory again"
        ) from warning


def adapter_weights(model: Any) -> dict[str, Tensor]:
    """Return the weights of an adapter by name, without those of its base."""
    with _without_deprecation_warning():
        return get_peft_model_state_dict(model, save_embedding_layers=False)


def bare_base(model: PeftModel) -> PreTrainedModel:
    """Return the base of an adapter as modules of their own, without adapters; all weights are those of `model`.

    Adapters that are added to it do not change `model`, and it costs no memory. Merging the adapter of `model` changes
    its weights too.
    """
    weights = [*model.parameters(), *model.buffers()]
    copied = copy.deepcopy(model, {id(weight): weight for weight in weights})
    return copied.unload()


def train_adapter(model: PeftModel) -> None:
    """Let a loaded adapter, and the embeddings that belong to it, be trained; the base stays frozen."""
    model.set_adapter(model.active_adapter)


def saving_adapter_only(model: PeftModel) -> PeftModel:
    """Make every save of a model leave out the embedding matrix, those of Trainer and of users alike."""
    model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
    return model


@contextmanager
def _without_deprecation_warning() -> Iterator[None]:
    """Drop the warning that peft calls a property of transformers by its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def _check_targets(model: PreTrainedModel, targets: list[str] | str | None) -> None:
    """Raise ValueError for a name that no layer has."""
    names = _layer_names(model)
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no linear layer for LoRA to adapt; leave the section adapter out, or choose "
            "another backbone"
        )
    modules = [name for name, _ in model.named_modules()]
    for name in targets if isinstance(targets, list) else ():
        if not any(module == name or module.endswith(f".{name}") for module in modules):
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"adapter.target_modules names {name!r}, which {type(model).__name__} does not have{hint}; its layers "
                f"are {', '.join(names)}"
            )


def _layer_names(model: PreTrainedModel) -> list[str]:
    """Return the names of linear layers without their path, in order, except the head."""
    head = model.get_output_embeddings()
    layers = (
        name.rpartition(".")[2]
        for name, part in model.named_modules()
        if isinstance(part, (nn.Linear, Conv1D)) and part is not head
    )
    return list(dict.fromkeys(layers))


def _embedding_names(model: Any) -> list[str]:
    """Return the names of the modules with token embeddings: one where the head is tied to the embedding, else two."""
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    matrices = [embedding]
    if head is not None and head.weight is not embedding.weight:
        matrices.append(head)
    names = {id(part): name for name, part in reversed(list(model.named_modules()))}
    return [names[id(matrix)] for matrix in matrices]
