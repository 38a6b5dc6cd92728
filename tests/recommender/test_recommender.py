import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cost_hf.files import read_json, write_json
from cost_hf.recommender.bundle import update_protocol
from cost_hf.recommender.recommender import Recommender
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommender.toys import toy_catalog, toy_causal, toy_t5

ROOT = Path(__file__).parents[2]
ITEMS = 20
ALL = [f"item{row:03d}" for row in range(ITEMS)]
CLICKS = np.arange(ITEMS)  # the last item is the most popular


def recommender(catalog: Catalog | None = None, build=toy_causal, **options) -> Recommender:
    catalog = toy_catalog(ITEMS, (4, 5, 3)) if catalog is None else catalog
    vocabulary = SidVocabulary.for_catalog(catalog)
    settings = {"popularity": CLICKS, "max_history": 6, "num_beams": 8} | options
    return Recommender(build(vocabulary), catalog, vocabulary, **settings)


@pytest.fixture(scope="module")
def mine() -> Recommender:
    return recommender()


def ids(answers) -> list[str]:
    return [answer.item_id for answer in answers]


def test_a_history_gets_items_with_scores_best_first(mine):
    answers = mine.recommend(["item001", "item002"], top_k=5)

    assert len(set(ids(answers))) == 5 and set(ids(answers)) <= set(ALL)
    scores = [score for _, score, _ in answers]
    assert scores == sorted(scores, reverse=True) and max(scores) < 0
    assert answers[0].fields == {"source": "generator"}


def test_titles_stand_in_the_fields():
    titled = recommender(toy_catalog(ITEMS, (4, 5, 3), titles=[f"title {item}" for item in ALL[:-1]] + [None]))

    answers = titled.recommend(["item001"], top_k=ITEMS)

    fields = {answer.item_id: answer.fields for answer in answers}
    assert fields["item002"] == {"title": "title item002", "source": "generator"}
    assert fields[ALL[-1]] == {"source": "generator"}


@pytest.mark.parametrize("build", [toy_causal, toy_t5])
def test_a_batch_answers_like_one_history_at_a_time(build):
    system = recommender(build=build)
    histories = [["item001"], ["item002", "item003", "item004"], ["item009", "item001"]]

    batch = system.recommend(histories, top_k=4)

    for history, answers in zip(histories, batch, strict=True):
        alone = system.recommend(history, top_k=4)
        assert ids(answers) == ids(alone)
        assert [answer.score for answer in answers] == pytest.approx([answer.score for answer in alone], abs=1e-5)


def test_a_batch_larger_than_one_step_keeps_its_order(mine):
    histories = [[ALL[row % ITEMS]] for row in range(70)]

    batch = mine.recommend(histories, top_k=1, exclude_seen=False)

    assert [ids(answers) for answers in batch[:ITEMS]] == [ids(answers) for answers in batch[ITEMS : 2 * ITEMS]]
    assert len(batch) == 70


def test_a_batch_of_one_is_a_list_of_lists(mine):
    assert [ids(answers) for answers in mine.recommend([["item001"]])] == [ids(mine.recommend(["item001"]))]


def test_seen_items_come_back_only_where_asked(mine):
    history = ["item001", "item002"]

    assert not set(history) & set(ids(mine.recommend(history, top_k=ITEMS)))
    assert set(history) <= set(ids(mine.recommend(history, top_k=ITEMS, exclude_seen=False)))


def test_top_k_beyond_the_catalog_gives_every_legal_item_once(mine):
    answers = mine.recommend(["item001"], top_k=1000)

    assert sorted(ids(answers)) == sorted(set(ALL) - {"item001"})
    assert all(math.isfinite(answer.score) for answer in answers)


def test_more_answers_than_beams_widen_the_search(mine):
    assert len(mine.recommend(["item001"], top_k=15)) == 15 > mine.num_beams


def test_an_empty_history_is_an_error_or_popularity(mine):
    with pytest.raises(ValueError, match=r"history 0 is empty; .*on_empty='popularity'"):
        mine.recommend([])
    answers = mine.recommend([], top_k=3, on_empty="popularity")

    assert ids(answers) == ["item019", "item018", "item017"]
    assert all(answer.fields["source"] == "popularity" for answer in answers)
    assert answers[0].score == pytest.approx(math.log(20 / (CLICKS.sum() + ITEMS)))


