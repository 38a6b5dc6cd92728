import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cost_hf import row_groups
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.digests import assignment_digest
from tests.semantic_ids.sid_fakes import FakeQuantizer, names


def two_groups(**options):
    return Catalog.from_codes(["c", "a", "b"], [[1, 0], [1, 0], [0, 2]], level_sizes=[2, 3], **options)


def test_suffixes_follow_item_ids_not_rows():
    catalog = two_groups(append_size=4)

    assert catalog.codes.tolist() == [[1, 0, 1], [1, 0, 0], [0, 2, 0]]
    assert catalog.level_sizes == (2, 3, 4)
    assert catalog.model_levels == 2


def test_policy_none_keeps_collisions():
    catalog = two_groups(collisions="none")

    assert catalog.codes.tolist() == [[1, 0], [1, 0], [0, 2]]
    assert catalog.level_sizes == (2, 3)
    assert catalog.sid_keys[0] == catalog.sid_keys[1] != catalog.sid_keys[2]


def test_a_group_larger_than_the_appended_level_is_an_error_where_there_are_no_vectors():
    with pytest.raises(
        ValueError, match=r"codes \[1, 0\] are shared by 2 items, the appended level has 1.*append_size"
    ):
        two_groups(append_size=1)


def test_overflow_with_vectors_moves_items_and_counts_them():
    model = FakeQuantizer((2, 3))
    x = (model.books[0][1] + model.books[1][2]).expand(5, 3)

    catalog = Catalog.from_embeddings(names(5), x, model, append_size=3)

    assert len({tuple(row) for row in catalog.codes.tolist()}) == 5
    assert catalog.report["moved"] == 2
    assert catalog.report["largest_group"] == 3


@pytest.mark.parametrize("collisions", ["append", "reassign", "min_cost", "sinkhorn", "none"])
def test_each_policy_gives_its_levels(collisions):
    model = FakeQuantizer((3, 5))
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)) * 0.1

    catalog = Catalog.from_embeddings(names(12), x, model, collisions=collisions, append_size=7)

    distinct = len({tuple(row) for row in catalog.codes.tolist()})
    assert catalog.level_sizes == ((3, 5, 7) if collisions == "append" else (3, 5))
    assert (distinct == 12) == (collisions in ("append", "reassign", "min_cost"))
    assert catalog.quantizer_digest == assignment_digest(model)


def test_reassigning_codes_without_vectors_is_an_error():
    with pytest.raises(ValueError, match=r"2 items collide, first with codes \[1, 0\].*from_embeddings"):
        two_groups(collisions="reassign")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"item_ids": ["a", "a"]}, "unique, got 'a' more than once"),
        ({"item_ids": ["a", 7.0]}, r"must be strings .*, got 7.0 \(float\) at position 1 of item_ids"),
        ({"item_ids": ["a"]}, "got 1 ids, no titles for 2 rows"),
        ({"titles": ["x"]}, "expected one title per item, got 1 for 2 items"),
        ({"codes": [[0, 0], [0, 3]]}, "codes of level 1 must be in 0 … 2, got 3 in row 1"),
        ({"codes": [[0, 0], [-1, 0]]}, "codes of level 0 must be in 0 … 1, got -1 in row 1"),
        ({"codes": [[0], [1]]}, r"must be integers \[N, 2\]"),
        ({"codes": [[0.5, 0], [1, 0]]}, "must be integers"),
        ({"collisions": "dedup"}, "one of append, reassign, min_cost, sinkhorn, none, got 'dedup'"),
        ({"append_size": 0}, "append_size must be at least 1, got 0"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:20],
)
def test_wrong_arguments_are_named(arguments, message):
    defaults = {"item_ids": ["a", "b"], "codes": [[0, 0], [1, 2]], "level_sizes": [2, 3]}

    with pytest.raises(ValueError, match=message):
        Catalog.from_codes(**(defaults | arguments))


def test_a_catalog_cannot_be_changed():
    codes = np.array([[0, 0], [1, 2]])
    catalog = Catalog.from_codes(["a", "b"], codes, level_sizes=[2, 3], collisions="none")

    with pytest.raises(ValueError, match="read-only"):
        catalog.codes[0, 0] = 1
    with pytest.raises(AttributeError):
        catalog.policy = "none"
    codes[0, 0] = 1
    assert catalog.codes[0, 0] == 0


