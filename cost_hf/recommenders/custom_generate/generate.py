"""`generate()` constrained to the catalog, without the package that trained the model.

Transformers calls this function in place of a model's own `generate` where the model is loaded from this repository
with `trust_remote_code=True`. It reads the semantic IDs (SIDs) of the catalog in this repository and allows only tokens
that continue one of them. All else that `generate` can do remains: beams, sampling, other logits processors.

    model = AutoModelForCausalLM.from_pretrained("org/name-recommender", trust_remote_code=True)
    model.generate(histories=[["item-1", "item-7"]], num_beams=20, return_items=True)
"""

import json
import re
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from huggingface_hub import hf_hub_download
from safetensors import safe_open
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

try:
    import pyarrow.parquet as parquet
except ImportError:
    parquet = None  # needed for item ids only

DEAD_SCORE = -1e9  # of beams that `generate` can't fill
FILLER_SCORE = -1e8  # beams with a lower score are fillers: there were fewer legal SIDs than beams
PLAIN = {
    "do_sample": False,
    "length_penalty": 0.0,  # scores are sums of log-probabilities
    "min_length": 0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
_READ: WeakKeyDictionary[PreTrainedModel, tuple[str, "Catalog"]] = (
    WeakKeyDictionary()
)  # model -> (catalog file, Catalog)


def generate(
    inputs: Tensor | None = None,
    *,
    model: PreTrainedModel,
    histories: list[list[str]] | None = None,
    exclude_seen: bool = False,
    return_items: bool = False,
    logits_processor: list | None = None,
    **kwargs: Any,
) -> Any:
    """Generate semantic IDs of the catalog.

    Args:
        inputs: prompts, as for `generate`; or pass `input_ids=` and its like by keyword.
        model: the model.
        histories: lists of item ids, oldest first, in place of prompts.
        exclude_seen: leave out the items of `histories`.
        return_items: return, per prompt, `(item_id, score)` pairs, best first, and not token ids.
        logits_processor: further processors; they run before the constraint.
        kwargs: of `generate`. As many tokens are generated as a SID has levels.

    Raises:
        ValueError: for unknown items, and prompts that end with a prefix of no SID.
    """
    catalog = _catalog(model)
    seen = None
    if histories is not None:
        rows = [catalog.rows_of(history) for history in _ordered(histories, "histories")]
        kwargs |= catalog.prompts(rows, device=model.device)
        seen = rows if exclude_seen else None
    elif exclude_seen:
        raise ValueError("exclude_seen=True needs histories of item ids, got none; pass histories=")
    elif inputs is not None:
        kwargs["inputs"] = inputs
    if return_items:
        beams = max(2, int(kwargs.get("num_beams") or catalog.manifest["num_beams"]))
        kwargs |= {"num_beams": beams, "return_dict_in_generate": True, "output_scores": True}
        kwargs.setdefault("num_return_sequences", beams)
    constraint = CatalogConstraint(catalog, len(kwargs["input_ids"]) if seen else 1, seen)
    output = type(model).generate(
        model,
        **PLAIN | kwargs | {"max_new_tokens": catalog.num_levels, "eos_token_id": None, "custom_generate": None},
        logits_processor=LogitsProcessorList([*(logits_processor or []), constraint]),
    )
    return catalog.items(output, kwargs["num_return_sequences"], seen) if return_items else output


def _ordered(values: Any, name: str) -> list:
    """Return an ordered iterable as a list; raise ValueError for a string or a collection without order."""
    if isinstance(values, str | bytes | set | frozenset | dict) or not hasattr(values, "__iter__"):
        raise ValueError(f"{name} must be a list (histories= takes lists of item ids), got {values!r:.80}")
    return list(values)


def _id_text(item: Any) -> Any:
    """Return the digits of a whole number, as item ids have them; anything else as it is."""
    return str(int(item)) if isinstance(item, Integral) and not isinstance(item, bool) else item


class Catalog:
    """The SIDs of the catalog as sorted keys: node `i` of a level is the i-th key `parent * level_size + code`.

    Args:
        path_of: function from a file name to its local path.
    """

    def __init__(self, path_of: Callable[[str], str | Path]) -> None:
        self.manifest = json.loads(Path(path_of("recommender.json")).read_text(encoding="utf-8"))
        vocabulary = json.loads(Path(path_of("vocabulary.json")).read_text(encoding="utf-8"))
        self.stem = check_stem(self.manifest["catalog"])
        self.path_of = path_of
        self.sizes = vocabulary["level_sizes"]
        self.num_levels = len(self.sizes)
        self.has_users = vocabulary["num_user_tokens"] > 0
        self.first = [vocabulary["first_id"] + sum(self.sizes[:level]) for level in range(self.num_levels)]
        self.begin_id = vocabulary["first_id"] + sum(self.sizes)
        self.pad_id = vocabulary["pad_id"]
        with safe_open(path_of(f"{self.stem}.safetensors"), framework="pt") as file:
            self.codes = file.get_tensor("codes").long()  # [N, L]
            self.is_live = file.get_tensor("removed") == 0
        self.keys: list[Tensor] = []
        node = torch.zeros(int(self.is_live.sum()), dtype=torch.long)
        for level, size in enumerate(self.sizes):
            keys, node = torch.unique(node * size + self.codes[self.is_live, level], return_inverse=True)
            self.keys.append(keys)
        self.num_items = [torch.bincount(node, minlength=len(self.keys[-1]))]  # items below every node
        for level in range(self.num_levels - 1, 0, -1):
            parents = self.keys[level] // self.sizes[level]
            counts = torch.zeros_like(self.keys[level - 1]).index_add_(0, parents, self.num_items[0])
            self.num_items.insert(0, counts)

    def walk(self, codes: Tensor) -> Tensor:
        """Return the nodes of SID prefixes `[n, l]`, -1 for a prefix of no SID."""
        node = torch.zeros(len(codes), dtype=torch.long)
        for level, code in enumerate(codes.unbind(1)):
            key = node * self.sizes[level] + code
            node = torch.searchsorted(self.keys[level], key).clamp(max=len(self.keys[level]) - 1)
            node[(self.keys[level][node] != key) | (key < 0)] = -(1 << 40)
        return node.clamp_min(-1)

    def rows_of(self, item_ids: list[str]) -> list[int]:
        """Return the catalog rows of item ids; raise ValueError for unknown ids."""
        ids = [_id_text(item) for item in _ordered(item_ids, "every history")]
        unknown = [item for item in ids if item not in self._rows]
        if unknown or not ids:
            raise ValueError(f"expected items of the catalog, got {unknown[:5] or 'an empty history'}; leave them out")
        return [self._rows[item] for item in ids]

    @property
    def _rows(self) -> dict[str, int]:
        if not hasattr(self, "_row_of"):
            if parquet is None:
                raise ImportError("item ids are read by pyarrow, which is not installed; pip install pyarrow")
            table = parquet.read_table(self.path_of(f"{self.stem}.parquet"))
            self.item_ids = table["item_id"].to_pylist()
            self._row_of = {item: row for row, item in enumerate(self.item_ids)}
        return self._row_of

    def prompts(self, rows: list[list[int]], *, device: torch.device) -> dict[str, Tensor]:
        """Return left-padded model inputs of histories of catalog rows, as the model was trained on them."""
        if self.has_users:
            raise ValueError("this model was trained with user tokens, which histories= does not write; use cost_hf")
        tokens = self.codes + torch.tensor(self.first)  # [N, L]
        parts = [tokens[history[-self.manifest["max_history"] :]].flatten().tolist() for history in rows]
        around = self.manifest["prompt"]
        parts = [[*around["before"], *part, *around["after"]] for part in parts]
        width = max(map(len, parts))
        ids = torch.tensor([[self.pad_id] * (width - len(part)) + part for part in parts], device=device)
        mask = torch.tensor([[0] * (width - len(part)) + [1] * len(part) for part in parts], device=device)
        return {"input_ids": ids, "attention_mask": mask}

    def items(self, output: Any, per_prompt: int, seen: list[list[int]] | None) -> list[list[tuple[str, float]]]:
        """Return `(item_id, score)` pairs per prompt; items that share a SID are adjacent, in catalog order."""
        tokens = output.sequences[:, -self.num_levels :].cpu()
        _ = self._rows  # reads the item ids
        leaves = self.walk((tokens - torch.tensor(self.first)).clamp_min(0)).tolist()
        leaf_of = torch.full((len(self.codes),), -1)  # removed items have none
        leaf_of[self.is_live] = self.walk(self.codes[self.is_live])
        order = leaf_of.argsort(stable=True)
        ends = torch.bincount(leaf_of + 1, minlength=len(self.keys[-1]) + 1).cumsum(0).tolist()
        answers: list[list[tuple[str, float]]] = [[] for _ in range(len(leaves) // per_prompt)]
        for beam, (leaf, score) in enumerate(zip(leaves, output.sequences_scores.tolist(), strict=True)):
            if score < FILLER_SCORE:
                continue
            denied = [] if seen is None else seen[beam // per_prompt]
            rows = order[ends[leaf] : ends[leaf + 1]].tolist()
            answers[beam // per_prompt] += [(self.item_ids[row], score) for row in rows if row not in denied]
        return answers


def check_stem(stem: str) -> str:
    """Return the name of the files of a catalog's items; raise ValueError for one that could be a path elsewhere."""
    found = re.fullmatch(r"(catalog-[0-9a-f]{16})(-[0-9a-f]{16})?", stem) if isinstance(stem, str) else None
    if found is None:  # a second digest is that of the columns, which no ID depends on
        raise ValueError(f"recommender.json names the catalog {stem!r:.80}, expected catalog- and 16 hex digits")
    return found[1]


class CatalogConstraint(LogitsProcessor):
    """Sets every token that does not continue a SID of the catalog to -inf; stateless.

    Args:
        catalog: the SIDs.
        requests: prompts, B of them.
        seen: catalog rows that each request may not get, B lists; None allows all.
    """

    def __init__(self, catalog: Catalog, requests: int, seen: list[list[int]] | None) -> None:
        self.catalog = catalog
        self.requests = requests
        self.dead = None if seen is None else self._dead_nodes(seen)
        self.is_empty = torch.zeros(requests, dtype=torch.bool)  # requests that have seen the whole catalog
        if self.dead is not None:
            roots = len(catalog.keys[0])
            self.is_empty = torch.bincount(self.dead[0] // roots, minlength=requests) == roots

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return `scores` `[rows, V]` with -inf at tokens that may not follow `input_ids` `[rows, S]`."""
        catalog = self.catalog
        ids = input_ids.cpu()
        begins = (ids == catalog.begin_id).int()
        # causal prompts hold a begin marker followed by whole SIDs; a decoder has its start token alone
        decoded = torch.full((len(ids),), max(ids.shape[1] - 1, 0))
        after = begins.flip(1).argmax(1) if begins.any() else decoded
        level = int(after[0]) % catalog.num_levels
        if (after % catalog.num_levels != level).any():
            raise ValueError("the prompts of a batch must end at the same level of a SID; generate them separately")
        prefix = ids[:, ids.shape[1] - level :] - torch.tensor(catalog.first[:level], dtype=torch.long)
        nodes = catalog.walk(prefix)
        if (nodes < 0).any():
            raise ValueError(f"no SID begins with the codes {prefix[nodes < 0][0].tolist()}; check the prompt")
        request = torch.arange(len(ids)) // (len(ids) // self.requests)
        first = catalog.first[level]
        size = catalog.sizes[level]
        penalty = torch.where(self._legal(level, nodes, request), 0.0, -torch.inf)
        penalty += self.is_empty[request, None] * DEAD_SCORE
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, first : first + size] = scores[:, first : first + size] + penalty.to(scores)
        return allowed

    def _legal(self, level: int, nodes: Tensor, request: Tensor) -> Tensor:
        """Return which codes of a level may follow nodes `[rows]`, bool `[rows, K]`."""
        keys = self.catalog.keys[level]
        size = self.catalog.sizes[level]
        wanted = nodes[:, None] * size + torch.arange(size)
        child = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        legal = keys[child] == wanted
        if self.dead is None:
            return legal
        is_dead = torch.isin(request[:, None] * len(keys) + child, self.dead[level])
        return legal & (~is_dead | self.is_empty[request, None])

    def _dead_nodes(self, seen: list[list[int]]) -> list[Tensor]:
        """Return, per level, `request * nodes + node` of nodes below which a request has seen everything."""
        catalog = self.catalog
        dead: list[Tensor] = []
        pairs = {(number, row) for number, rows in enumerate(seen) for row in rows if catalog.is_live[row]}
        request, row = torch.tensor(sorted(pairs), dtype=torch.long).view(-1, 2).unbind(1)
        node = catalog.walk(catalog.codes[row])
        for level in range(catalog.num_levels - 1, -1, -1):
            keys = catalog.keys[level]
            pairs, counts = torch.unique(request * len(keys) + node, return_counts=True)
            dead.insert(0, pairs[counts == catalog.num_items[level][pairs % len(keys)]])
            node = keys[node] // catalog.sizes[level]
        return dead


def _catalog(model: PreTrainedModel) -> Catalog:
    """Return the catalog in a model's repository; read again where an update has changed it."""
    name = model.config._name_or_path
    commit = getattr(model.config, "_commit_hash", None)

    def path_of(file: str) -> str | Path:
        return Path(name) / file if Path(name).is_dir() else hf_hub_download(name, file, revision=commit)

    stem = check_stem(json.loads(Path(path_of("recommender.json")).read_text(encoding="utf-8"))["catalog"])
    if model not in _READ or _READ[model][0] != stem:
        _READ[model] = (stem, Catalog(path_of))
    return _READ[model][1]
