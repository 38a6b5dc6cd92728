"""Recommender directories of any content, with digests that fit: they load, or end in an error that names a file."""

import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.files import read_json
from cost_hf.recommenders import repository
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.repository import MANIFEST, renew_files
from tests.fuzzing import ends_in_an_error_of_ours, long, quick, slow
from tests.recommenders.saved import KINDS, with_journal

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**15, -1, 2**63, 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["..", "/etc/passwd", "a\x00b", "\ud800", "catalog-0123456789abcdef"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module", params=["counting", "causal"])
def saved(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param) / "it"
    with_journal(KINDS[request.param]()).save_pretrained(directory)
    return directory


def loads_with(saved, place: int, value) -> None:
    """Load a directory whose manifest has another value in one field."""
    path = saved / MANIFEST
    whole = path.read_bytes()
    content = read_json(path)
    name = sorted(content)[place % len(content)]
    try:
        repository._write_manifest(saved, content | {name: value})
    except ValueError:  # half a character, which no file holds
        return
    try:
        ends_in_an_error_of_ours(lambda: Recommender.from_pretrained(saved))
    finally:
        path.write_bytes(whole)


@quick
@given(place=st.integers(0, 40), value=VALUES)
def test_a_manifest_of_any_values_loads_or_is_refused(saved, place, value):
    loads_with(saved, place, value)


@slow
@long
@given(place=st.integers(0, 40), value=VALUES)
def test_many_manifests_of_any_values_load_or_are_refused(saved, place, value):
    loads_with(saved, place, value)


def fresh_copy(saved, tmp_path):
    """A copy of a directory, in place of that of the example before."""
    directory = tmp_path / "it"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(saved, directory)
    return directory


@slow
@long
@given(data=st.data())
def test_any_bytes_in_any_file_load_or_are_refused(saved, tmp_path, data):
    directory = fresh_copy(saved, tmp_path)
    path = directory / data.draw(st.sampled_from(sorted(set(read_json(directory / MANIFEST)["files"]))))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    renew_files(directory)
    ends_in_an_error_of_ours(lambda: Recommender.from_pretrained(directory))


@slow
@long
@given(
    name=st.sampled_from(["config.json", "vocabulary.json", "quantizer/config.json", "encoder/encoder.json"]),
    data=st.data(),
)
def test_any_value_in_any_json_file_loads_or_is_refused(saved, tmp_path, name, data):
    directory = fresh_copy(saved, tmp_path)
    if not (directory / name).is_file():
        return
    content = read_json(directory / name)
    changed = content | {data.draw(st.sampled_from(sorted(content))): data.draw(VALUES)}
    try:
        (directory / name).write_text(json.dumps(changed))
    except UnicodeError:
        return
    renew_files(directory)
    ends_in_an_error_of_ours(lambda: Recommender.from_pretrained(directory))


BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "U64": 8,
    "U8": 1,
    "BOOL": 1,
}
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 8, 2**31, 10**15]), max_size=4).filter(
    lambda shape: math.prod(shape) <= 512
)


@slow
@long
@given(data=st.data())
def test_any_tensor_in_any_file_loads_or_is_refused(saved, tmp_path, data):
    directory = fresh_copy(saved, tmp_path)
    path = data.draw(st.sampled_from(sorted(directory.rglob("*.safetensors"))))
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    tensors = {
        name: (entry["dtype"], entry["shape"], content[begin:][slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    kind = data.draw(st.sampled_from(sorted(BYTES)))
    shape = data.draw(SHAPES)
    byte = data.draw(st.sampled_from([b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff"]))
    tensors[data.draw(st.sampled_from(sorted(tensors)))] = (kind, shape, byte * BYTES[kind] * math.prod(shape))
    written = {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
    end = 0
    for name, (kind, shape, numbers) in tensors.items():
        written[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + len(numbers)]}
        end += len(numbers)
    text = json.dumps(written).encode()
    numbers = b"".join(numbers for _, _, numbers in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    renew_files(directory)
    ends_in_an_error_of_ours(lambda: Recommender.from_pretrained(directory))