def test_an_empty_history_in_a_batch_is_named_and_may_be_answered_alone(mine):
    with pytest.raises(ValueError, match="history 1 is empty"):
        mine.recommend([["item001"], []])
    first, second = mine.recommend([["item001"], []], top_k=2, on_empty="popularity")

    assert ids(first) == ids(mine.recommend(["item001"], top_k=2))
    assert ids(second) == ["item019", "item018"]


def test_an_unknown_item_is_an_error_or_dropped(mine):
    with pytest.raises(KeyError, match="1 of 2 item ids are not in the catalog of 20 items: 'gone'"):
        mine.recommend(["item001", "gone"])

    assert mine.recommend(["item001", "gone"], on_unknown="drop") == mine.recommend(["item001"])
    with pytest.raises(ValueError, match="history 0 is empty"):
        mine.recommend(["gone"], on_unknown="drop")
    assert mine.recommend(["gone"], on_unknown="drop", on_empty="popularity", top_k=1)[0].item_id == "item019"


def test_only_allowed_items_are_recommended(mine):
    allowed = ["item003", "item007", "item001"]

    assert set(ids(mine.recommend(["item001"], allowed=allowed))) == {"item003", "item007"}
    assert set(ids(mine.recommend(["item001"], allowed=allowed, exclude_seen=False))) == set(allowed)
    assert ids(mine.recommend([], allowed=allowed, on_empty="popularity")) == ["item007", "item003", "item001"]


def test_denied_items_are_never_recommended(mine):
    denied = ALL[5:]

    assert set(ids(mine.recommend(["item001"], denied=denied))) == {"item000", "item002", "item003", "item004"}
    assert ids(mine.recommend(["item001"], allowed=["item004", "item006"], denied=denied)) == ["item004"]
    assert ids(mine.recommend([], denied=denied, on_empty="popularity", top_k=1)) == ["item004"]


def test_nothing_legal_gives_an_empty_answer(mine):
    assert mine.recommend(["item001"], allowed=[]) == []
    assert mine.recommend(["item001"], allowed=["item001"]) == []
    assert mine.recommend(ALL) == []
    full, other = mine.recommend([ALL, ["item001"]], top_k=2)
    assert full == [] and ids(other) == ids(mine.recommend(["item001"], top_k=2))


def test_removed_items_stay_in_histories_and_leave_the_answers():
    system = recommender(toy_catalog(ITEMS, (4, 5, 3)).without_items(["item019", "item002"]))

    answers = ids(system.recommend(["item002"], top_k=ITEMS, exclude_seen=False))

    assert set(answers) == set(ALL) - {"item019", "item002"}
    assert ids(system.recommend([], top_k=1, on_empty="popularity")) == ["item018"]


def test_a_history_longer_than_the_model_reads_counts_from_its_end(mine):
    long = [ALL[row] for row in (9, 8, 7, 6, 5, 4, 3, 2, 1)]

    assert ids(mine.recommend(long, exclude_seen=False)) == ids(mine.recommend(long[-6:], exclude_seen=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"histories": "item001"}, r"got the string 'item001'; pass \['item001'\]"),
        ({"histories": ["item001", ["item002"]]}, "got 'item001' in a list of 2"),
        ({"histories": [1, 2]}, "got 1 in a list of 2; convert ids by str"),
        ({"histories": [["item001"], None]}, "got None in a list of 2"),
        ({"histories": ["item001"], "allowed": "item002"}, r"allowed must be a list .*pass \['item002'\]"),
        ({"histories": ["item001"], "denied": "item002"}, r"denied must be a list .*pass \['item002'\]"),
        ({"histories": ["item001"], "top_k": 0}, "top_k must be at least 1, got 0"),
        ({"histories": ["item001"], "on_unknown": "skip"}, "on_unknown must be one of error, drop, got 'skip'"),
        ({"histories": ["item001"], "on_empty": "none"}, "on_empty must be one of error, popularity, got 'none'"),
    ],
)
def test_what_cannot_be_meant_is_refused(mine, arguments, message):
    with pytest.raises(ValueError, match=message):
        mine.recommend(**arguments)


@pytest.mark.parametrize("name", ["allowed", "denied"])
def test_unknown_ids_in_filters_are_errors(mine, name):
    with pytest.raises(KeyError, match="'gone'"):
        mine.recommend(["item001"], **{name: ["gone"]})


