"""Recommenders on disk: the same answers after loading, and parts that do not belong together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cost_hf.files import read_json, write_json
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.generative import GenerativeRecommender
from cost_hf.recommenders.repository import renew_files, update_manifest
from cost_hf.semantic_ids.catalog import Catalog
from cost_hf.semantic_ids.vocabulary import SidVocabulary
from tests.recommenders.toys import TOY_IDS, TOY_ITEMS, toy_catalog, toy_recommender
from tests.runs import child_environment


def test_a_saved_recommender_answers_the_same_in_a_fresh_process(tmp_path):
    system = toy_recommender(toy_catalog(TOY_ITEMS, (4, 5, 3), titles=[item.upper() for item in TOY_IDS]))
    system.save_pretrained(tmp_path / "recommender")
    histories = [["item001"], ["item002", "item003"], []]
    code = (
        "import json, sys; from cost_hf import Recommender; system = Recommender.from_pretrained(sys.argv[1]);"
        "print(json.dumps(system.recommend(json.loads(sys.argv[2]), top_k=5, on_empty='popularity')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), json.dumps(histories)]

    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=True)

    expected = system.recommend(histories, top_k=5, on_empty="popularity")
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


def test_loading_brings_the_protocol_back(tmp_path):
    toy_recommender(num_beams=7, max_history=5, normalization="level").save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)
    assert (loaded.num_beams, loaded.max_history, loaded.normalization) == (7, 5, "level")

    update_manifest(tmp_path, num_beams=9)

    assert Recommender.from_pretrained(tmp_path).num_beams == 9


def save_two(directory: Path) -> tuple[GenerativeRecommender, GenerativeRecommender]:
    """Save recommenders of the same sizes whose codes come from different quantizers."""
    catalogs = [toy_catalog(TOY_ITEMS, (4, 5, 3)), toy_catalog(TOY_ITEMS, (4, 5, 3), seed=1)]
    catalogs[1] = Catalog.from_codes(TOY_IDS, catalogs[1].codes[:, :3], level_sizes=(4, 5, 3), quantizer_digest="other")
    systems = [toy_recommender(catalog) for catalog in catalogs]
    for name, system in zip("ab", systems, strict=True):
        system.save_pretrained(directory / name)
    return systems[0], systems[1]


def test_a_generator_of_another_run_is_refused_with_both_digests(tmp_path):
    save_two(tmp_path)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "b" / name, tmp_path / "a" / name)
    renew_files(tmp_path / "a")

    with pytest.raises(ValueError, match=r"that the generator learned .* has digest other, .* asks for toy; "):
        Recommender.from_pretrained(tmp_path / "a")


def test_a_catalog_of_another_run_is_refused_with_both_digests(tmp_path):
    first, second = save_two(tmp_path)
    for suffix in ("safetensors", "parquet"):
        source = tmp_path / "b" / f"{second.catalog.stem}.{suffix}"
        shutil.copy(source, tmp_path / "a" / f"{first.catalog.stem}.{suffix}")
    renew_files(tmp_path / "a")

    with pytest.raises(ValueError, match=rf"{first.catalog.stem}.safetensors and .parquet hold {second.catalog.stem}"):
        Recommender.from_pretrained(tmp_path / "a")

    for suffix in ("safetensors", "parquet"):
        shutil.copy(tmp_path / "b" / f"{second.catalog.stem}.{suffix}", tmp_path / "a")
    renew_files(tmp_path / "a")
    update_manifest(tmp_path / "a", catalog=second.catalog.stem)
    with pytest.raises(ValueError, match=f"{second.catalog.digest}, .* asks for {first.catalog.digest}; .*whole dir"):
        Recommender.from_pretrained(tmp_path / "a")


def test_a_vocabulary_of_another_run_is_refused_with_both_digests(tmp_path):
    first, _ = save_two(tmp_path)
    foreign = SidVocabulary.for_catalog(toy_catalog(TOY_ITEMS, (5, 4, 3)))
    foreign.save(tmp_path / "a")
    renew_files(tmp_path / "a")

    with pytest.raises(ValueError, match=f"vocabulary .*{foreign.digest}, .* asks for {first.vocabulary.digest}"):
        Recommender.from_pretrained(tmp_path / "a")


def test_a_new_catalog_of_the_same_assignment_loads_under_the_same_weights(tmp_path):
    system = toy_recommender()
    grown = system.catalog.with_items(["new"], codes=np.array([[1, 2, 2]]))
    system.with_catalog(grown).save_pretrained(tmp_path)

    answers = Recommender.from_pretrained(tmp_path).recommend(["item001"], top_k=TOY_ITEMS)

    assert "new" in [answer.item_id for answer in answers]


def test_a_recommender_of_another_format_is_refused(tmp_path):
    toy_recommender().save_pretrained(tmp_path)
    write_json(tmp_path / "recommender.json", read_json(tmp_path / "recommender.json") | {"format": 99})

    with pytest.raises(ValueError, match="has recommender format 99, this version reads 6"):
        Recommender.from_pretrained(tmp_path)


def test_the_error_for_a_directory_without_a_recommender_names_the_remedy(tmp_path):
    with pytest.raises(OSError, match=r"holds no recommender.json; give a finished run directory"):
        Recommender.from_pretrained(tmp_path)
