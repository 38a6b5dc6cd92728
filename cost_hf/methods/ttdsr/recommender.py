"""TTDSR as a recommender: the language model gives new items their vectors itself, and knows users by semantic IDs."""

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
from transformers import PreTrainedModel

from cost_hf.data.item_texts import TemplateTexts
from cost_hf.files import check_fields
from cost_hf.generators.backbones import Backbone
from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.ttdsr.prompts import tokens_of_users, with_user
from cost_hf.methods.ttdsr.text_states import TextRows
from cost_hf.recommenders.generative import USERS, GenerativeRecommender
from cost_hf.recommenders.repository import MANIFEST
from cost_hf.recommenders.titles import prompt_encoder_of
from cost_hf.semantic_ids.catalog import Catalog

BATCH = 32
STEM = "users"  # of the files of the known users


class TtdsrRecommender(GenerativeRecommender):
    """Recommends by a language model whose index is frozen.

    A new item gets its codes from the state of its text in the trained model. The codes of the catalog come from the
    last refresh of the index, when the model was another one; `index.items_drift_settled` of results.json says how many
    of them would be others by now. They stay as they are.

    Args:
        backbone: trained model with its vocabularies and prompt.
        catalog: the items.
        max_text_tokens: of a text that the model embeds.
        item_template: of the texts of items; None takes all text columns.
        users: known users with their semantic IDs; None where prompts show none.
        parts: the other arguments of `GenerativeRecommender`; there is no text encoder beside the model.
    """

    kind = "ttdsr"
    source = "ttdsr"
    published_files = rf"{GenerativeRecommender.published_files}|{USERS}/vocabulary\.json"

    def __init__(
        self,
        backbone: Backbone,
        catalog: Catalog,
        *,
        max_text_tokens: int,
        item_template: str | None = None,
        users: Catalog | None = None,
        **parts: Any,
    ):
        self.max_text_tokens = max_text_tokens
        self.item_template = item_template
        self.users = users
        super().__init__(backbone, catalog, **parts)
        self.needs_user_ids = users is not None

    @property
    def encodes_texts(self) -> bool:
        """True: the model does."""
        return True

    @property
    def item_texts(self) -> TemplateTexts:
        """How the texts were made that the model embedded in training."""
        return TemplateTexts(self.item_template)

    @property
    def search_settings(self) -> dict[str, Any]:
        """How histories are read and searched, and texts embedded, as JSON."""
        own = {"max_text_tokens": self.max_text_tokens, "item_template": self.item_template}
        return super().search_settings | own

    def without_users(self) -> Self:
        """Return a copy that knows no user, as it is published: everybody has the prompt of an unknown one."""
        if self.users is None:
            return self
        other = copy.copy(self)
        other.users = None
        other.needs_user_ids = False
        other.snapshot = other._snapshot_of(other.catalog)
        return other

    def _encoded(self, texts: list[str]) -> np.ndarray:
        rows = TextRows.of(texts, prompt_encoder_of(self), max_tokens=self.max_text_tokens)
        return rows.vectors(self.generator, batch_size=BATCH).numpy()

    def _prompts_for(self, catalog: Catalog) -> PromptBuilder:
        prompts = super()._prompts_for(catalog)
        if self.users is None or self.user_vocabulary is None:
            return prompts
        return with_user(prompts, self.users.item_ids, tokens_of_users(self.users.codes, self.user_vocabulary))

    def _write_own_parts(self, folder: Path) -> dict[str, Any]:
        entries = super()._write_own_parts(folder)
        if self.users is not None:
            self.users.save_items(folder / USERS, STEM)
        return entries

    @classmethod
    def _read_arguments(
        cls, source: Path, manifest: dict[str, Any], generator: PreTrainedModel | None
    ) -> dict[str, Any]:
        own = {"max_text_tokens": int, "item_template": str | None}
        check_fields(manifest, own, source=source / MANIFEST)
        arguments = super()._read_arguments(source, manifest, generator)
        has_users = (source / USERS / f"{STEM}.safetensors").is_file()
        users = Catalog.load_items(source / USERS, STEM) if has_users else None
        return arguments | {name: manifest[name] for name in own} | {"users": users}
