import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.trie import SidTrie
from cost_hf.semantic_ids.vocabulary import SidVocabulary, level_name, parse_sids
from tests.semantic_ids.sid_fakes import code_tables, names


def test_tokens_stand_in_the_promised_order():
    vocabulary = SidVocabulary((2, 3), num_user_tokens=2)

    assert vocabulary.tokens == [
        *("<s_a_0>", "<s_a_1>", "<s_b_0>", "<s_b_1>", "<s_b_2>"),
        *("<|sid_begin|>", "<|sid_end|>", "<user_0>", "<user_1>"),
    ]
    assert vocabulary.level_offsets.tolist() == [3, 5]
    assert vocabulary.token_ids.tolist() == [3, 4, 5, 6, 7]
    assert (vocabulary.begin_id, vocabulary.end_id, vocabulary.size) == (8, 9, 12)
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)


def test_two_namespaces_share_no_token():
    items, users = SidVocabulary((2, 3)), SidVocabulary((2, 3), namespace="u")

    assert users.tokens[0] == "<u_a_0>"
    assert not set(items.tokens) & set(users.tokens)


def test_a_growing_catalog_keeps_its_vocabulary():
    catalog = Catalog.from_codes(["a"], [[0, 1]], level_sizes=[2, 3], append_size=4)
    grown = catalog.with_items(["b", "c"], codes=[[0, 1], [1, 2]]).without_items(["a"])

    assert SidVocabulary.for_catalog(grown) == SidVocabulary.for_catalog(catalog)
    assert SidVocabulary.for_catalog(catalog).level_sizes == (2, 3, 4)
    assert SidVocabulary.for_catalog(catalog, first_id=100).level_offsets.tolist() == [100, 102, 105]


@given(code_tables(levels=(1, 30)), st.integers(3, 40000))
def test_codes_tokens_and_items_lead_to_each_other(table, first_id):
    codes, sizes = table
    catalog = Catalog.from_codes(names(len(codes)), codes, level_sizes=sizes, append_size=30)
    vocabulary, trie = SidVocabulary.for_catalog(catalog, first_id=first_id), SidTrie.from_catalog(catalog)

    ids = vocabulary.encode(torch.tensor(catalog.codes))
    back = vocabulary.decode(ids)
    rows, present = trie.leaf_rows(trie.prefix(back))
    texts = [[vocabulary.tokens[token - first_id] for token in row] for row in ids.tolist()]

    assert torch.equal(back, torch.tensor(catalog.codes))
    assert rows[present].tolist() == list(range(len(catalog)))
    assert (parse_sids(texts) == catalog.codes).all()


@given(st.integers(0, 10**6))
def test_level_names_are_unique_and_sorted_by_length(level):
    assert (len(level_name(level)), level_name(level)) < (len(level_name(level + 1)), level_name(level + 1))


def test_levels_beyond_z_have_two_letters():
    assert [level_name(level) for level in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]


def test_a_prefix_encodes_by_its_own_levels():
    assert SidVocabulary((2, 3)).encode(torch.tensor([[1], [0]])).tolist() == [[4], [3]]
    assert SidVocabulary((2, 3)).encode(torch.empty(4, 0)).shape == (4, 0)


def test_a_code_outside_its_level_is_named():
    with pytest.raises(ValueError, match=r"level 'b' takes codes 0 … 2, got 3 at position \(1, 1\)"):
        SidVocabulary((2, 3)).encode(torch.tensor([[0, 2], [0, 3]]))


def test_a_token_of_another_level_is_named():
    with pytest.raises(ValueError, match=r"level 'b' takes token ids 5 … 7, got 4 at position \(0, 1\)"):
        SidVocabulary((2, 3)).decode(torch.tensor([[3, 4]]))


