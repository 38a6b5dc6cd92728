"""The index in training: a callback refreshes it from the language model's own states, and checkpoints carry it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cost_hf.generators.prompts import PromptBuilder
from cost_hf.methods.ttdsr.options import IndexOptions
from cost_hf.methods.ttdsr.text_states import TextRows
from cost_hf.methods.ttdsr.towers import ITEMS, USERS, Tower, load_index, naming_tower, save_index, trained_on
from cost_hf.quantizers.residual import TrainedOptions
from cost_hf.semantic_ids.codebook_utilization import codebook_utilization
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary

FOLDER = "index"  # in checkpoints
REFRESH_RATE = 0.1  # of codes.learning_rate: at the whole rate most codes of states that stand still would move
logger = logging.getLogger(__name__)


class DynamicIndex:
    """Towers of items and users, with the texts that they quantize and the tables of tokens that examples read.

    Tasks and prompts hold the tables, so a refresh writes into them: examples made afterwards have the new codes, and
    the vocabulary stays.

    Args:
        towers: of `items` and, where users have semantic IDs, `users`.
        texts: of the rows of each tower.
        prompts: builders of history prompts, each with a table of its own.
        vocabularies: tokens of each tower.
        user_tokens: token ids of users, `[U, L_u]`; None without users.
        codes: options of each tower's quantizer.
        options: section `index`.
        fit_rows: items that fitting may see, bool `[N]`; None for all.
        seed: of the training of quantizers.
    """

    def __init__(
        self,
        towers: Mapping[str, Tower],
        texts: Mapping[str, TextRows],
        prompts: Sequence[PromptBuilder],
        vocabularies: Mapping[str, SidVocabulary],
        *,
        user_tokens: Tensor | None,
        codes: Mapping[str, TrainedOptions],
        options: IndexOptions,
        fit_rows: np.ndarray | None,
        seed: int,
    ):
        self.towers = dict(towers)
        self.texts = texts
        self.tables: dict[str, list[Tensor]] = {ITEMS: [builder.item_tokens for builder in prompts]}
        if user_tokens is not None:
            self.tables[USERS] = [user_tokens]
        self.vocabularies = vocabularies
        self.codes = codes
        self.options = options
        self.fit_rows = fit_rows
        self.seed = seed
        self._trie: tuple[str, SidTrie] | None = None

    def use(self, towers: Mapping[str, Tower]) -> None:
        """Take other towers, in the tables of tokens, too."""
        self.towers = dict(towers)
        for name, tower in self.towers.items():
            tokens = self.vocabularies[name].encode(torch.tensor(tower.catalog.codes))
            for table in self.tables[name]:
                table.copy_(tokens)

    def trie(self, popularity: np.ndarray) -> SidTrie:
        """Return the trie of the present semantic IDs of items."""
        catalog = self.towers[ITEMS].catalog
        if self._trie is None or self._trie[0] != catalog.digest:
            self._trie = (catalog.digest, SidTrie.from_catalog(catalog, popularity=popularity))
        return self._trie[1]

    def tokens(self, name: str) -> Tensor:
        """Return the token ids of a tower's rows, `[N, L]`."""
        return self.tables[name][0]

    def refresh(self, model: Any, *, step: int) -> dict[str, float]:
        """Embed all texts by a model, train the quantizers on, and give every row its code; return what has changed.

        Args:
            model: the language model in training.
            step: of the training; with the seed, of the order in which quantizers are trained.

        Returns:
            by tower the share of rows whose semantic ID changed (`items_changed`), whose first code did
            (`items_first_changed`), the perplexity of every level of the quantizer's own codes, before collisions are
            resolved (`items_perplexity_1`), and `refresh_seconds`.

        Raises:
            CodebookCollapse: where most rows of a tower get the same codes.
        """
        start = time.perf_counter()
        found: dict[str, float] = {}
        refreshed = {}
        for name, tower in self.towers.items():
            refreshed[name], utilization = self._refreshed(name, tower, model, step=step)
            found[f"{name}_changed"] = refreshed[name].changed_share(tower)
            found[f"{name}_first_changed"] = refreshed[name].changed_share(tower, levels=1)
            found |= {f"{name}_{key}": value for key, value in utilization.items() if key.startswith("perplexity_")}
        self.use(refreshed)
        return found | {"refresh_seconds": time.perf_counter() - start}

    def settle(self, model: Any) -> dict[str, float]:
        """Let quantizers standardize by the states of the finished model, which embeds new items; codes stay.

        Returns:
            by tower the share of rows to which the model's states would give another semantic ID, by the quantizer of
            the last refresh (`items_drift`) and by the settled one (`items_drift_settled`).
        """
        shares = {}
        for name, tower in self.towers.items():
            states = self.texts[name].vectors(model, batch_size=self.options.batch_size)
            settled = tower.settled(states[torch.from_numpy(self.rows_to_learn(name))])
            shares[f"{name}_drift"] = tower.reassigned(tower.quantizer, states).changed_share(tower)
            shares[f"{name}_drift_settled"] = tower.reassigned(settled.quantizer, states).changed_share(tower)
            self.towers[name] = settled
        return shares

    def rows_to_learn(self, name: str) -> np.ndarray:
        """Return the rows of a tower that training may see: all users, and the items of `fit_rows`."""
        if name == ITEMS and self.fit_rows is not None:
            return np.flatnonzero(self.fit_rows)
        return np.arange(len(self.texts[name]))

    def save(self, directory: str | Path) -> None:
        """Write the towers below `directory`."""
        save_index(Path(directory) / FOLDER, self.towers)

    def load(self, directory: str | Path) -> None:
        """Take the towers that `save` wrote."""
        self.use(load_index(Path(directory) / FOLDER, self.towers))

    def _refreshed(self, name: str, tower: Tower, model: Any, *, step: int) -> tuple[Tower, dict[str, float]]:
        """Return the tower of new states, and the utilization of the codes that its quantizer gives them.

        The policy for collisions spreads equal codes, so a collapse shows in the quantizer's own codes alone.
        """
        states = self.texts[name].vectors(model, batch_size=self.options.batch_size)
        rows = self.rows_to_learn(name)
        quantizer = trained_on(
            tower.quantizer,
            states[torch.from_numpy(rows)],
            self.codes[name],
            epochs=self.options.tower_epochs,
            learning_rate=REFRESH_RATE * self.codes[name].learning_rate,
            seed=self.seed + step,
        )
        codes = quantizer.encode(states).numpy()
        utilization = codebook_utilization(codes[rows], quantizer.level_sizes)
        with naming_tower(name):
            self.codes[name].check_collapse([utilization], num_items=len(rows))
        return tower.reassigned(quantizer, states, codes), utilization


