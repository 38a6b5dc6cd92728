"""Directories from elsewhere: no name leads out of them, no code of theirs runs, no link is followed."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from cost_hf.data import LsaEncoder, VectorOptions
from cost_hf.data.encoders import SentenceEncoder, TextItemEncoder, weight_files
from cost_hf.data.errors import DataError
from cost_hf.files import DamagedFileError, read_json, write_json
from cost_hf.generators.pretrained import load_model, load_tokenizer
from cost_hf.hub.catalog_update import UpdateRequest, update_catalog
from cost_hf.hub.export import export_run
from cost_hf.hub.staging import StagedRepository, check
from cost_hf.recommenders import repository
from cost_hf.recommenders.base import Recommender
from cost_hf.recommenders.catalog_changes import MAX_LINE
from cost_hf.recommenders.custom_generate.generate import Catalog as StandaloneCatalog
from cost_hf.recommenders.generative import GenerativeRecommender as Generative
from cost_hf.recommenders.repository import locate, renew_files
from tests.generators.backbone_toys import byte_bpe, causal_backbone
from tests.recommenders.saved import KINDS, answers, files_of, with_journal
from tests.recommenders.toys import toy_recommender

OUTSIDE = [
    "../outside/catalog-0123456789abcdef",
    "/tmp/catalog-0123456789abcdef",
    "catalog",
    "catalog-0123456789ABCDEF",
]
OUTSIDE += ["catalog-0123456789abcdef/../../x", "catalog-0123456789abcdef\n", "", "..", "catalog-0123456789abcde"]


@pytest.fixture
def directory(tmp_path):
    with_journal(KINDS["causal"]()).save_pretrained(tmp_path / "it")
    return tmp_path / "it"


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("entry", ["catalog", "catalog_history"])
def test_no_name_of_a_manifest_leads_out_of_its_directory(directory, tmp_path, entry, name):
    system = Recommender.from_pretrained(directory)
    (tmp_path / "outside").mkdir()
    for suffix in ("safetensors", "parquet"):
        stem = system.catalog.stem
        shutil.copy(directory / f"{stem}.{suffix}", tmp_path / "outside" / f"catalog-0123456789abcdef.{suffix}")
    manifest = read_json(directory / "recommender.json")
    repository._write_manifest(directory, manifest | {entry: name if entry == "catalog" else [name]})
    before = files_of(tmp_path)

    for action in (
        lambda: Recommender.from_pretrained(directory),
        lambda: system.save_catalog(directory),
        lambda: update_catalog(directory, UpdateRequest(rolls_back=True)),
        lambda: export_run(directory, to="parquet", output=tmp_path / "exported"),
    ):
        with pytest.raises(ValueError, match=r"recommender.json names the catalog .* expected catalog- and 16 hex"):
            action()
    if entry == "catalog":
        with pytest.raises(ValueError, match="expected catalog- and 16 hex digits"):
            StandaloneCatalog(lambda file: directory / file)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "encoder/../../outside", "a\\..\\b", "a\nb", ""])
def test_no_file_of_a_manifest_is_outside_its_directory(directory, tmp_path, name):
    (tmp_path / "outside").write_text("of somebody")
    manifest = read_json(directory / "recommender.json")
    files = manifest["files"] | {name: "0" * 64}
    repository._write_manifest(directory, manifest | {"files": files})

    with pytest.raises(ValueError, match=r"recommender.json names the file .* expected a path inside the directory"):
        Recommender.from_pretrained(directory)
    toy_recommender().save_pretrained(directory)  # what it replaces lies in the directory too
    assert (tmp_path / "outside").read_text() == "of somebody"


def asked(prompt: str = "") -> str:
    raise AssertionError(f"a library asked {prompt!r}")


@pytest.mark.parametrize("known", [True, False], ids=["a known architecture", "an unknown one"])
def test_code_in_a_model_directory_neither_runs_nor_prompts(tmp_path, monkeypatch, known):
    monkeypatch.setattr("builtins.input", asked)
    folder = causal_backbone(tmp_path / "base", tokenizer=byte_bpe())
    (folder / "evil.py").write_text("raise SystemExit('the code ran')")
    references = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config = read_json(folder / "config.json") | {"auto_map": references}
    write_json(folder / "config.json", config if known else config | {"model_type": "evil"})
    words = read_json(folder / "tokenizer_config.json")
    evil = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    write_json(folder / "tokenizer_config.json", words | evil | ({} if known else {"tokenizer_class": "EvilTokenizer"}))

    for load in (lambda: load_model(str(folder)), lambda: load_tokenizer(str(folder))):
        if known:
            load()
        else:
            with pytest.raises((ValueError, OSError)):
                load()
    if not known:
        with pytest.raises(DataError, match="cannot load text encoder"):
            SentenceEncoder(folder)


def test_code_in_a_recommender_directory_neither_runs_nor_prompts(directory, monkeypatch):
    monkeypatch.setattr("builtins.input", asked)
    wanted = answers(Recommender.from_pretrained(directory))
    (directory / "evil.py").write_text("raise SystemExit('the code ran')")
    references = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": "evil.T"}
    for name in ("config.json", "quantizer/config.json"):
        write_json(directory / name, read_json(directory / name) | {"auto_map": references})
    renew_files(directory)
    assert answers(Recommender.from_pretrained(directory)) == wanted

    write_json(directory / "config.json", read_json(directory / "config.json") | {"model_type": "evil"})
    renew_files(directory)
    with pytest.raises(ValueError, match=r"the generator in .* can't be read .*custom code"):
        Recommender.from_pretrained(directory)


@pytest.fixture
def encoder_directory(tmp_path):
    folder = tmp_path / "models" / "encoder"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "notes.bin", ".hidden.json"):
        (folder / name).write_text(name)
    (tmp_path / "secret.json").write_text("of the user")
    return folder


def bundled(folder: Path, target: Path) -> set[str]:
    encoder = TextItemEncoder(VectorOptions(model=str(folder)), "digest", None)
    encoder._encoder = LsaEncoder(["word"], [1.0], [[1.0]])  # loaded, with the right digest
    encoder.save(target, bundle_weights=True)
    return set(files_of(target))


def test_only_the_files_of_an_encoder_travel(encoder_directory, tmp_path):
    assert bundled(encoder_directory, tmp_path / "saved") == {
        "encoder.json",
        "model/config.json",
        "model/model.safetensors",
    }


@pytest.mark.parametrize("name", ["extra.json", "inner"])
def test_links_out_of_an_encoder_are_not_followed(encoder_directory, tmp_path, name):
    target = tmp_path / "secret.json" if name.endswith("json") else tmp_path
    (encoder_directory / name).symlink_to(target)
    if name == "inner":  # folders behind links are not entered
        assert "secret.json" not in {path.name for path in weight_files(encoder_directory)}
        return

    with pytest.raises(DataError, match=r"extra.json is a link out of the directory of the text encoder"):
        bundled(encoder_directory, tmp_path / "saved")
    assert "of the user" not in json.dumps([content.decode() for content in files_of(tmp_path / "saved").values()])


def test_the_links_of_the_hubs_cache_are_files(tmp_path):
    store, folder = tmp_path / "models--org--name" / "blobs", tmp_path / "models--org--name" / "snapshots" / "abc"
    store.mkdir(parents=True)
    folder.mkdir(parents=True)
    (store / "5ha").write_text("{}")
    (folder / "config.json").symlink_to("../../blobs/5ha")

    assert bundled(folder, tmp_path / "saved") == {"encoder.json", "model/config.json"}


def test_a_directory_that_a_recommender_names_is_only_bundled_where_it_is_its_encoder(encoder_directory, tmp_path):
    encoder = TextItemEncoder(VectorOptions(model=str(encoder_directory)), "digest", None)

    with pytest.raises(ValueError, match=r"cannot load text encoder|has digest"):
        encoder.save(tmp_path / "saved", bundle_weights=True)

    assert not (tmp_path / "saved" / "model").exists()


def test_a_recommender_loads_from_the_links_of_the_hubs_cache(directory, tmp_path):
    store, folder = tmp_path / "models--org--name" / "blobs", tmp_path / "models--org--name" / "snapshots" / "abc"
    store.mkdir(parents=True)
    for number, name in enumerate(files_of(directory)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(directory / name, store / str(number))
        (folder / name).symlink_to(store / str(number))

    assert answers(Recommender.from_pretrained(folder)) == answers(Recommender.from_pretrained(directory))
    copy, _ = update_catalog(folder, UpdateRequest(remove=["item003"]), output_dir=tmp_path / "copy")
    assert not [path for path in copy.rglob("*") if path.is_symlink()]


def test_links_are_neither_copied_nor_published(directory, tmp_path):
    (tmp_path / "secret.txt").write_text("of the user")
    (directory / "README.md").symlink_to(tmp_path / "secret.txt")

    with pytest.raises(ValueError, match=r"README.md is a link out of the directory"):
        update_catalog(directory, UpdateRequest(remove=["item003"]), output_dir=tmp_path / "copy")
    with pytest.raises(ValueError, match=r"README.md is a symbolic link, and only files are published"):
        check(StagedRepository("recommender", "org/name", directory))
    assert not (tmp_path / "copy").exists()


def test_a_lock_is_not_published(directory):
    (directory / ".lock").touch()

    assert ".lock" not in StagedRepository("recommender", "org/name", directory).files


@pytest.mark.parametrize(
    "name", ["/nope", "./nope", "../nope", "./org/nope", "~/nope-nope", "a/b/nope", "org/nope/", "nope/", ".nope/x"]
)
def test_the_error_for_a_missing_path_names_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(repository, "snapshot_download", asked)

    with pytest.raises(FileNotFoundError, match=rf"'{name}' is not there; check the path"):
        locate(name)


def test_the_error_for_a_missing_hub_id_or_path_names_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(FileNotFoundError, match=r"some/nope: no such directory; taken for a Hub id it can't be down"):
        locate("some/nope")
    with pytest.raises(FileNotFoundError, match="is neither a directory nor a Hub id"):
        locate("nope")


def test_a_home_directory_is_found(directory, monkeypatch):
    monkeypatch.setenv("HOME", str(directory.parent))

    assert locate("~/it") == directory


def test_a_directory_of_another_kind_is_an_error(tmp_path):
    KINDS["ids"]().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a recommender of kind 'sasrec', expected 'generator'; load it by"):
        Generative.read(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_backbone_is_an_error_of_ours(tmp_path, name):
    folder = causal_backbone(tmp_path / "base", tokenizer=byte_bpe())
    content = (folder / name).read_bytes()
    for damaged in (content[: len(content) // 2], b"\xff" * 50, b"", b"[]"):
        (folder / name).write_bytes(damaged)
        with pytest.raises((ValueError, OSError)) as caught:
            load_model(str(folder))
            load_tokenizer(str(folder))
        assert type(caught.value).__module__ in ("builtins", "cost_hf.files"), caught.value
        assert str(folder) in str(caught.value)


def refused(directory: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Recommender.from_pretrained(directory)
    assert type(caught.value).__module__ in ("builtins", "cost_hf.files"), caught.value


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 100_000}, {"vocab_size": 10**12}, {"hidden_size": 2**30}])
def test_a_configuration_of_a_larger_model_than_the_weights_builds_none(directory, changes):
    write_json(directory / "config.json", read_json(directory / "config.json") | changes)
    renew_files(directory)

    refused(directory, "the configuration of the generator in .* asks for more than its files hold")


def test_shapes_that_no_memory_holds_are_those_of_a_damaged_file(directory):
    header = {"x": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    text = json.dumps(header).encode()
    for content in (len(text).to_bytes(8, "little") + text, (2**50).to_bytes(8, "little") + b"{}"):
        (directory / "model.safetensors").write_bytes(content)
        renew_files(directory)

        refused(directory, "the generator in .* can't be read .*SafetensorError")


@pytest.mark.parametrize("name", ["../outside.safetensors", "/tmp/outside.safetensors", "inner/../../x.safetensors", 7])
def test_no_index_of_weights_leads_out_of_its_directory(directory, tmp_path, name):
    (directory / "model.safetensors").rename(tmp_path / "outside.safetensors")
    weights = {key: name for key in load_file(tmp_path / "outside.safetensors")}
    write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": weights})
    renew_files(directory)

    refused(directory, r"model.safetensors.index.json names .* expected a plain file name")


@pytest.mark.parametrize("name", ["recommender.json", "journal.jsonl", "config.json", "encoder/vocabulary.json"])
def test_a_file_of_ten_gigabytes_is_refused_before_it_is_read(directory, name):
    with (directory / name).open("r+b") as file:
        file.truncate(10_000_000_000 if name != "journal.jsonl" else MAX_LINE + 100)
        if name == "journal.jsonl":
            file.seek(0)
            file.write(b" " * (MAX_LINE + 50))

    refused(
        directory, rf"{Path(name).name}(, line 1: expected at most \d+ bytes| has 10000000000 bytes, expected at most)"
    )


@pytest.mark.parametrize("name", ["recommender.json", "journal.jsonl", "model.safetensors", "quantizer"])
def test_no_link_leads_out_of_a_recommender(directory, tmp_path, name):
    (directory / name).rename(tmp_path / "elsewhere")
    (directory / name).symlink_to(tmp_path / "elsewhere")

    refused(directory, r"is a link out of the directory, to .*elsewhere.*put the file itself there")


def test_links_inside_of_a_recommender_and_to_it_are_followed(directory, tmp_path):
    (directory / "model.safetensors").rename(directory / "weights-of-today")
    (directory / "model.safetensors").symlink_to("weights-of-today")
    (tmp_path / "current").symlink_to(directory)

    assert answers(Recommender.from_pretrained(tmp_path / "current")) == answers(Recommender.from_pretrained(directory))


def test_a_title_of_many_megabytes_for_every_item_is_no_catalog(directory):
    path = next(directory.glob("catalog-*.parquet"))
    ids = pq.read_table(path)["item_id"]
    one = pa.array(["x" * 5_000_000])
    titles = pa.DictionaryArray.from_arrays(pa.array([0] * len(ids), pa.int32()), one)
    pq.write_table(pa.table({"item_id": ids, "title": titles}), path, compression="zstd", store_schema=False)
    renew_files(directory)

    refused(directory, r"catalog-.*parquet has texts of more than \d+ bytes")


def test_values_that_are_nested_without_end_are_no_manifest(directory):
    for content in ("[" * 1_000_000, '{"format":' * 1_000_000):
        (directory / "recommender.json").write_text(content)

        refused(directory, "recommender.json holds no JSON .RecursionError")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"semantic_ids": ["a"]}, r"semantic_ids of config.json in .* must be an object of digests"),
        ("quantizer/config.json", {"temperature": 10**400}, r"the quantizer in .* can't be read \(OverflowError"),
    ],
)
def test_values_of_a_configuration_that_no_model_has_are_an_error_of_ours(directory, name, changes, message):
    write_json(directory / name, read_json(directory / name) | changes)
    renew_files(directory)

    with pytest.raises(DamagedFileError, match=message):
        Recommender.from_pretrained(directory)