def test_more_columns_than_levels_is_an_error():
    with pytest.raises(ValueError, match=r"at most 2; got \(1, 3\)"):
        SidVocabulary((2, 3)).encode(torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("values", [torch.tensor([[1.0, 2.0]]), [[1, 2.5]], np.array([[True, False]])], ids=repr)
def test_codes_and_token_ids_are_whole_numbers(values):
    for read in (SidVocabulary((2, 3)).encode, SidVocabulary((2, 3)).decode):
        with pytest.raises(ValueError, match="must be integers, got torch"):
            read(values)


def test_a_user_is_a_string_or_a_whole_number():
    vocabulary = SidVocabulary((2, 3), num_user_tokens=1000)

    assert vocabulary.user_token_id(7) == vocabulary.user_token_id(np.int64(7)) == vocabulary.user_token_id("7")
    assert vocabulary.user_token_id("\ud800") > vocabulary.end_id
    for wrong in (7.0, None, True, b"7", float("nan")):
        with pytest.raises(ValueError, match="user ids must be strings, got"):
            vocabulary.user_token_id(wrong)


def test_user_tokens_do_not_change_from_machine_to_machine():
    vocabulary = SidVocabulary((2, 3), num_user_tokens=1000)

    assert [vocabulary.user_token_id(user) - vocabulary.end_id - 1 for user in ("u1", "u2")] == [325, 494]


@given(st.text())
def test_user_tokens_lie_in_their_block(user):
    vocabulary = SidVocabulary((2, 3), num_user_tokens=7)

    assert vocabulary.end_id < vocabulary.user_token_id(user) < vocabulary.size


def test_asking_for_a_user_token_without_any_is_an_error():
    with pytest.raises(ValueError, match="no user tokens, got user 'u1'"):
        SidVocabulary((2, 3)).user_token_id("u1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level_sizes": ()}, r"one positive number per level, for 1 to 64 levels, got \(\)"),
        ({"level_sizes": (2, 0)}, r"level_sizes\[1\] must be at least 1, got 0"),
        ({"level_sizes": (2, 10**12)}, r"level_sizes\[1\] must be at most 4194304, got 1000000000000"),
        ({"level_sizes": (4000000, 4000000)}, "add up to at most 4194304 codes, got 8000000"),
        ({"level_sizes": (2,) * 100_000}, "for 1 to 64 levels"),
        ({"level_sizes": (2, 3.7)}, r"level_sizes\[1\] must be a whole number of at least 1, got 3.7"),
        ({"level_sizes": (2, True)}, r"got True \(bool\)"),
        ({"level_sizes": 8}, "one positive number per level, got 8"),
        ({"level_sizes": "88"}, "one positive number per level, got '88'"),
        ({"namespace": "S-"}, "lower-case ASCII letters, got 'S-'"),
        ({"namespace": "s" * 10**6}, "1 to 16 lower-case ASCII letters"),
        ({"num_user_tokens": -1}, "num_user_tokens must be at least 0, got -1"),
        ({"num_user_tokens": 10**9}, "num_user_tokens must be at most 4194299, got 1000000000"),
        ({"num_user_tokens": "7"}, r"got '7' \(str\)"),
        ({"first_id": 10**12}, "first_id must be at most 2147483647"),
        ({"first_id": 1}, "'eos_id': 1.*raise first_id"),
        ({"pad_id": 4}, "'pad_id': 4"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SidVocabulary(**({"level_sizes": (2, 3)} | arguments))


def test_a_loaded_vocabulary_is_the_saved_one(tmp_path):
    vocabulary = SidVocabulary((2, 3), namespace="u", first_id=100, num_user_tokens=4, pad_id=7, eos_id=8, unk_id=9)

    vocabulary.save(tmp_path)
    first = (tmp_path / "vocabulary.json").read_bytes()
    SidVocabulary.load(tmp_path).save(tmp_path)

    assert SidVocabulary.load(tmp_path) == vocabulary
    assert (tmp_path / "vocabulary.json").read_bytes() == first


def test_parallel_levels_of_a_catalog_are_known_to_its_vocabulary_and_trie(tmp_path):
    options = {"level_sizes": (2, 3), "collisions": "none"}
    plain = Catalog.from_codes(["a", "b"], [[0, 1], [1, 2]], **options)
    parallel = Catalog.from_codes(["a", "b"], [[0, 1], [1, 2]], has_parallel_levels=True, **options)
    vocabulary, trie = SidVocabulary.for_catalog(parallel), SidTrie.from_catalog(parallel)

    vocabulary.save(tmp_path)

    assert vocabulary.has_parallel_levels and SidVocabulary.load(tmp_path) == vocabulary
    assert vocabulary.digest == SidVocabulary.for_catalog(plain).digest
    assert trie.has_parallel_levels and "2x3 in parallel" in repr(trie)
    SidVocabulary.for_catalog(plain).save(tmp_path)
    assert "parallel" not in (tmp_path / "vocabulary.json").read_text()
    assert not SidVocabulary.load(tmp_path).has_parallel_levels and not SidTrie.from_catalog(plain).has_parallel_levels


def test_an_edited_file_is_refused(tmp_path):
    SidVocabulary((2, 3)).save(tmp_path)
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"level_sizes": [2, 4]}))

    with pytest.raises(ValueError, match="names the digest"):
        SidVocabulary.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level_sizes": [10**12]}, r"vocabulary.json: level_sizes\[0\] must be at most"),
        ({"num_user_tokens": 10**9}, "vocabulary.json: num_user_tokens must be at most"),
        ({"level_sizes": "88"}, "has level_sizes='88', expected"),
        ({"first_id": None}, "has first_id=None, expected int"),
        ({"extra": 1}, "has .*'extra'.*, expected"),
    ],
)
def test_a_file_that_asks_for_too_much_is_refused_before_it_gets_it(tmp_path, change, message):
    SidVocabulary((2, 3)).save(tmp_path)
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(ValueError, match=message):
        SidVocabulary.load(tmp_path)


def test_the_digest_knows_token_texts_not_ids():
    assert SidVocabulary((2, 3)).digest == SidVocabulary((2, 3), first_id=32100).digest
    assert SidVocabulary((2, 3)).digest != SidVocabulary((3, 2)).digest
    assert SidVocabulary((2, 3)).digest != SidVocabulary((2, 3), num_user_tokens=1).digest


def test_numpy_codes_are_encoded_too():
    assert SidVocabulary((2, 3)).encode(np.array([[1, 2]])).tolist() == [[4, 7]]
