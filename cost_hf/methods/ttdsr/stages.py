"""The stage that makes the first index: texts embedded by the pretrained model, both towers fitted, codes given."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file
from torch import Tensor

from cost_hf.data.encoders import model_identity
from cost_hf.data.item_texts import render_texts
from cost_hf.files import atomic_path, content_digest, read_tensors
from cost_hf.generators.pretrained import load_model, load_tokenizer
from cost_hf.generators.templates import PromptEncoder
from cost_hf.methods.base import Workspace
from cost_hf.methods.ttdsr.options import TtdsrOptions
from cost_hf.methods.ttdsr.text_states import TextRows
from cost_hf.methods.ttdsr.towers import ITEMS, USERS, naming_tower
from cost_hf.methods.ttdsr.user_texts import user_texts
from cost_hf.quantizers.fit import CodesResult, fit_codes
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

STAGE = "index"  # stage and folder
STATES = "states.safetensors"
USER_NAMESPACE = "u"


@dataclass(frozen=True)
class FirstIndex:
    """Codes of items and, where they have semantic IDs, of users, as the pretrained model's states give them."""

    codes: Mapping[str, CodesResult]

    def users(self, workspace: Workspace) -> Catalog | None:
        """Return the training users with their semantic IDs, which several users may share; None without users."""
        if USERS not in self.codes:
            return None
        own = self.codes[USERS]
        states: Any = own.encoded
        users = [str(user) for user in workspace.data.split.train_user_ids]
        return Catalog.from_embeddings(users, states, own.model, codes=own.codes, collisions="none")


def entity_texts(workspace: Workspace, options: TtdsrOptions) -> dict[str, list[str]]:
    """Return the texts of all items and, where they have semantic IDs, of the training users."""
    texts = {ITEMS: render_texts(workspace.data.tables.items, workspace.vector_options.item_template)}
    return texts | ({USERS: user_texts(workspace.data, options.users)} if options.has_users else {})


def tower_options(options: TtdsrOptions) -> dict[str, Any]:
    """Return the options of the quantizer of each tower; users have sizes of their own."""
    users = options.codes.copied(level_sizes=list(options.users.level_sizes))
    return {ITEMS: options.codes} | ({USERS: users} if options.has_users else {})


def user_vocabulary(options: TtdsrOptions) -> SidVocabulary | None:
    """Return the tokens of users, before a tokenizer gives them ids; None where users have no semantic IDs."""
    return SidVocabulary(tuple(options.users.level_sizes), namespace=USER_NAMESPACE) if options.has_users else None


def index_stage(workspace: Workspace, options: TtdsrOptions, *, seed: int) -> FirstIndex:
    """Embed the texts by the pretrained model and fit the towers, in a stage."""
    codes = tower_options(options)
    texts = entity_texts(workspace, options)
    _check_users(options, len(texts.get(USERS, [])))
    seed = seed if options.codes.seed is None else options.codes.seed
    fit_rows = workspace.data.fit_rows
    digest = content_digest(
        "ttdsr.index.1",
        model_identity(str(options.generator.backbone), options.generator.revision),
        [options.index.max_text_tokens, options.index.batch_size],
        {name: own.content() for name, own in codes.items()},
        texts,
        *([] if fit_rows is None else [fit_rows]),
        seed,
    )

    def compute(folder: Path) -> None:
        states = _pretrained_states(options, texts)
        for name, own in codes.items():
            rows = fit_rows if name == ITEMS else None
            with naming_tower(name):
                fit_codes(states[name], own, output_dir=folder / name, seed=seed, fit_rows=rows)
        with atomic_path(folder / STATES) as path:
            save_file({name: table.numpy() for name, table in states.items()}, path)

    def load(folder: Path) -> FirstIndex:
        states = read_tensors(folder / STATES)
        return FirstIndex(
            {
                name: dataclasses.replace(CodesResult.load(folder / name), encoded=torch.from_numpy(states[name]))
                for name in codes
            }
        )

    return workspace.stages.run(
        workspace.stage_of(STAGE), digest=digest, folder=workspace.folder_of(STAGE), compute=compute, load=load
    )


def _check_users(options: TtdsrOptions, num_users: int) -> None:
    """Raise ValueError for a level with more codes than there are users, where k-means on them comes first."""
    most = max(options.users.level_sizes)
    if options.has_users and num_users < most:
        raise ValueError(
            f"a level of {most} codes needs as many training users, got {num_users}; lower users.level_sizes (e.g. to "
            f"{max(2, num_users // 8)}), or leave users out: users.in_prompt false, and no tasks of users"
        )


def _pretrained_states(options: TtdsrOptions, texts: Mapping[str, list[str]]) -> dict[str, Tensor]:
    name = str(options.generator.backbone)
    revision = options.generator.revision
    model = load_model(name, revision=revision, is_causal=True).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(name, revision=revision)
    # a text may not spell a token of the training to come, so these are known here, too
    vocabulary = SidVocabulary(_level_sizes(options)).extend(tokenizer, None)
    users = user_vocabulary(options)
    if users is not None:
        users.extend(tokenizer, None)
    encoder = PromptEncoder(tokenizer, vocabulary, is_causal=True)
    return {
        name: TextRows.of(own, encoder, max_tokens=options.index.max_text_tokens).vectors(
            model, batch_size=options.index.batch_size
        )
        for name, own in texts.items()
    }


def _level_sizes(options: TtdsrOptions) -> tuple[int, ...]:
    appended = [options.catalog.append_size] if options.catalog.collisions == "append" else []
    return (*options.codes.level_sizes, *appended)
