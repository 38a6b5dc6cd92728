"""Exports: another reader finds the same items under the same IDs, and the same continuations of every prefix."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from cost_hf.cli import main
from cost_hf.files import DamagedFileError, read_json, write_json
from cost_hf.hub import FORMATS, MERGED
from cost_hf.hub.export import WRITERS, export_run
from cost_hf.methods.counting.counting import BASELINES
from cost_hf.semantic_ids.catalog import Catalog
from tests.methods.acerec.acerec_toys import toy_recommender as toy_acerec
from tests.methods.counting.counting_toys import toy_counting
from tests.methods.fusion.fusion_toys import toy_fusion
from tests.methods.ranker.ranker_toys import toy_ranker
from tests.recommenders.toys import (
    TOY_COLUMNS,
    TOY_IDS,
    TOY_ITEMS,
    toy_catalog,
    toy_recommender,
    toy_text_recommender,
    with_columns,
)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A recommender with titles, one item added and one removed, and its directory."""
    system = toy_text_recommender()
    system.add_items(["late"], ["football in oslo and quito"])
    system.remove_items(["item003"])
    folder = tmp_path_factory.mktemp("exported")
    system.save_pretrained(folder)
    return system, folder


def expected(system) -> dict[str, tuple[int, ...]]:
    catalog = system.catalog
    rows = np.flatnonzero(~catalog.removed)
    return {catalog.item_ids[row]: tuple(catalog.codes[row].tolist()) for row in rows}


def test_parquet_reads_back_as_the_same_catalog(system, tmp_path):
    system, folder = system

    (path,) = export_run(folder, to="parquet", output=tmp_path)

    table = pd.read_parquet(path)
    assert list(table.columns) == ["item_id", "title", "sid", "code_1", "code_2", "code_3"]
    codes = table[["code_1", "code_2", "code_3"]].to_numpy()
    assert dict(zip(table["item_id"], map(tuple, codes.tolist()), strict=True)) == expected(system)
    again = Catalog.from_reference(path, collisions="none", level_sizes=system.catalog.level_sizes)
    assert np.array_equal(again.codes, codes) and "item003" not in again
    assert table.set_index("item_id")["title"]["late"] == "football in oslo and quito"


@pytest.mark.parametrize("build", [toy_text_recommender, lambda: toy_counting("popularity"), toy_fusion])
def test_a_table_has_the_columns_of_the_catalog_in_their_types(build, tmp_path):
    system = with_columns(build())
    system.add_columns(TOY_IDS, {"sid": [f"s{row}" for row in range(TOY_ITEMS)], "text": ["t"] * TOY_ITEMS})
    system.remove_items(["item003"])
    system.save_pretrained(tmp_path / "saved")

    (path,) = export_run(tmp_path / "saved", to="parquet", output=tmp_path)

    table = pq.read_table(path)
    has_sids = "code_1" in table.column_names
    assert set(table.column_names) >= {*TOY_COLUMNS, "column_sid" if has_sids else "sid", "column_text"}
    assert str(table.schema.field("price").type) == "double" and str(table.schema.field("in_stock").type) == "bool"
    for name in TOY_COLUMNS:
        left = [value for item, value in zip(TOY_IDS, TOY_COLUMNS[name], strict=True) if item != "item003"]
        assert table[name].to_pylist() == left
    if has_sids:
        again = Catalog.from_reference(path, collisions="none", level_sizes=system.catalog.level_sizes)
        assert len(again) == TOY_ITEMS - 1


def test_flashrec_keys_are_codes_and_values_items(system, tmp_path):
    system, folder = system

    (path,) = export_run(folder, to="flashrec", output=tmp_path)

    read = {entry["pid"]: tuple(map(int, key.split(","))) for key, (entry,) in json.loads(path.read_text()).items()}
    assert read == expected(system)


def test_nvidia_lines_hold_token_ids(system, tmp_path):
    system, folder = system

    (path,) = export_run(folder, to="nvidia-jsonl", output=tmp_path)

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    offsets = system.vocabulary.level_offsets.numpy()
    read = {line["item_id"]: tuple((np.array(line["token_ids"]) - offsets).tolist()) for line in lines}
    assert read == expected(system)
    assert (
        next(line for line in lines if line["item_id"] == "late")["metadata"]["title"] == "football in oslo and quito"
    )


def walk(arrays: dict[str, np.ndarray], prefix: tuple[int, ...], dense: int) -> set[int]:
    """Continuations of a prefix, read as the engine reads them: masks first, then the sparse matrix."""
    if not prefix:
        return set(np.flatnonzero(arrays["start_mask"]).tolist())
    if len(prefix) < dense:
        return set(np.flatnonzero(arrays["dense_mask"][prefix].any(tuple(range(1, dense - len(prefix))))).tolist())
    state = int(arrays["dense_states"][prefix[:dense]])
    for code in prefix[dense:]:
        edges = arrays["packed_csr"][arrays["indptr"][state] : arrays["indptr"][state + 1]]
        state = int(edges[edges[:, 0] == code][0, 1])
    edges = arrays["packed_csr"][arrays["indptr"][state] : arrays["indptr"][state + 1]]
    return set(edges[:, 0].tolist())


