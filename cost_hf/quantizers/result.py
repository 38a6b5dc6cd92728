"""What fitting codes leaves behind, in memory and on disk.

`codes.json` is written last and names what the codes were made from, so its presence means that all is there and its
digest tells whether it is still wanted.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cost_hf.files import (
    DamagedFileError,
    check_fields,
    check_file_digests,
    file_digests,
    load_all_weights,
    plain_name,
    read_object,
    read_tensors,
    write_json,
)
from cost_hf.quantizers.cost import CostModel
from cost_hf.replacing import replacing, settle

RECORD, CODES = "codes.json", "codes.safetensors"
FIELDS = {
    "files": dict[str, str],
    "has_model": bool,
    "history": list,
    "inputs_digest": str,
    "level_sizes": list[int],
    "quantizer_digest": str,
}
PART = re.compile(r"codes\.json|codes\.safetensors|config\.json|model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")


@dataclass(frozen=True)
class CodesResult:
    """Codes of all items and the assigner behind them.

    Attributes:
        codes: `[N, L]` int64, in catalog row order.
        level_sizes: codes per level, L numbers.
        model: the quantizer, None for random and category codes.
        history: one dict per epoch (`code_health` and mean loss terms); one in all for codes without training.
        quantizer_digest: assignment digest, or a quantizer_digest id of codes without a model.
        inputs_digest: digest of vectors, options and seed.
    """

    codes: np.ndarray
    level_sizes: tuple[int, ...]
    model: CostModel | None
    history: list[dict[str, Any]] = field(default_factory=list)
    quantizer_digest: str = ""
    inputs_digest: str = ""

    def __repr__(self) -> str:
        """Say in one line what was coded, and by what."""
        levels = "x".join(map(str, self.level_sizes))
        return f"CodesResult({len(self.codes)} items, levels {levels}, quantizer_digest {self.quantizer_digest[:12]})"

    def save(self, directory: str | Path) -> None:
        """Write `codes.safetensors`, `codes.json` and, with a model, its `config.json` and `model.safetensors`."""
        with replacing(directory, RECORD, old=_parts_in) as folder:
            if self.model is not None:
                self.model.save_pretrained(folder)
            save_file({"codes": np.ascontiguousarray(self.codes)}, folder / CODES)
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
    def load(cls, directory: str | Path) -> "CodesResult":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: where the directory holds no finished result.
            DamagedFileError: where a file is not the one that was written.
        """
        folder = Path(directory)
        settle(folder, RECORD)
        if not (folder / RECORD).is_file():
            raise FileNotFoundError(f"no finished codes in {str(folder)!r} ({RECORD} is missing); run fit_codes first")
        record = read_object(folder / RECORD)
        check_fields(record, FIELDS, source=folder / RECORD)
        parts = {plain_name(name, source=folder / RECORD): digest for name, digest in record["files"].items()}
        check_file_digests(folder, parts)
        codes, model = read_tensors(folder / CODES).get("codes"), None
        if codes is None or codes.ndim != 2 or codes.shape[1] != len(record["level_sizes"]):
            raise DamagedFileError(f"{folder / CODES} holds no codes [N, {len(record['level_sizes'])}]; copy it again")
        if record["has_model"]:
            model = load_all_weights("the quantizer", folder, CostModel.from_pretrained)
        return cls(
            codes=codes,
            level_sizes=tuple(record["level_sizes"]),
            model=model,
            history=record["history"],
            quantizer_digest=record["quantizer_digest"],
            inputs_digest=record["inputs_digest"],
        )


def _parts_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if PART.fullmatch(path.name)}
