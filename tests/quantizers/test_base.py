import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from cost_hf.files import DamagedFileError, read_json, write_json
from cost_hf.quantizers.base import MEMBERS, CodesOptions, load_quantizer
from cost_hf.quantizers.cost import CostModel
from cost_hf.quantizers.residual import CostOptions
from tests.quantizers.cost.toys import tiny_model

KINDS = (
    "category",
    "cost",
    "cost_rqvae",
    "gaoq",
    "letter",
    "opq",
    "prism",
    "random",
    "rkmeans",
    "rqvae",
    "simhash",
    "text_slots",
)


def options_of_all_kinds():
    CodesOptions.load_kinds()
    return [CodesOptions.of(kind) for kind in CodesOptions.kinds]


def test_the_kinds_of_this_package_are_found():
    CodesOptions.load_kinds()

    assert set(KINDS) <= set(CodesOptions.kinds)
    assert CodesOptions.of() == CostOptions()


def test_finding_the_kinds_and_checking_options_needs_neither_torch_nor_pandas():
    code = """
        import sys
        import cost_hf.quantizers.fit
        from cost_hf.quantizers.base import CodesOptions
        CodesOptions.load_kinds()
        for kind in CodesOptions.kinds:
            CodesOptions.of(kind).validate()
        print([name for name in ("torch", "transformers", "accelerate", "pandas", "scipy") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("options", options_of_all_kinds(), ids=lambda options: options.kind)
def test_the_defaults_of_a_kind_are_valid_and_what_it_says_of_itself_agrees(options):
    options.validate()

    model = options.build_model(128)
    assert model is None or options.follows_reassignment
    assert model is None or all(hasattr(model, name) for name in MEMBERS)
    assert (options.timed_step(num_items=100, item_dim=128) is not None) == options.is_trained
    assert options.needs_collaborative_vectors == (options.collaborative_dim > 0)
    assert options.content()["kind"] == options.kind and "report_to" not in options.content()


@pytest.mark.parametrize("options", options_of_all_kinds(), ids=lambda options: options.kind)
def test_digests_are_of_what_a_model_stores_not_of_what_a_machine_computes(options):
    model = options.build_model(128)
    if model is None or getattr(model, "computes_level_vectors", False):
        return
    stored = {weight.untyped_storage().data_ptr() for weight in model.state_dict().values()}
    vectors = [model.level_vectors(level) for level in range(len(model.level_sizes))]

    assert all(part is None or part.untyped_storage().data_ptr() in stored for part in vectors)


def test_the_timed_steps_make_up_all_epochs():
    step, repetitions = CostOptions(epochs=10, batch_size=64).timed_step(num_items=640, item_dim=16)

    step()
    assert repetitions == 100


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("coast", {}, r"codes.kind must be one of .*, got 'coast' \(did you mean 'cost'\?\)"),
        ("rkmeans", {"epoch": 3}, r"codes of kind 'rkmeans' have no field 'epoch'; they have level_sizes"),
        ("cost", {"revive": 3, "epoch": 3}, r"no field 'revive'"),
        ("cost", {"learning_rat": 3}, r"no field 'learning_rat' \(did you mean 'learning_rate'\?\)"),
    ],
)
def test_an_unknown_kind_or_field_is_an_error_that_names_the_nearest(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        CodesOptions.of(kind, **fields)


def test_another_kind_keeps_common_fields_and_takes_the_weights_that_define_it_from_its_defaults():
    weighted = CostOptions(contrastive_weight=0.7, commitment_weight=0.5, epochs=7)
    values = weighted.content()

    carried = CodesOptions.kinds["cost_rqvae"](**CodesOptions.kinds["cost_rqvae"].carried_over(values))

    assert (carried.commitment_weight, carried.epochs) == (0.5, 7)
    assert (carried.contrastive_weight, carried.reconstruction_weight) == (0.1, 1.0)


def test_a_saved_quantizer_is_loaded_with_its_class(tmp_path):
    model = tiny_model().eval()
    model.save_pretrained(tmp_path)

    loaded = load_quantizer(tmp_path)

    assert type(loaded) is CostModel and not loaded.training
    vectors = np.random.default_rng(0).normal(size=(20, model.config.item_dim))
    assert loaded.state_dict().keys() == model.state_dict().keys() and vectors.shape[1] == loaded.config.item_dim


def test_a_model_that_is_no_quantizer_is_refused_before_it_is_built(tmp_path, monkeypatch):
    config = GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    monkeypatch.setattr(GPT2LMHeadModel, "__init__", None)

    with pytest.raises(DamagedFileError, match=r"type 'gpt2', which is no quantizer \(it has no encode, level_sizes"):
        load_quantizer(tmp_path)


def test_code_in_the_directory_of_a_quantizer_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt="": pytest.fail(f"a library asks {prompt!r}"))
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('the code ran')")
    evil = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", config | evil)

    assert type(load_quantizer(tmp_path)) is CostModel

    write_json(tmp_path / "config.json", config | evil | {"model_type": "evil"})
    with pytest.raises(DamagedFileError, match="the quantizer in"):
        load_quantizer(tmp_path)


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises((OSError, ValueError), match=str(tmp_path)):
        load_quantizer(tmp_path)


PLUGIN = '''
"""A made-up quantizer: signs of random projections, one bit a level."""

from dataclasses import dataclass, field

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from cost_hf.quantizers.base import CodesOptions
from cost_hf.quantizers.fit import CodesResult


class HashConfig(PreTrainedConfig):
    model_type = "made_up_hash"
    item_dim: int = 4
    bits: int = 3


class HashModel(PreTrainedModel):
    config_class = HashConfig

    def __init__(self, config):
        super().__init__(config)
        self.planes = torch.nn.Parameter(torch.zeros(config.bits, config.item_dim))
        self.post_init()

    @property
    def level_sizes(self):
        return (2,) * self.config.bits

    def encode(self, item_embeddings):
        return (item_embeddings @ self.planes.detach().T > 0).long()

    def level_vectors(self, level):
        return None

    def level_distances(self, item_embeddings, prefix):
        cosine = item_embeddings @ self.planes.detach()[prefix.shape[1]]
        return torch.stack([cosine, -cosine], 1)


AutoConfig.register("made_up_hash", HashConfig)
AutoModel.register(HashConfig, HashModel)


@CodesOptions.register("made_up_hash")
@dataclass
class HashOptions(CodesOptions):
    scale: float = field(default=1.0, metadata={"help": "of the planes"})

    def fit(self, inputs, *, folder, digest, seed):
        config = HashConfig(item_dim=inputs.vectors.shape[1], bits=len(self.level_sizes))
        model = HashModel(config).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            model.planes.copy_(self.scale * torch.randn(model.planes.shape, generator=generator))
        return CodesResult.of_model(model, inputs)
'''
USE = """
    import sys
    import numpy as np
    from cost_hf.quantizers.base import CodesOptions, load_quantizer
    from cost_hf.quantizers.fit import CodesResult, fit_codes
    from cost_hf.semantic_ids.catalog import Catalog
    from transformers import AutoModel
    import torch

    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    options = CodesOptions.of("made_up_hash", level_sizes=[2] * 4, scale=2.0)
    result = fit_codes(vectors, options, output_dir=sys.argv[1], seed=0)
    again = CodesResult.load(sys.argv[1])
    assert np.array_equal(again.codes, result.codes)
    for model in (again.model, load_quantizer(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1])):
        assert type(model).__name__ == "HashModel"
        assert np.array_equal(model.encode(torch.from_numpy(vectors)).numpy(), result.codes)
    ids = [f"item{row}" for row in range(40)]
    catalog = Catalog.from_embeddings(ids, torch.from_numpy(vectors), again.model)
    assert catalog.quantizer_digest == result.quantizer_digest
    assert catalog.level_sizes == (2, 2, 2, 2, 256)
"""
GONE = """
    import sys
    from cost_hf.quantizers.base import CodesOptions
    from cost_hf.quantizers.fit import CodesResult
    for use in (lambda: CodesOptions.of("made_up_hash"), lambda: CodesResult.load(sys.argv[1])):
        try:
            use()
        except ValueError as error:
            print(error)
"""


def test_a_quantizer_of_another_distribution_is_fitted_saved_loaded_and_gone_with_it(tmp_path):
    site = tmp_path / "site"
    metadata = site / "made_up_quantizer-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up-quantizer\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[cost_hf.quantizers]\nhash = made_up_quantizer\n")
    (site / "made_up_quantizer.py").write_text(PLUGIN)
    root = str(Path(__file__).parents[2])

    def run(code, *paths):
        environment = {"PYTHONPATH": ":".join(paths), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""}
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "codes")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(USE, root, str(site))
    removed = run(GONE, root)

    assert "got 'made_up_hash'" in removed
    assert "the quantizer in" in removed and "made_up_hash" in removed.splitlines()[1]