class DynamicIndexCallback(TrainerCallback):
    """Refreshes the index every few steps until it is frozen, and never after the last step.

    A resumed run has the index of its checkpoint, and a finished one that of the checkpoint that is kept.

    Args:
        index: in training.
        log: of the trainer.
    """

    def __init__(self, index: DynamicIndex, log: Callable[[dict[str, float]], None]):
        self.index = index
        self.log = log

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the index of the checkpoint that training resumes from."""
        if state.global_step > 0:
            self.index.load(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Refresh where it is time: validation and checkpoint of this step then have the new index."""
        every = self.index.options.refresh_steps
        last = self.index.options.freeze_share * state.max_steps
        if every is None or state.global_step % every or state.global_step > last:
            return
        if control.should_training_stop:  # no step would learn the new codes
            return
        found = self.index.refresh(kwargs["model"], step=state.global_step)
        logger.info(
            "step %d: the index was refreshed, %s",
            state.global_step,
            ", ".join(f"{name} {value:.3g}" for name, value in found.items()),
        )
        is_log_due = control.should_log
        self.log(found)
        control.should_log = is_log_due  # any log clears it, and the loss of these steps would be lost

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the index of the best checkpoint, whose weights were just loaded."""
        if state.best_model_checkpoint is not None:
            self.index.load(Path(args.output_dir) / Path(state.best_model_checkpoint).name)
