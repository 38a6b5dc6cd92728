"""How the tables of a training were written: new files for its recommender are read by the same options.

A run has them in its recipe, a published recommender in its results, and a copy of a recommender in a file of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cost_hf.data.errors import DataError
from cost_hf.data.options import DataOptions
from cost_hf.experiments.recipe import Recipe
from cost_hf.files import DamagedFileError, check_fields, read_object, write_json
from cost_hf.recipe_fields import nearest
from cost_hf.recommenders.repository import RESULTS, locate

RECIPE = "recipe.yaml"
KEPT = "data.json"  # in a copy of a recommender
FIELDS = (
    "csv",
    "columns",
    "order",
    "seed",
    "on_duplicate_item",
    "on_bad_row",
    "on_duplicate_click",
    "normalize_ids",
    "clean_html",
    "event_column",
    "event_weights",
    "target_events",
    "on_unknown_event",
    "on_missing_user",
    "session_column",
    "session_gap",
)
# what is left out where clicks and items are read together, as training and updates do
LEAVING_OUT = ("on_unknown_item", "on_empty_text")


@dataclass(frozen=True)
class ReadingOptions:
    """The options by which new files are read.

    Attributes:
        options: as the `data` section of a recipe.
        origin: the file that they come from; None where nothing is known of the training.
    """

    options: DataOptions = field(default_factory=DataOptions)
    origin: Path | None = None

    @classmethod
    def of(cls, source: str | Path) -> "ReadingOptions":
        """Return the options of a run directory, a recommender directory or a Hub id.

        Raises:
            OSError: where nothing is found.
            ValueError: for a damaged file.
        """
        for directory in (Path(source), Path(source).parent):
            if Path(source).is_dir() and (directory / RECIPE).is_file():
                return cls(Recipe.load(str(directory / RECIPE)).data, directory / RECIPE)
        directory = locate(source)
        if (directory / KEPT).is_file():
            return cls(_options(read_object(directory / KEPT), directory / KEPT), directory / KEPT)
        if (directory / RESULTS).is_file():
            results = read_object(directory / RESULTS)
            check_fields(results, {"recipe": dict}, source=directory / RESULTS)
            check_fields(results["recipe"], {"data": dict}, source=f"{directory / RESULTS}, recipe")
            return cls(_options(results["recipe"]["data"], directory / RESULTS), directory / RESULTS)
        return cls()

    def changed(
        self, columns: Mapping[str, str] | None, fields: Mapping[str, Any], *, more: Sequence[str] = ()
    ) -> "ReadingOptions":
        """Return the options with other columns, where any are given, and other values of some fields.

        Args:
            columns: our column -> name in the files; None for those of the training.
            fields: values by the name of their field.
            more: names of fields that may be given besides `FIELDS`, such as `LEAVING_OUT`.

        Raises:
            ValueError: for a field that does not decide how files are read, or a wrong value.
        """
        allowed = (*FIELDS, *more)
        for name in fields:
            if name not in allowed:
                raise ValueError(f"--data has {name!r:.80}{nearest(str(name), allowed)}, expected {', '.join(allowed)}")
        given = dict(fields) if columns is None else dict(fields) | {"columns": dict(columns)}
        try:
            return replace(self, options=replace(self.options, **given))
        except (TypeError, AttributeError) as error:  # a value of another type
            raise ValueError(f"--data {given!r:.200} can't be used ({error}); correct the value") from error

    @property
    def sentence(self) -> str:
        """What is used, in one sentence; `described` has the values."""
        names = ", ".join(f"data.{name}" for name in self.described()["fields"])
        if self.origin is None:
            by = names or "the names that columns usually have"
            return f"files are read by {by}; how the training read its files is not known here (--columns, --data)"
        return f"files are read as in training: {names or 'the usual names of columns'}, from {self.origin}"

    def described(self) -> dict[str, Any]:
        """Return origin and the fields whose values are not the default."""
        usual = DataOptions()
        own = {name: getattr(self.options, name) for name in FIELDS}
        changed = {name: value for name, value in own.items() if value != getattr(usual, name)}
        return {"origin": None if self.origin is None else str(self.origin), "fields": changed}


def keep_reading_options(source: str | Path, copy: Path) -> None:
    """Write the options of a recommender into a copy of it, unless the copy holds the file that has them."""
    found = ReadingOptions.of(source)
    if found.origin is not None and not (copy / KEPT).is_file() and not (copy / RESULTS).is_file():
        own = asdict(found.options)
        write_json(copy / KEPT, {name: own[name] for name in FIELDS})


def _options(content: Mapping[str, Any], source: Path) -> DataOptions:
    own = {name: content[name] for name in FIELDS if name in content}
    try:
        return DataOptions(**own)
    except (DataError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{source} has a data section that can't be read ({error}); copy it again") from error
