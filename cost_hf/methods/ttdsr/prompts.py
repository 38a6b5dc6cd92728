"""History prompts that begin with the semantic ID of their user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cost_hf.generators.backbones import Backbone
from cost_hf.generators.prompts import Example, PromptBuilder
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary

KNOWN_TURNS = 4  # prompts with a user for each one without, which is what an unknown user has
NO_TOKEN = -1
NO_ITEMS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class UserPromptBuilder(PromptBuilder):
    """Prompts whose items follow `<|u_sid_begin|>` and the semantic ID of the user, where the user is known.

    Args:
        user_rows: row of every known user.
        user_tokens: marker and codes of every row, `[U, 1 + L_u]`.
        profile_items: items that the text of every row tells of, U arrays; empty where prompts are not for training.
    """

    user_rows: Mapping[str, int]
    user_tokens: Tensor
    profile_items: Sequence[np.ndarray] = ()

    def sequence(self, user_id: str | None, rows: np.ndarray, first_label: int) -> Example:
        """Return the example of `PromptBuilder.sequence`; targets that the user's text gives away have weight 0.

        These are the items that the text tells of before the row does. Where nothing else is a target, no user is
        shown.
        """
        is_first = np.zeros(len(rows), dtype=bool)
        is_first[np.unique(rows, return_index=True)[1]] = True
        is_learned = ~(is_first & np.isin(rows, self._profile(user_id)))[first_label:]
        if not is_learned.any():
            return super().sequence(None, rows, first_label)
        example = super().sequence(user_id, rows, first_label)
        if is_learned.all():
            return example
        weights = np.repeat(is_learned, self.item_tokens.shape[1]).astype(np.float32)
        return example._replace(weights=weights)

    def pair(self, user_id: str | None, history: np.ndarray, target: int) -> Example:
        """Return the example of `PromptBuilder.pair`.

        It has no user whose text tells of the target before the history does.
        """
        gives_away = target in self._profile(user_id) and target not in history
        return super().pair(None if gives_away else user_id, history, target)

    def _profile(self, user_id: str | None) -> np.ndarray:
        """Return the items that the text of a user tells of."""
        row = None if user_id is None else self.user_rows.get(user_id)
        return self.profile_items[row] if self.profile_items and row is not None else NO_ITEMS

    def _user_tokens(self, user_ids: Sequence[str], count: int) -> Tensor:
        """Return the tokens of users `[count, 1 + L_u]`, -1 for unknown ones; `[count, 0]` without users."""
        if not user_ids:
            return torch.empty(count, 0, dtype=torch.long)
        rows = torch.tensor([self.user_rows.get(str(user), -1) for user in user_ids])
        return self.user_tokens[rows.clamp_min(0)].masked_fill((rows < 0)[:, None], NO_TOKEN)


@dataclass(frozen=True)
class UserBackbone(Backbone):
    """A language model whose users have semantic IDs.

    Attributes:
        user_ids: the known users.
        user_tokens: marker and codes of each, which prompts and tasks share, `[U, 1 + L_u]`.
        profile_items: items that the text of each tells of, which are no targets after its semantic ID.
        shows_users: whether prompts of histories begin with them.
    """

    user_ids: tuple[str, ...] = ()
    user_tokens: Tensor = field(default_factory=lambda: torch.empty(0, 1, dtype=torch.long))
    profile_items: Sequence[np.ndarray] = ()
    shows_users: bool = True

    def prompts(self, catalog: Catalog) -> list[PromptBuilder]:
        """Return the prompt builders of a catalog, of which a fifth shows no user; the first one recommends."""
        plain = super().prompts(catalog)
        if not self.shows_users:
            return plain
        shown = [with_user(builder, self.user_ids, self.user_tokens, self.profile_items) for builder in plain]
        return [*shown * KNOWN_TURNS, *plain]


def with_user(
    builder: PromptBuilder, user_ids: Sequence[str], user_tokens: Tensor, profile_items: Sequence[np.ndarray] = ()
) -> UserPromptBuilder:
    """Return a prompt builder that shows users.

    Args:
        builder: of the same prompt without them.
        user_ids: the known users.
        user_tokens: marker and codes of each, `[U, 1 + L_u]`.
        profile_items: items that the text of each tells of, in training.
    """
    rows = {user: row for row, user in enumerate(user_ids)}
    return UserPromptBuilder(**vars(builder), user_rows=rows, user_tokens=user_tokens, profile_items=profile_items)


def tokens_of_users(codes: np.ndarray, vocabulary: SidVocabulary) -> Tensor:
    """Return marker and codes of users as token ids, `[U, 1 + L_u]`, given their codes `[U, L_u]`."""
    tokens = vocabulary.encode(torch.tensor(codes))
    return torch.cat([torch.full_like(tokens[:, :1], vocabulary.begin_id), tokens], 1)