def test_unknown_ids_are_listed():
    with pytest.raises(KeyError, match=r"1 of 2 item ids are not in the catalog of 3 items: 'z'; check their spelling"):
        two_groups().rows_of(["a", "z"])


def test_rows_are_found_by_id():
    catalog = two_groups()

    assert catalog.rows_of(["b", "c", "b"]).tolist() == [2, 0, 2]
    assert catalog.row_of("a") == 1
    assert "a" in catalog and "z" not in catalog
    assert len(catalog) == 3


def test_the_report_counts_groups_of_items_that_are_not_removed():
    codes = [[0, 0], [0, 0], [0, 0], [1, 1], [1, 1], [1, 2]]
    catalog = Catalog.from_codes(names(6), codes, level_sizes=[2, 3])

    assert catalog.report == {
        "items": 6,
        "removed": 0,
        "moved": 0,
        "colliding_groups": 2,
        "collided_share": pytest.approx(5 / 6),
        "largest_group": 3,
    }
    assert catalog.without_items(["item-3"]).report["colliding_groups"] == 1


def test_another_quantizer_is_refused_with_both_digests():
    model, other = FakeQuantizer(seed=0), FakeQuantizer(seed=1)
    catalog = Catalog.from_embeddings(["a"], torch.zeros(1, 3), model)

    with pytest.raises(ValueError, match=f"{assignment_digest(model)}.*{assignment_digest(other)}"):
        catalog.with_embeddings(["b"], torch.zeros(1, 3), other)


def test_titles_stay_with_their_rows():
    catalog = two_groups(titles=["C", "A", None])

    assert catalog.titles == ("C", "A", None)
    assert catalog.with_items(["e", "d"], codes=[[0, 0], [0, 1]], titles=["E", "D"]).titles == (
        "C",
        "A",
        None,
        "D",
        "E",
    )
    assert catalog.with_items(["d"], codes=[[0, 1]]).titles == ("C", "A", None, None)
    assert two_groups().with_items(["d"], codes=[[0, 1]], titles=["D"]).titles == (None, None, None, "D")


def test_published_identifiers_are_read_in_the_order_asked_for():
    frame = pd.DataFrame({"item_id": ["x", "y"], "sid": [["<a_3>", "<b_0>"], ["<a_0>", "<b_7>"]]})

    catalog = Catalog.from_reference(frame, collisions="none", item_ids=["y", "x"])

    assert catalog.item_ids == ("y", "x")
    assert catalog.codes.tolist() == [[0, 7], [3, 0]]
    assert catalog.level_sizes == (4, 8)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"item_id": ["x"], "codes": [[1]]}, "need the columns item_id and sid"),
        ({"item_id": ["x", "x"], "sid": [["<a_1>"], ["<a_2>"]]}, "'x' has several identifiers"),
        ({"item_id": ["7", 7], "sid": [["<a_1>"], ["<a_2>"]]}, "'7' has several identifiers"),
        ({"item_id": [1.5], "sid": [["<a_1>"]]}, r"got 1.5 \(float\) at position 0 of item_id"),
        (
            {"item_id": ["x"], "sid": ["<a_1>"]},
            "row 0: expected an identifier as a list of tokens like <a_17>, got '<a_1>'",
        ),
        ({"item_id": ["x"], "sid": [None]}, "row 0: expected an identifier as a list of tokens like <a_17>, got None"),
        ({"item_id": ["x"], "sid": [[7]]}, r"row 0: expected an identifier as a list of tokens like <a_17>, got \[7\]"),
        ({"item_id": ["x"], "sid": [["<a_99999999999999999999>"]]}, "row 0: expected 1 tokens like <a_17>"),
        ({"item_id": ["x"], "sid": [["<a_9999999999>"]]}, r"level_sizes\[0\] must be at most 2147483648"),
        ({"item_id": ["x", "y"], "sid": [["<a_1>"], ["<b_2>"]]}, r"row 1: expected 1 tokens.*got \['<b_2>'\]"),
        ({"item_id": ["x", "y"], "sid": [["<a_1>"], ["<a_2>", "<b_1>"]]}, "row 1: expected 1 tokens"),
        ({"item_id": ["x"], "sid": [["17"]]}, "row 0: expected 1 tokens like <a_17>"),
    ],
)
def test_unreadable_published_identifiers_are_named(frame, message):
    with pytest.raises(ValueError, match=message):
        Catalog.from_reference(pd.DataFrame(frame), collisions="none")


