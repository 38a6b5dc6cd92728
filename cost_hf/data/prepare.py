"""From options to everything that later stages need of the data: tables, split, columns and the oracle of toy data."""

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from cost_hf.data.errors import DataError
from cost_hf.data.item_columns import check_excluded, item_columns
from cost_hf.data.options import DataOptions, ItemVectorOptions
from cost_hf.data.schema import Tables
from cost_hf.data.sources import Source
from cost_hf.data.splits import Split, split_interactions
from cost_hf.data.synthetic import NewsOracle
from cost_hf.data.tables import read_tables
from cost_hf.data.toy_worlds import make_toy
from cost_hf.options import ItemFacts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedData:
    """What later stages need of the data.

    Attributes:
        tables: items and clicks.
        split: of the clicks.
        oracle: of the toy data, where its world has one; its columns are the rows of the catalog.
        excluded: columns of the items that a recommender does not keep.
    """

    tables: Tables
    split: Split
    oracle: NewsOracle | None
    excluded: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> pa.Table:
        """Columns of the items that a recommender keeps for filters, in the order of the items."""
        return item_columns(self.tables.items, self.excluded)

    @property
    def fit_rows(self) -> np.ndarray | None:
        """Items that fitting may see, bool `[N]`; None without a cold-start protocol."""
        return self.split.fit_rows(self.tables.num_items) if len(self.split.cold_items) else None

    def item_facts(self, vectors: ItemVectorOptions) -> ItemFacts:
        """Return what sections of a recipe are checked by, its section `vectors` being the argument."""
        num_items = self.tables.num_items
        return ItemFacts(
            table=self.tables.items,
            num_fitted=num_items if self.fit_rows is None else int(self.fit_rows.sum()),
            kept_columns=tuple(self.columns.column_names),
            most_width=vectors.most_width(num_items),
        )


def prepare_data(
    options: DataOptions,
    *,
    items: Source | None = None,
    interactions: Source | None = None,
    template: str | None = None,
) -> PreparedData:
    """Read and split the data that the options name, or the given tables; log notices about them.

    Args:
        options: the data section.
        items: catalog; with `interactions` it overrides the options.
        interactions: click log.
        template: of the item text, for the check for empty texts.

    Raises:
        DataError: as `read_tables` and `split_interactions`.
    """
    oracle = None
    given = {name: getattr(options, name) for name in ("path", "items", "interactions") if getattr(options, name)}
    if options.reader == "synthetic" and given:
        raise DataError(
            f"data.reader synthetic generates its tables, got data.{next(iter(given))}={next(iter(given.values()))!r}; "
            "set data.reader: tables, or choose another recipe"
        )
    if options.reader == "synthetic" and items is None and interactions is None:
        toy = make_toy(options)
        items = toy.items
        interactions = toy.interactions
        oracle = toy.oracle
    tables = read_tables(options, items=items, interactions=interactions, template=template)
    for notice in tables.notices:
        logger.warning("%s; %s", notice.message, notice.remedy)
    if oracle is not None and tables.num_items != options.synthetic_items:
        oracle = None  # a k-core removed items, so the oracle's columns are not the catalog rows
    split = split_interactions(tables, options)
    if late := split.counts.get("validation_behind_test", 0):
        logger.warning(
            "%d validation clicks come after a test click of their user; their histories leave test clicks out; "
            "check the column %r, or the order of the clicks",
            late,
            options.split_column,
        )
    excluded = tuple(options.exclude_columns)
    check_excluded(tables.items, excluded)
    return PreparedData(tables, split, oracle, excluded)
