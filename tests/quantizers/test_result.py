"""Fitted codes on disk: replaced whole, with the umask, and damage is named."""

import errno
import os

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import PreTrainedModel

from cost_hf.files import file_digest, read_json, write_json
from cost_hf.quantizers.cost import CostConfig, CostModel
from cost_hf.quantizers.fit import CODES, RECORD, CodesResult

CODES_OF = np.array([[0, 1], [3, 2], [1, 1]])


def toy(seed: int = 0, *, has_model: bool = True) -> CodesResult:
    torch.manual_seed(seed)
    model = CostModel(CostConfig(item_dim=6, latent_dim=4, hidden_sizes=(5,), level_sizes=(4, 3)))
    return CodesResult(
        CODES_OF, (4, 3), model if has_model else None, [{"loss": 1.5}], "quantizer_digest", f"inputs{seed}"
    )


def names(folder) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.name != ".lock"}


def test_they_come_back_and_leave_no_part_of_those_before(tmp_path):
    (tmp_path / "training_log.json").write_text("[]")
    toy().save(tmp_path)
    loaded = CodesResult.load(tmp_path)
    for name, weight in toy().model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight), name
    assert (loaded.codes == CODES_OF).all() and loaded.inputs_digest == "inputs0"

    toy(1, has_model=False).save(tmp_path)

    assert names(tmp_path) == {"training_log.json", CODES, RECORD}
    assert CodesResult.load(tmp_path).model is None


def test_files_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        toy().save(tmp_path)
    finally:
        os.umask(before)

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.name != ".lock"} == {0o640}


def test_a_full_disk_leaves_the_codes_that_were_there(tmp_path, monkeypatch):
    toy().save(tmp_path)
    before = {name: file_digest(tmp_path / name) for name in names(tmp_path)}

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(OSError, match="no space is left on the device"):
        toy(1).save(tmp_path)

    assert {name: file_digest(tmp_path / name) for name in names(tmp_path)} == before


@pytest.mark.parametrize("change", ["flip", "cut", "foreign", "deleted"])
@pytest.mark.parametrize("name", [CODES, "config.json", "model.safetensors"])
def test_a_changed_file_is_named(tmp_path, name, change):
    toy().save(tmp_path / "it")
    toy(1).save(tmp_path / "other")
    path = tmp_path / "it" / name
    content = bytearray(path.read_bytes())
    if change == "flip":
        content[len(content) // 2] ^= 1
    if change == "cut":
        content = content[:-3]
    if change == "foreign":
        content = bytearray((tmp_path / "other" / name).read_bytes()) if name.startswith("model") else b"{}"
    path.write_bytes(content)
    if change == "deleted":
        path.unlink()

    with pytest.raises(ValueError, match=rf"{name} (has sha256 \w+, expected|is missing)"):
        CodesResult.load(tmp_path / "it")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"level_sizes": "4"}, "level_sizes='4', expected list"),
        ({"has_model": 1}, "has_model=1, expected bool"),
        ({"files": {"../x": "0"}}, r"names '../x', expected a plain file name"),
        ({"history": None}, "history=None"),
    ],
)
def test_a_record_that_none_is_is_refused(tmp_path, changed, message):
    toy().save(tmp_path)
    write_json(tmp_path / RECORD, read_json(tmp_path / RECORD) | changed)

    with pytest.raises(ValueError, match=f"codes.json.*{message}"):
        CodesResult.load(tmp_path)


def test_weights_that_a_model_lacks_are_not_made_up(tmp_path):
    toy().save(tmp_path)
    save_file({"other": np.zeros(3)}, tmp_path / "model.safetensors")
    record = read_json(tmp_path / RECORD)
    digests = record["files"] | {"model.safetensors": file_digest(tmp_path / "model.safetensors")}
    write_json(tmp_path / RECORD, record | {"files": digests})

    with pytest.raises(ValueError, match=r"the quantizer in .* has not the weights that its configuration asks for"):
        CodesResult.load(tmp_path)
