"""Item vectors in, codes out: one function for every kind of codes.

A finished result is found again by the digest of its inputs, so the call can be repeated at no cost. On disk,
`codes.json` is written last and names the other files, so its presence means that all of them are there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from cost_hf.files import (
    DamagedFileError,
    check_fields,
    check_file_digests,
    content_digest,
    file_digests,
    plain_name,
    read_json,
    read_object,
    read_tensors,
    write_json,
)
from cost_hf.quantizers.base import CodesOptions, Quantizer, load_quantizer, reads_texts
from cost_hf.replacing import replacing, settle

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix
    from torch import Tensor

CHECKPOINTS = "checkpoints"
RECORD = "codes.json"
CODES = "codes.safetensors"
FIELDS = {
    "files": dict[str, str],
    "has_model": bool,
    "history": list,
    "inputs_digest": str,
    "level_sizes": list[int],
    "quantizer_digest": str,
}
PART = re.compile(r"codes\.json|codes\.safetensors|config\.json|model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")


def fit_codes(
    vectors: np.ndarray | Tensor | None,
    options: CodesOptions,
    *,
    output_dir: str | Path,
    seed: int,
    items: pd.DataFrame | None = None,
    item_ids: Sequence[str] | None = None,
    collaborative: np.ndarray | Tensor | None = None,
    coclicks: csr_matrix | None = None,
    popularity: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
    fit_rows: np.ndarray | None = None,
    text_encoder: dict[str, Any] | None = None,
) -> CodesResult:
    """Fit codes of any kind to item vectors and encode the items; a killed or repeated call resumes where it stopped.

    Args:
        vectors: item text vectors, `[N, E]`; None is enough where `options.uses_vectors` is false.
        options: kind, sizes and training.
        output_dir: receives the quantizer, the codes and, while training, `checkpoints/`.
        seed: of everything random: weights, k-means, order of items, dead-code reset, random codes.
        items: items table; needed where `options.needs_items`, gives the ids otherwise.
        item_ids: ids of the items, in row order; by default `items["item_id"]`.
        collaborative: collaborative vectors `[N, options.collaborative_dim]` from clicks that training may see; needed
            where `options.needs_collaborative_vectors`. A row of zeros is an item that has none; the scale of the whole
            does not matter.
        coclicks: how often two items were clicked together in the training part, `[N, N]` (`data.coclicks`); needed
            where `options.needs_coclicks`.
        popularity: training clicks of every item, `[N]`; needed where `options.needs_popularity`.
        texts: item texts, N of them; needed where `options.reads_texts`.
        fit_rows: items that initialisation, statistics and training may see, bool `[N]`; all by default. All items are
            encoded.
        text_encoder: what the vectors came from (`CostConfig.text_encoder`); it is written into the configuration.

    Returns:
        codes `[N, L]`, the quantizer and the training log.

    Raises:
        ValueError: for options or vectors that do not fit, with what to change.
        CodebookCollapse: where training ends in one code for most items.

    Examples:
        >>> import tempfile
        >>> from cost_hf.quantizers.base import CodesOptions
        >>> vectors = np.random.default_rng(0).normal(size=(100, 16))
        >>> options = CodesOptions.of("rkmeans", level_sizes=[8, 8], pca_dim=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = fit_codes(vectors, options, output_dir=folder, seed=0)
        >>> result.codes.shape
        (100, 2)
    """
    import torch
    from accelerate import PartialState

    options.validate()
    inputs = FitInputs.checked(
        vectors,
        options,
        items=items,
        item_ids=item_ids,
        collaborative=collaborative,
        coclicks=coclicks,
        popularity=popularity,
        texts=texts,
        fit_rows=fit_rows,
    )
    folder = Path(output_dir)
    state = PartialState(cpu=not torch.cuda.is_available())
    digest = inputs.digest(options, seed)
    is_finished = (folder / RECORD).is_file() and read_json(folder / RECORD)["inputs_digest"] == digest
    state.wait_for_everyone()  # no process may write before all have looked
    if is_finished:
        return CodesResult.load(folder)
    result = options.fit(inputs, folder=folder / CHECKPOINTS, digest=digest, seed=seed)
    if result.model is not None and not options.reads_texts:
        result.model.config.text_encoder = text_encoder
    result = replace(result, inputs_digest=digest)
    if state.is_main_process:
        result.save(folder)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    state.wait_for_everyone()
    return result


@dataclass(frozen=True)
class CodesResult:
    """Codes of all items and the quantizer that assigned them.

    Attributes:
        codes: `[N, L]` int64, in the order of the items.
        level_sizes: codes per level, L numbers.
        model: the quantizer, None for codes without one.
        history: one dict per epoch (`codebook_utilization` and mean loss terms); one in all for codes without training.
        quantizer_digest: assignment digest of the model, or `codes_digest` of codes without one.
        inputs_digest: digest of vectors, options and seed.
        encoded: what the model encoded, `[N, …]`, for policies that move items by its distances; it is stored where
            the model makes it of texts, and comes with the items otherwise.
    """

    codes: np.ndarray
    level_sizes: tuple[int, ...]
    model: Quantizer | None
    history: list[dict[str, Any]] = field(default_factory=list)
    quantizer_digest: str = ""
    inputs_digest: str = ""
    encoded: Tensor | None = None

    @classmethod
    def of_model(
        cls,
        model: Quantizer,
        inputs: FitInputs,
        history: list[dict[str, Any]] | None = None,
        *,
        codes: np.ndarray | None = None,
        encoded: Tensor | None = None,
    ) -> CodesResult:
        """Return the result of a fitted model: the codes that it gives to all items.

        Args:
            model: in eval mode.
            inputs: those that it was fitted to.
            history: training log; by default the utilization of the codes of the items that fitting could see.
            codes: of all items, `[N, L]`, where fitting chose others than `model.encode` does.
            encoded: what the model encodes, `[N, …]`; by default the item vectors.
        """
        from cost_hf.semantic_ids.codebook_utilization import codebook_utilization
        from cost_hf.semantic_ids.digests import assignment_digest

        encoded = inputs.vectors if encoded is None else encoded
        if codes is None:
            codes = model.encode(encoded).cpu().numpy()
        sizes = tuple(model.level_sizes)
        if history is None:
            history = [codebook_utilization(inputs.for_fitting(codes), sizes)]
        return cls(codes, sizes, model, history, assignment_digest(model), encoded=encoded)

    @classmethod
    def of_codes(cls, codes: np.ndarray, level_sizes: Sequence[int], inputs: FitInputs) -> CodesResult:
        """Return the result of codes `[N, L]` without a model."""
        from cost_hf.semantic_ids.codebook_utilization import codebook_utilization
        from cost_hf.semantic_ids.digests import codes_digest

        sizes = tuple(level_sizes)
        digest = codes_digest(inputs.item_ids, codes, sizes)
        return cls(codes, sizes, None, [codebook_utilization(codes, sizes)], digest)

    def __repr__(self) -> str:
        levels = "x".join(map(str, self.level_sizes))
        return f"CodesResult({len(self.codes)} items, levels {levels}, quantizer_digest {self.quantizer_digest[:12]})"

    def save(self, directory: str | Path) -> None:
        """Write `codes.safetensors`, `codes.json` and, with a model, its `config.json` and `model.safetensors`."""
        with replacing(directory, RECORD, old=_parts_in) as folder:
            if self.model is not None:
                self.model.save_pretrained(folder)
            tables = {"codes": np.ascontiguousarray(self.codes)}
            if reads_texts(self.model) and self.encoded is not None:
                tables["encoded"] = np.ascontiguousarray(self.encoded.cpu().numpy())
            save_file(tables, folder / CODES)
            write_json(
                folder / RECORD,
                {
                    "files": file_digests(folder),
                    "has_model": self.model is not None,
                    "history": self.history,
                    "inputs_digest": self.inputs_digest,
                    "level_sizes": list(self.level_sizes),
                    "quantizer_digest": self.quantizer_digest,
                },
            )

    @classmethod
    def load(cls, directory: str | Path) -> CodesResult:
        """Read the files that `save` wrote.

        Raises:
            FileNotFoundError: where the directory holds no finished result.
            DamagedFileError: where a file is not the one that was written.
        """
        import torch

        folder = Path(directory)
        settle(folder, RECORD)
        if not (folder / RECORD).is_file():
            raise FileNotFoundError(f"no finished codes in {str(folder)!r} ({RECORD} is missing); run fit_codes first")
        record = read_object(folder / RECORD)
        check_fields(record, FIELDS, source=folder / RECORD)
        parts = {plain_name(name, source=folder / RECORD): digest for name, digest in record["files"].items()}
        check_file_digests(folder, parts)
        tables = read_tensors(folder / CODES)
        codes = tables.get("codes")
        if codes is None or codes.ndim != 2 or codes.shape[1] != len(record["level_sizes"]):
            raise DamagedFileError(f"{folder / CODES} holds no codes [N, {len(record['level_sizes'])}]; copy it again")
        return cls(
            codes=codes,
            level_sizes=tuple(record["level_sizes"]),
            model=load_quantizer(folder) if record["has_model"] else None,
            history=record["history"],
            quantizer_digest=record["quantizer_digest"],
            inputs_digest=record["inputs_digest"],
            encoded=torch.from_numpy(tables["encoded"]) if "encoded" in tables else None,
        )


@dataclass(frozen=True, eq=False)
class FitInputs:
    """What codes are fitted to, checked; `checked` builds them.

    Attributes:
        vectors: item text vectors, fp32 `[N, E]`; `[N, 0]` where the kind uses none.
        item_ids: `[N]`, or empty where the kind needs none.
        items: items table; one of the ids alone where none was given.
        collaborative: collaborative vectors, fp32 `[N, D]`; None where the kind needs none.
        coclicks: counts of pairs, `[N, N]`; None where the kind needs none.
        popularity: training clicks of every item, int64 `[N]`; None where the kind needs none.
        texts: item texts `[N]`; empty where the kind reads none.
        fit_rows: items that fitting may see, bool `[N]`; None for all.
    """

    vectors: Tensor
    item_ids: list[str]
    items: pd.DataFrame
    collaborative: Tensor | None
    coclicks: csr_matrix | None
    popularity: Tensor | None
    texts: list[str]
    fit_rows: Tensor | None

    def __post_init__(self) -> None:
        if self.collaborative is not None and not self.for_fitting(self.collaborative).any():
            raise ValueError(
                "no item that fitting may see has a collaborative vector, all rows are zeros; train the model that "
                "gives them on clicks of these items"
            )

    @classmethod
    def checked(
        cls,
        vectors: np.ndarray | Tensor | None,
        options: CodesOptions,
        *,
        items: pd.DataFrame | None = None,
        item_ids: Sequence[str] | None = None,
        collaborative: np.ndarray | Tensor | None = None,
        coclicks: csr_matrix | None = None,
        popularity: np.ndarray | None = None,
        texts: Sequence[str] | None = None,
        fit_rows: np.ndarray | None = None,
    ) -> FitInputs:
        """Check the arguments of `fit_codes`; raise ValueError with what to change."""
        import pandas as pd

        if item_ids is None and items is not None and "item_id" in items:
            item_ids = items["item_id"].tolist()
        names = [str(item_id) for item_id in item_ids or []]
        count = len(names) if names or texts is None else len(texts)
        table = _vector_table(vectors, options, num_items=count)
        _check_ids(names, len(table), options)
        if options.needs_items and (items is None or len(items) != len(table)):
            found = "items=None" if items is None else f"a table of {len(items)} rows for {len(table)} items"
            raise ValueError(f"codes.kind={options.kind!r} needs the items table, got {found}; pass items=")
        return cls(
            table,
            names,
            pd.DataFrame({"item_id": names}) if items is None else items,
            _collaborative_table(collaborative, len(table), options),
            _coclick_table(coclicks, len(table), options),
            _checked_popularity(popularity, len(table), options),
            _checked_texts(texts, len(table), options),
            _checked_rows(fit_rows, len(table)),
        )

    def for_fitting(self, rows: Any) -> Any:
        """Return the rows, of a table `[N, …]`, that fitting may see."""
        return rows if self.fit_rows is None else rows[self.fit_rows]

    @property
    def fit_collaborative(self) -> Tensor | None:
        """Collaborative vectors that fitting may see, scaled together to a mean length of 1; None where not needed.

        Dot products with them have no temperature, so their scale is one. A table trained for cosines has none of its
        own, and published ones differ: without a common scale a weight would mean something else for each table.
        """
        if self.collaborative is None:
            return None
        rows = self.for_fitting(self.collaborative)
        lengths = rows.norm(dim=1)
        return rows / lengths[lengths > 0].mean()

    @property
    def fit_coclicks(self) -> csr_matrix | None:
        """Counts of pairs of items that fitting may see, `[n, n]`; None where not needed."""
        if self.coclicks is None or self.fit_rows is None:
            return self.coclicks
        rows = np.flatnonzero(self.fit_rows.numpy())
        return self.coclicks[rows][:, rows]

    def digest(self, options: CodesOptions, seed: int) -> str:
        """Return the digest of everything that the codes depend on."""
        parts: list[Any] = [self.vectors.numpy(), options.content(), seed]
        if options.needs_item_ids:
            parts.append(self.item_ids)
        if options.reads_texts:
            parts.append(self.texts)
        known = [column for column in options.item_columns if column in self.items]
        parts += [self.items[column].fillna("").astype(str).tolist() for column in known]
        tables = {"collaborative": self.collaborative, "popularity": self.popularity, "fit_rows": self.fit_rows}
        for name, rows in tables.items():
            if rows is not None:
                parts += [name, rows.numpy()]
        if self.coclicks is not None:
            parts += ["coclicks", *sparse_parts(self.coclicks)]
        return content_digest("cost_hf.codes.2", *parts)


def _vector_table(vectors: np.ndarray | Tensor | None, options: CodesOptions, *, num_items: int) -> Tensor:
    import torch

    if vectors is not None:
        table = _as_table(vectors, "item vectors", "encode these texts again")
        return table if options.uses_vectors else table[:, :0]
    if options.uses_vectors:
        raise ValueError(f"codes.kind={options.kind!r} is fitted to item vectors, got vectors=None; pass [N, E]")
    return torch.empty(num_items, 0)


def _as_table(vectors: np.ndarray | Tensor, what: str, remedy: str) -> Tensor:
    """Return vectors as fp32 `[N, width]` on the CPU."""
    import torch

    table = torch.as_tensor(np.array(vectors, dtype=np.float32) if isinstance(vectors, np.ndarray) else vectors)
    table = table.detach().to("cpu", torch.float32).contiguous()
    if table.ndim != 2 or not len(table):
        raise ValueError(
            f"{what.removeprefix('item ')} must be [items, dimensions] with at least one item, got shape "
            f"{tuple(table.shape)!r}"
        )
    broken = torch.nonzero(~table.isfinite().all(1)).squeeze(1)
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(table)} {what} hold NaN or infinity, first in row {int(broken[0])!r}; {remedy}"
        )
    return table


def _check_ids(names: list[str], num_items: int, options: CodesOptions) -> None:
    if names and len(names) != num_items:
        raise ValueError(f"{num_items} item vectors need as many item ids, got {len(names)}")
    if not names and options.needs_item_ids:
        raise ValueError(f"codes.kind={options.kind!r} needs item ids, got none; pass item_ids= or items=")


def _collaborative_table(
    collaborative: np.ndarray | Tensor | None, num_items: int, options: CodesOptions
) -> Tensor | None:
    """Return the collaborative vectors where the kind needs them; others change nothing and are left out."""
    if not options.needs_collaborative_vectors:
        return None
    width = options.collaborative_dim
    if collaborative is None:
        raise ValueError(
            f"codes.kind={options.kind!r} needs collaborative item vectors, got collaborative=None; pass "
            f"an array [{num_items}, {width}], or take a kind that needs none (rqvae)"
        )
    table = _as_table(collaborative, "collaborative vectors", "train the model that gives them again")
    if table.shape != (num_items, width):
        raise ValueError(
            f"collaborative vectors must be [{num_items} items, {width} dimensions], the width that codes.kind="
            f"{options.kind!r} is fitted to, got shape {tuple(table.shape)!r}; train them in that width, or set "
            f"codes.{options.collaborative_dim_field} to {table.shape[1]}"
        )
    return table


def sparse_parts(table: csr_matrix) -> list[np.ndarray]:
    """Return what a sparse table consists of, for digests."""
    return [np.asarray(part, dtype=np.int64) for part in (table.indptr, table.indices, table.data)]


def _coclick_table(coclicks: csr_matrix | None, num_items: int, options: CodesOptions) -> csr_matrix | None:
    """Return the counts of pairs where the kind needs them; others change nothing and are left out."""
    if not options.needs_coclicks:
        return None
    if coclicks is None or coclicks.shape != (num_items, num_items):
        found = "coclicks=None" if coclicks is None else f"shape {coclicks.shape!r}"
        raise ValueError(
            f"codes.positives='coclick' needs the counts of pairs of items, [{num_items}, {num_items}], got {found}; "
            "pass cost_hf.data.coclicks.co_clicks of the training histories"
        )
    if not coclicks.nnz:
        raise ValueError(
            "no two items were clicked together in the training part, so there are no positives; set codes.positives "
            "to self"
        )
    return coclicks


def _checked_popularity(popularity: np.ndarray | None, num_items: int, options: CodesOptions) -> Tensor | None:
    """Return training clicks where the kind needs them; others change nothing and are left out."""
    import torch

    if not options.needs_popularity:
        return None
    if popularity is None:
        raise ValueError(
            f"codes.kind={options.kind!r} needs the training clicks of the items, got popularity=None; pass counts "
            f"[{num_items}], or set the weight of the term that reads them to 0"
        )
    counts = np.asarray(popularity)
    if counts.shape != (num_items,) or counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(
            f"popularity must be training clicks, whole numbers of 0 or more for each of {num_items} items, got "
            f"{counts.dtype} of shape {counts.shape!r}"
        )
    return torch.from_numpy(counts.astype(np.int64))


def _checked_texts(texts: Sequence[str] | None, num_items: int, options: CodesOptions) -> list[str]:
    """Return the item texts where the kind reads them; others are not changed by them."""
    if not options.reads_texts:
        return []
    if texts is None or len(texts) != num_items:
        found = "texts=None" if texts is None else f"{len(texts)} of them"
        raise ValueError(f"codes.kind={options.kind!r} reads the texts of {num_items} items, got {found}; pass texts=")
    empty = [row for row, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    if empty:
        raise ValueError(
            f"codes.kind={options.kind!r} reads a text of every item, and {len(empty)} of {num_items} have none, first "
            f"in row {empty[0]}: {texts[empty[0]]!r}; name other columns in vectors.template, or drop these items"
        )
    return list(texts)


def _checked_rows(fit_rows: np.ndarray | None, num_items: int) -> Tensor | None:
    import torch

    if fit_rows is None:
        return None
    rows = np.asarray(fit_rows)
    if rows.dtype != np.bool_ or rows.shape != (num_items,):
        raise ValueError(
            f"fit_rows must be one bool per item, [{num_items}], got {rows.dtype} of shape {rows.shape!r}; a list of "
            "row numbers has to be turned into a mask"
        )
    if not rows.any():
        raise ValueError("fit_rows leaves no item to fit codes to; let it be true for the items of the training part")
    return None if rows.all() else torch.from_numpy(rows.copy())


def _parts_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if PART.fullmatch(path.name)}
