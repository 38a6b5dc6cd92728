"""Damaged and foreign files of a recommender directory: an error that names the file, never another answer."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cost_hf.files import content_digest, read_json, read_tensor_metadata, write_json
from cost_hf.methods.counting.recommender import CountingRecommender
from cost_hf.recommenders import repository
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import journal_file
from cost_hf.recommenders.hybrid import HybridRecommender
from cost_hf.recommenders.repository import renew_files, update_manifest
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.item_list import ItemList
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.saved import KINDS, answers, other, parts_of, with_journal


@pytest.fixture(scope="module", params=list(KINDS))
def saved(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    with_journal(KINDS[request.param]()).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    directory = tmp_path_factory.mktemp("causal")
    with_journal(KINDS["causal"]()).save_pretrained(directory)
    return directory


def refused(directory: Path, name: str) -> None:
    with pytest.raises((ValueError, OSError)) as caught:
        Recommender.from_pretrained(directory)
    assert type(caught.value).__module__ in ("builtins", "cost_hf.files"), caught.value
    assert Path(name).name in str(caught.value) or Path(name).stem in str(caught.value)


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


def test_one_changed_bit_of_any_file_is_found(saved):
    for name in sorted(parts_of(saved)):
        content = (saved / name).read_bytes()
        for place in {0, len(content) // 3, len(content) // 2, len(content) - 1}:
            (saved / name).write_bytes(flipped(content, place))
            refused(saved, name)
        (saved / name).write_bytes(content)
    Recommender.from_pretrained(saved)


def test_every_bit_of_a_manifest_counts(saved):
    path = saved / "recommender.json"
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(content), 60).tolist():
        changed = flipped(content, place)
        if json.loads(content) != _json_or_none(changed):
            path.write_bytes(changed)
            refused(saved, "recommender.json")
    path.write_bytes(content)


def _json_or_none(content: bytes):
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


@pytest.mark.parametrize("change", ["cut", "emptied", "deleted", "folder", "deep"])
def test_files_that_are_not_whole_are_named(saved, change):
    for name in sorted(parts_of(saved)):
        path, content = saved / name, (saved / name).read_bytes()
        path.unlink()
        if change == "folder":
            path.mkdir()
        elif change != "deleted":
            path.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "deep": b"[" * 200_000}[change])
        refused(saved, name)
        if change == "folder":
            path.rmdir()
        path.write_bytes(content)
    Recommender.from_pretrained(saved)


def retrain(system: Recommender) -> None:
    """Give a recommender other weights, or other counts."""
    if isinstance(system, HybridRecommender):
        retrain(system.parts["sids"])
    elif isinstance(system, CountingRecommender):
        system.tables["counts"] = system.tables["counts"] + 1
    else:
        next(iter(system.network.base_model.parameters())).data += 1


def test_the_same_file_of_another_recommender_is_refused(saved, tmp_path):
    """Each of these kinds once more, with other seeds and one item fewer to recommend."""
    kind = next(kind for kind in KINDS if saved.name.startswith(kind))
    system = KINDS[kind]()
    retrain(system)
    system.remove_items(["item007"])
    system.save_pretrained(tmp_path)
    stems = [read_json(folder / "recommender.json")["catalog"] for folder in (saved, tmp_path)]
    ours, theirs = ("-".join(stem.split("-")[:2]) for stem in stems)  # of the items, without the columns
    swapped = set()
    for name in sorted(parts_of(saved)):
        foreign = tmp_path / name.replace(ours, theirs)
        content = (saved / name).read_bytes()
        if foreign.is_file() and name != "recommender.json" and foreign.read_bytes() != content:
            (saved / name).write_bytes(foreign.read_bytes())
            refused(saved, name)
            (saved / name).write_bytes(content)
            swapped.add(name.replace(ours, "catalog"))
    assert {"catalog.safetensors", journal_file(0)} <= swapped
    assert any(name.endswith("model.safetensors") for name in swapped)


def test_what_is_no_part_does_not_matter(saved):
    for name in ("README.md", "training_log.json", "notes/anything.json", ".replaced-abcdefgh/old"):
        (saved / name).parent.mkdir(exist_ok=True)
        (saved / name).write_bytes(b"\x00")

    Recommender.from_pretrained(saved)


@pytest.mark.parametrize(
    "name", ["quantizer/model.safetensors", "encoder/encoder.json", "adapter_config.json", "tokenizer_config.json"]
)
def test_a_part_that_the_manifest_does_not_name_is_refused(tmp_path, name):
    other().save_pretrained(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")

    with pytest.raises(ValueError, match=rf"{name} is no part of the recommender: recommender.json does not name it"):
        Recommender.from_pretrained(tmp_path)


def test_a_layer_of_the_quantizers_encoder_counts_as_its_codebooks_do(causal):
    path = causal / "quantizer" / "config.json"
    content = path.read_bytes()
    write_json(path, read_json(path) | {"input_norm": "l2"})

    refused(causal, "quantizer/config.json")

    path.write_bytes(content)


# --- directories whose digests are right and whose content is not: what a program, or an attacker, could write ---


@pytest.fixture
def copy(causal, tmp_path):
    shutil.copytree(causal, tmp_path / "it")
    return tmp_path / "it"


@pytest.mark.parametrize(
    ("clicks", "found"),
    [
        (np.full(20, np.nan), r"clicks float64 \(20,\), expected integers \[20\]"),
        (np.arange(3), r"clicks int64 \(3,\), expected integers \[20\]"),
        (-np.arange(20), "-19 clicks of an item"),
        (np.ones((20, 1), dtype=np.int64), r"\(20, 1\)"),
        (np.ones(20), "float64"),
    ],
)
def test_clicks_that_no_training_counts_are_refused(copy, clicks, found):
    save_file({"popularity": np.ascontiguousarray(clicks)}, copy / "popularity.safetensors")
    renew_files(copy)

    with pytest.raises(ValueError, match=rf"popularity.safetensors holds .*{found}"):
        Recommender.from_pretrained(copy)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_levels": 0}, "model_levels=0"),
        ({"model_levels": 3}, "model_levels=3"),
        ({"policy": "evil"}, "got 'evil'"),
        ({"level_sizes": [4, 5]}, r"codes must be integers \[N, 2\]|has 1 from the quantizer"),
        ({"level_sizes": [4, 0, 8]}, r"level_sizes\[1\] must be at least 1"),
        ({"level_sizes": []}, "one positive number per level"),
        ({"level_sizes": [2, 5, 8]}, "codes of level 0 must be in 0 … 1"),
        ({"level_sizes": "4, 5, 8"}, "level_sizes='4, 5, 8', expected list"),
        ({"quantizer_digest": None}, "quantizer_digest=None, expected str"),
        ({"moved": True}, "moved=True, expected int"),
        ({"extra": 1}, "its header has"),
    ],
)
def test_a_header_that_no_catalog_has_is_refused(copy, changed, message):
    stem = read_json(copy / "recommender.json")["catalog"]
    path = copy / f"{stem}.safetensors"
    header = Catalog.load(copy, stem=stem)
    fields = {
        name: getattr(header, name) for name in ("level_sizes", "model_levels", "policy", "quantizer_digest", "moved")
    }
    rest = {"text_digest": header.text_digest, "format": "cost_hf.catalog.1"}
    rest["ids_digest"] = content_digest(list(header.item_ids))
    save_file(load_file(path), path, metadata={"catalog": json.dumps(fields | rest | changed)})
    renew_files(copy)

    with pytest.raises(ValueError, match=f"{stem}.safetensors.*({message})"):
        Recommender.from_pretrained(copy)


@pytest.mark.parametrize("flags", [np.full(20, 2, np.uint8), np.zeros(19, np.uint8), np.zeros(20, np.float32)])
def test_removed_flags_are_one_0_or_1_per_item(copy, tmp_path, flags):
    stem = read_json(copy / "recommender.json")["catalog"]
    path = copy / f"{stem}.safetensors"
    save_file(load_file(path) | {"removed": flags}, path, metadata=read_tensor_metadata(path))
    renew_files(copy)
    with pytest.raises(ValueError, match=f"{stem}.safetensors holds removed flags"):
        Recommender.from_pretrained(copy)

    ItemList(tuple(map(str, range(20))), np.zeros(20, dtype=bool)).save(tmp_path, "items")
    save_file({"removed": flags}, tmp_path / "items.safetensors")
    with pytest.raises(ValueError, match=r"items.(safetensors holds removed flags|parquet has 20 rows, expected 19)"):
        ItemList.load(tmp_path, "items")


def test_a_version_whose_name_has_another_digest_is_never_returned_to(copy):
    manifest = read_json(copy / "recommender.json")
    (older,) = manifest["catalog_history"]
    for suffix in ("safetensors", "parquet"):
        shutil.copy(copy / f"{manifest['catalog']}.{suffix}", copy / f"{older}.{suffix}")
    renew_files(copy)
    system = Recommender.from_pretrained(copy)
    before = answers(system)

    with pytest.raises(ValueError, match=rf"{older}.safetensors and .parquet hold {manifest['catalog']}"):
        system.rollback()

    assert answers(system) == before


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"num_beams": "50"}, "num_beams='50', expected int"),
        ({"num_beams": 10**9}, "num_beams=1000000000, expected 1 to 10000;"),
        ({"max_history": 0}, "max_history=0, expected 1 to"),
        ({"max_history": True}, "max_history=True, expected int"),
        ({"journal": -1}, "journal=-1, expected 0 or more"),
        ({"prompt": {"before": [-5], "after": []}}, "expected token ids"),
        ({"prompt": {"before": [10**9], "after": []}}, "go up to token 1000000000, and the generator has"),
        ({"prompt": [1]}, "expected dict"),
        ({"normalization": 3}, "normalization=3, expected str"),
        ({"catalog_history": "x"}, "catalog_history='x'"),
        ({"encoder_digest": 5}, "encoder_digest=5"),
        ({"base": {"name": "x"}}, "no field 'revision'"),
        ({"files": {"config.json": None}}, "files=.*expected dict"),
        ({"kind": "sasrec"}, "weights_items_digest"),
    ],
)
def test_entries_that_no_manifest_has_are_refused_by_name(copy, entries, message):
    path = copy / "recommender.json"
    content = read_json(path) | entries
    repository._write_manifest(copy, content)

    with pytest.raises(ValueError, match=f"(recommender.json|{copy.name}).*{message}"):
        Recommender.from_pretrained(copy)


@pytest.mark.parametrize("name", ["format", "kind", "catalog", "files", "journal", "num_beams", "manifest_digest"])
def test_a_missing_entry_is_named(copy, name):
    content = read_json(copy / "recommender.json")
    del content[name]
    (copy / "recommender.json").write_text(json.dumps(content))

    with pytest.raises(ValueError, match=rf"recommender.json.*({name}|digest)"):
        Recommender.from_pretrained(copy)


@pytest.mark.parametrize("content", ["[]", "1", "null", '"text"', "{}", "", "\ufeff{}", "[" * 100_000])
@pytest.mark.parametrize(
    "name", ["recommender.json", "vocabulary.json", "encoder/encoder.json", "quantizer/config.json", "config.json"]
)
def test_json_of_another_form_is_refused_by_name(copy, name, content):
    (copy / name).write_text(content)
    if name != "recommender.json":
        renew_files(copy)

    refused(copy, str(Path(name).parent) if name.startswith("quantizer") else copy.name)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        "{",
        '{"action": "add", "item_ids": "x", "before": "a", "after": "b", "time": "t", "would_differ": 0, "more": 0}',
        '{"action": "add", "item_ids": [], "before": "../x", "after": "x", "time": "t", "would_differ": 0, "more": 0}',
        '{"action": "evil", "item_ids": [], "before": "D", "after": "D", "time": "t", "would_differ": 0, "more": 0}',
        '{"action": "add", "item_ids": [], "before": "D", "after": "D", "time": "t", "would_differ": 0, "more": -1}',
    ],
)
def test_a_line_that_no_journal_has_is_named(copy, line):
    line = line.replace('"D"', f'"{"0" * 64}"')
    (copy / journal_file(0)).write_text(line + "\n")
    update_manifest(copy, journal_digest=hashlib.sha256((line + "\n").encode()).hexdigest())

    with pytest.raises(ValueError, match=r"journal.jsonl, line 1"):
        Recommender.from_pretrained(copy)


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("model.safetensors", {"x": np.zeros(3)}),
        ("quantizer/model.safetensors", {"x": np.zeros(3)}),
        ("quantizer/model.safetensors", None),
        ("model.safetensors", None),
        ("popularity.safetensors", None),
    ],
)
def test_tensors_that_are_none_are_an_error_of_ours(copy, name, tensors):
    if tensors is None:
        (copy / name).write_bytes(b"\xff" * 100)
    else:
        save_file(tensors, copy / name)
    renew_files(copy)

    with pytest.raises((ValueError, OSError)) as caught:
        Recommender.from_pretrained(copy)
    assert type(caught.value).__module__ in ("builtins", "cost_hf.files")
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"level_sizes": [10**12]}, r"level_sizes\[0\] must be at most"),
        ({"num_user_tokens": 10**9}, "num_user_tokens must be at most"),
        ({"first_id": "3"}, "first_id='3', expected int"),
        ({"level_sizes": [4.5]}, "expected list"),
        ({"more": 1}, "expected .*digest"),
    ],
)
def test_a_vocabulary_that_can_not_be_is_refused_before_it_is_built(tmp_path, changed, message):
    SidVocabulary((4, 4)).save(tmp_path)
    write_json(tmp_path / "vocabulary.json", read_json(tmp_path / "vocabulary.json") | changed)

    with pytest.raises(ValueError, match=f"vocabulary.json.*{message}"):
        SidVocabulary.load(tmp_path)


def test_folders_with_an_equals_sign_are_no_columns(causal, tmp_path):
    shutil.copytree(causal, tmp_path / "item_id=1")

    assert answers(Recommender.from_pretrained(tmp_path / "item_id=1")) == answers(Recommender.from_pretrained(causal))


def test_half_a_character_in_a_manifest_is_an_error_of_ours(copy):
    path = copy / "recommender.json"
    path.write_text(path.read_text().replace('"generator"', '"\\ud800"'))

    with pytest.raises(ValueError, match=r"recommender.json holds text that is none"):
        Recommender.from_pretrained(copy)
