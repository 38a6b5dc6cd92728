"""What fitting codes leaves behind, in memory and on disk.

`codes.json` is written last and names what the codes were made from, so its presence means that all is there and its
digest tells whether it is still wanted.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from cost_hf.files import atomic_path, read_json, write_json
from cost_hf.quantizer import CostModel

RECORD = "codes.json"


@dataclass(frozen=True)
class CodesResult:
    """Codes of all items and the assigner behind them.

    Attributes:
        codes: `[N, L]` int64, in catalog row order.
        level_sizes: codes per level, L numbers.
        model: the quantizer, None for random and category codes.
        history: one dict per epoch (`code_health` and mean loss terms); one in all for codes without training.
        lineage: assignment digest, or a lineage id of codes without a model.
        inputs_digest: digest of vectors, options and seed.
    """

    codes: np.ndarray
    level_sizes: tuple[int, ...]
    model: CostModel | None
    history: list[dict[str, Any]] = field(default_factory=list)
    lineage: str = ""
    inputs_digest: str = ""

    def __repr__(self) -> str:
        """Say in one line what was coded, and by what."""
        levels = "x".join(map(str, self.level_sizes))
        return f"CodesResult({len(self.codes)} items, levels {levels}, lineage {self.lineage[:12]})"

    def save(self, directory: str | Path) -> None:
        """Write `codes.safetensors`, `codes.json` and, with a model, its `config.json` and `model.safetensors`."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self.model is not None:
            with tempfile.TemporaryDirectory(prefix=".model-", dir=folder) as scratch:
                self.model.save_pretrained(scratch)
                for file in sorted(Path(scratch).iterdir()):
                    file.replace(folder / file.name)
        with atomic_path(folder / "codes.safetensors") as temporary:
            save_file({"codes": np.ascontiguousarray(self.codes)}, temporary)
        write_json(
            folder / RECORD,
            {
                "has_model": self.model is not None,
                "history": self.history,
                "inputs_digest": self.inputs_digest,
                "level_sizes": list(self.level_sizes),
                "lineage": self.lineage,
            },
        )

    @classmethod
    def load(cls, directory: str | Path) -> "CodesResult":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: where the directory holds no finished result.
        """
        folder = Path(directory)
        if not (folder / RECORD).is_file():
            raise FileNotFoundError(f"no finished codes in {str(folder)!r} ({RECORD} is missing); run fit_codes first")
        record = read_json(folder / RECORD)
        return cls(
            codes=load_file(folder / "codes.safetensors")["codes"],
            level_sizes=tuple(record["level_sizes"]),
            model=CostModel.from_pretrained(folder) if record["has_model"] else None,
            history=record["history"],
            lineage=record["lineage"],
            inputs_digest=record["inputs_digest"],
        )
