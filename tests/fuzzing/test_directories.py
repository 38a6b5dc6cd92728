"""Recommender directories of any content, with digests that fit: they load, or end in an error that names a file."""

import json
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


@slow
@long
@given(data=st.data())
def test_any_bytes_in_any_file_load_or_are_refused(saved, tmp_path, data):
    directory = tmp_path / "it"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(saved, directory)
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
    directory = tmp_path / "it"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(saved, directory)
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