def test_a_saved_recommender_answers_the_same_in_a_fresh_process(tmp_path):
    system = recommender(toy_catalog(ITEMS, (4, 5, 3), titles=[item.upper() for item in ALL]))
    system.save_pretrained(tmp_path / "recommender")
    histories = [["item001"], ["item002", "item003"], []]
    code = (
        "import json, sys; from cost_hf import Recommender; system = Recommender.from_pretrained(sys.argv[1]);"
        "print(json.dumps(system.recommend(json.loads(sys.argv[2]), top_k=5, on_empty='popularity')))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(histories)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    expected = system.recommend(histories, top_k=5, on_empty="popularity")
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


def test_loading_brings_the_protocol_back(tmp_path):
    recommender(num_beams=7, max_history=5).save_pretrained(tmp_path)
    assert (Recommender.from_pretrained(tmp_path).num_beams, Recommender.from_pretrained(tmp_path).max_history) == (7, 5)

    update_protocol(tmp_path, num_beams=9)

    assert Recommender.from_pretrained(tmp_path).num_beams == 9


def save_two(directory: Path) -> tuple[Recommender, Recommender]:
    """Save recommenders of the same sizes whose codes come from different assigners."""
    catalogs = [toy_catalog(ITEMS, (4, 5, 3)), toy_catalog(ITEMS, (4, 5, 3), seed=1)]
    catalogs[1] = Catalog.from_codes(ALL, catalogs[1].codes[:, :3], level_sizes=(4, 5, 3), lineage="other")
    systems = [recommender(catalog) for catalog in catalogs]
    for name, system in zip("ab", systems, strict=True):
        system.save_pretrained(directory / name)
    return systems[0], systems[1]


def test_a_generator_of_another_run_is_refused_with_both_digests(tmp_path):
    save_two(tmp_path)
    shutil.rmtree(tmp_path / "a" / "generator")
    shutil.copytree(tmp_path / "b" / "generator", tmp_path / "a" / "generator")

    with pytest.raises(ValueError, match="that the generator learned .* has digest other, .* asks for toy; "):
        Recommender.from_pretrained(tmp_path / "a")


def test_a_catalog_of_another_run_is_refused_with_both_digests(tmp_path):
    first, second = save_two(tmp_path)
    for suffix in ("safetensors", "parquet"):
        source = tmp_path / "b" / f"catalog-{second.catalog.digest[:16]}.{suffix}"
        shutil.copy(source, tmp_path / "a" / f"catalog-{first.catalog.digest[:16]}.{suffix}")

    with pytest.raises(ValueError, match=f"{second.catalog.digest}, .* asks for {first.catalog.digest}; .*whole dir"):
        Recommender.from_pretrained(tmp_path / "a")


def test_a_vocabulary_of_another_run_is_refused_with_both_digests(tmp_path):
    first, _ = save_two(tmp_path)
    foreign = SidVocabulary.for_catalog(toy_catalog(ITEMS, (5, 4, 3)))
    foreign.save(tmp_path / "a")

    with pytest.raises(ValueError, match=f"vocabulary .*{foreign.digest}, .* asks for {first.vocabulary.digest}"):
        Recommender.from_pretrained(tmp_path / "a")


def test_a_new_catalog_of_the_same_assignment_loads_under_the_same_weights(tmp_path):
    system = recommender()
    grown = system.catalog.with_items(["new"], codes=np.array([[1, 2, 2]]))
    Recommender(
        system.generator, grown, system.vocabulary, popularity=np.append(CLICKS, 0), max_history=6, num_beams=8
    ).save_pretrained(tmp_path)

    answers = Recommender.from_pretrained(tmp_path).recommend(["item001"], top_k=ITEMS)

    assert "new" in ids(answers)


def test_a_recommender_of_another_format_is_refused(tmp_path):
    recommender().save_pretrained(tmp_path)
    write_json(tmp_path / "recommender.json", read_json(tmp_path / "recommender.json") | {"format": 99})

    with pytest.raises(ValueError, match="has recommender format 99, this version reads 1"):
        Recommender.from_pretrained(tmp_path)


def test_a_directory_without_a_recommender_says_what_to_give(tmp_path):
    with pytest.raises(OSError, match=r"holds no recommender.json; give a finished run directory"):
        Recommender.from_pretrained(tmp_path)