def test_a_damaged_file_of_identifiers_is_named(tmp_path):
    (tmp_path / "sids.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(ValueError, match=r"sids\.parquet is not a valid parquet file"):
        Catalog.from_reference(tmp_path / "sids.parquet", collisions="none")
    with pytest.raises(OSError, match=r"gone\.parquet"):
        Catalog.from_reference(tmp_path / "gone.parquet", collisions="none")


def test_items_without_published_identifier_are_an_error():
    frame = pd.DataFrame({"item_id": ["x"], "sid": [["<a_3>"]]})

    with pytest.raises(ValueError, match="1 of 2 items have no identifier, first 'z'"):
        Catalog.from_reference(frame, collisions="none", item_ids=["x", "z"])


@pytest.mark.parametrize(
    ("name", "levels", "distinct"), [("amazon_industrial", 3, 3670), ("amazon_beauty", 4, 12088), ("yelp", 4, 19201)]
)
def test_real_published_identifiers_are_readable(shared_data, name, levels, distinct):
    path = shared_data / name / "reference_sids.parquet"
    items = pd.read_parquet(shared_data / name / "items.parquet", columns=["item_id"])["item_id"].tolist()

    plain = Catalog.from_reference(path, collisions="none", item_ids=items)
    appended = Catalog.from_reference(path, collisions="append", item_ids=items)

    assert len(plain.level_sizes) == levels
    assert len(set(plain.sid_keys.tolist())) == distinct
    assert len({tuple(row) for row in appended.codes.tolist()}) == len(items)


def test_published_identifiers_that_can_not_be_read_are_named(tmp_path):
    (tmp_path / "sids.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=r"sids.parquet is not a valid parquet file"):
        Catalog.from_reference(tmp_path / "sids.parquet", collisions="append")
    with pytest.raises(FileNotFoundError, match=r"gone.parquet: no such file"):
        Catalog.from_reference(tmp_path / "gone.parquet", collisions="append")

    for sid in (None, "<a_1>", [1, 2], 7.5):
        frame = pd.DataFrame({"item_id": ["x", "y"], "sid": [["<a_1>"], sid]})
        with pytest.raises(ValueError, match=r"row 1: expected an identifier as a list of tokens"):
            Catalog.from_reference(frame, collisions="append")


def test_a_table_in_several_row_groups_has_the_bytes_of_one_that_is_written_whole(tmp_path, monkeypatch):
    catalog = two_groups(append_size=4, titles=["C", None, "B"]).with_columns({"price": [3.0, None, 2.0]})
    monkeypatch.setattr(row_groups, "ROW_GROUP", 2)
    catalog.to_parquet(tmp_path / "parts.parquet")

    sids = [["<s_a_1>", "<s_b_0>", "<s_c_1>"], ["<s_a_1>", "<s_b_0>", "<s_c_0>"], ["<s_a_0>", "<s_b_2>", "<s_c_0>"]]
    columns = {"item_id": pa.array(["c", "a", "b"]), "title": pa.array(["C", None, "B"]), "sid": pa.array(sids)}
    columns |= {f"code_{level + 1}": pa.array(catalog.codes[:, level]) for level in range(3)}
    columns["price"] = pa.array([3.0, None, 2.0])
    pq.write_table(pa.table(columns), tmp_path / "whole.parquet", row_group_size=2)
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pq.read_metadata(tmp_path / "parts.parquet").num_row_groups == 2


def test_a_table_without_items_has_columns(tmp_path):
    two_groups().without_items(["a", "b", "c"]).to_parquet(tmp_path / "none.parquet")

    assert pq.read_table(tmp_path / "none.parquet").column_names == ["item_id", "sid", "code_1", "code_2", "code_3"]