def test_static_arrays_continue_every_prefix_as_the_catalog_does(system, tmp_path):
    system, folder = system

    paths = export_run(folder, to="static", output=tmp_path)

    arrays, about = load_file(paths[0]), json.loads(paths[1].read_text())
    sids = expected(system)
    assert dict(zip(about["item_ids"], map(tuple, arrays["sids"].tolist()), strict=True)) == sids
    for length in range(3):
        for prefix in {sid[:length] for sid in sids.values()}:
            wanted = {sid[length] for sid in sids.values() if sid[:length] == prefix}
            assert walk(arrays, prefix, dense=2) == wanted
            assert len(wanted) <= arrays["layer_max_branches"][length]
    assert len(arrays["packed_csr"]) == arrays["indptr"][-1]


@pytest.mark.parametrize("to", ["flashrec", "static"])
def test_files_of_servers_may_be_larger_than_what_this_package_reads_at_once(system, tmp_path, monkeypatch, to):
    monkeypatch.setattr("cost_hf.files.MAX_JSON_BYTES", 100)
    system, _ = system

    path = WRITERS[to](system.catalog, system.vocabulary, tmp_path)[-1]

    items = json.loads(path.read_text())
    listed = items["item_ids"] if to == "static" else [entry["pid"] for (entry,) in items.values()]
    assert path.stat().st_size > 100 and set(listed) == set(expected(system))


@pytest.mark.parametrize("name", BASELINES)
def test_a_catalog_without_semantic_ids_is_a_table_of_items(name, tmp_path):
    system = toy_counting(name)
    system.add_items(["late"], ["football in oslo and quito"])
    system.remove_items(["item003"])
    system.save_pretrained(tmp_path / "counted")

    (path,) = export_run(tmp_path / "counted", to="parquet", output=tmp_path)

    table = pd.read_parquet(path)
    assert list(table.columns) == ["item_id", "title"]
    assert set(table["item_id"]) == {*TOY_IDS, "late"} - {"item003"}
    assert table.set_index("item_id")["title"]["late"] == "football in oslo and quito"


@pytest.mark.parametrize("build", [toy_fusion, toy_ranker])
def test_the_catalog_of_a_hybrid_is_a_table_of_items(build, tmp_path):
    system = build()
    system.add_items(["late"], ["football in oslo and quito"])
    system.remove_items(["item003"])
    system.save_pretrained(tmp_path / "hybrid")

    (path,) = export_run(tmp_path / "hybrid", to="parquet", output=tmp_path)

    table = pd.read_parquet(path).set_index("item_id")["title"]
    assert set(table.index) == {*TOY_IDS, "late"} - {"item003"} and table["late"] == "football in oslo and quito"


@pytest.mark.parametrize("to", [name for name in WRITERS if name != "parquet"])
def test_a_catalog_without_semantic_ids_has_no_file_of_them(to, tmp_path):
    toy_counting("markov").save_pretrained(tmp_path / "counted")

    with pytest.raises(ValueError, match=rf"kind 'counting', which has no semantic IDs, so {to} can't .* --to parquet"):
        export_run(tmp_path / "counted", to=to, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_codes_that_no_model_generates_are_a_table_and_no_file_of_a_server(tmp_path):
    system = toy_acerec()
    system.save_pretrained(tmp_path / "scored")

    (path,) = export_run(tmp_path / "scored", to="parquet", output=tmp_path / "out")

    table = pd.read_parquet(path)
    codes = table[[name for name in table if name.startswith("code_")]].to_numpy()
    assert dict(zip(table["item_id"], map(tuple, codes.tolist()), strict=True)) == expected(system)
    for to in WRITERS.keys() - {"parquet"}:
        with pytest.raises(ValueError, match=rf"'acerec', which generates no semantic IDs, so {to} .* --to parquet"):
            export_run(tmp_path / "scored", to=to, output=tmp_path / "out")


@pytest.mark.parametrize("to", [name for name in WRITERS if name != "parquet"])
def test_items_that_share_a_sid_are_refused_where_the_format_wants_one(to, tmp_path):
    catalog = Catalog.from_codes(
        TOY_IDS,
        toy_catalog(TOY_ITEMS, (4, 5, 3)).codes[:, :3],
        level_sizes=(4, 5, 3),
        collisions="none",
        quantizer_digest="toy",
    )
    toy_recommender(catalog).save_pretrained(tmp_path / "run")

    with pytest.raises(ValueError, match=r"needs one item per semantic ID.*collisions append"):
        export_run(tmp_path / "run", to=to, output=tmp_path)


def test_a_vocabulary_of_another_recommender_is_not_exported(system, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(system[1], copy)
    write_json(copy / "vocabulary.json", read_json(copy / "vocabulary.json") | {"first_id": 7})

    with pytest.raises(DamagedFileError, match=r"vocabulary\.json has sha256"):
        export_run(copy, to="nvidia-jsonl", output=tmp_path / "out")


def test_a_full_disk_leaves_arrays_and_items_of_one_catalog(system, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    export_run(system[1], to="static", output=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("cost_hf.hub.export._write_json", full)
    monkeypatch.setattr("cost_hf.hub.export.static_index", lambda sids, **_: {"rows": np.zeros(3)})

    with pytest.raises(OSError, match="no space is left"):
        export_run(system[1], to="static", output=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_command_prints_the_files_that_it_wrote(system, tmp_path, capsys):
    _, folder = system

    assert main(["export", str(folder), "--to", "flashrec", "--output", str(tmp_path)]) == 0
    assert "sid_vocab.json" in capsys.readouterr().out
    assert main(["export", str(folder), "--to", "flash", "--output", str(tmp_path)]) == 2
    assert (
        "--to: expected one of parquet, flashrec, nvidia-jsonl, static, merged, got 'flash'" in capsys.readouterr().err
    )


def test_the_command_names_the_formats_that_there_are():
    assert set(FORMATS) == {*WRITERS, MERGED}
