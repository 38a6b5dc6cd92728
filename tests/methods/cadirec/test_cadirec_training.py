import dataclasses
from functools import cache

import pytest
import torch

from cost_hf.methods.cadirec import configuration_cadirec
from cost_hf.methods.cadirec import options as cadirec_options
from cost_hf.methods.cadirec.modeling_cadirec import CaDiRecModel
from cost_hf.methods.cadirec.options import DiffusionOptions
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from cost_hf.methods.sasrec.options import SasRecModelOptions, SasRecOptions, SequenceTrainingOptions
from cost_hf.methods.sasrec.training import build_model, train_sequences
from tests.methods.sasrec.sasrec_toys import ITEMS, Killed, are_equal, rising_validation, walks

OPTIONS = SasRecOptions(
    SasRecModelOptions(hidden_size=16, intermediate_size=32, max_history=6, dropout=0.1),
    SequenceTrainingOptions(epochs=3, batch_size=16, warmup_steps=2, validate_every=1),
)
SMALL = {"noise_steps": 20, "diffusion_intermediate_size": 16, "num_substitutes": 3}


def fit(directory, *, stop_after=None, loss="cross_entropy", **section):
    """Train on walks: as CaDiRec with fields of section `diffusion`, or as SASRec without any; return its SASRec."""
    options = dataclasses.replace(OPTIONS, model=dataclasses.replace(OPTIONS.model, loss=loss))
    fields = dataclasses.asdict(DiffusionOptions(**SMALL | section)) if section else {}
    model = build_model(
        CaDiRecModel if section else SasRecModel, options.model, num_items=ITEMS, text_dim=None, seed=0, **fields
    )
    torch.manual_seed(3)  # of negatives and dropout; stages set it
    trained = train_sequences(
        model,
        walks(),
        item_vectors=None,
        options=options,
        validate=rising_validation(stop_after),
        output_dir=directory,
        seed=0,
    ).model
    return trained.sasrec if section else trained


@pytest.mark.trains
@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax", "binary"])
def test_without_both_losses_it_is_sasrec_bit_for_bit(tmp_path, loss):
    plain = fit(tmp_path / "plain", loss=loss)

    assert are_equal(fit(tmp_path / "zero", loss=loss, diffusion_weight=0.0, contrastive_weight=0.0), plain)


@pytest.mark.trains
def test_each_loss_and_way_of_sampling_changes_the_training(tmp_path):
    @cache
    def trained(**section):
        return fit(tmp_path / "-".join(map(str, section.values())), **section)

    plain = trained(diffusion_weight=0.0, contrastive_weight=0.0)
    runs = [
        plain,
        trained(diffusion_weight=0.5, contrastive_weight=0.0),
        trained(diffusion_weight=0.5, contrastive_weight=0.5),
        trained(diffusion_weight=0.5, contrastive_weight=0.5, sampling="ddim"),
    ]

    for number, one in enumerate(runs):
        assert not any(are_equal(one, other) for other in runs[:number])


@pytest.mark.trains
@pytest.mark.parametrize("sampling", ["one_step", "ddim"])
def test_a_run_killed_in_its_second_epoch_continues_bit_for_bit(tmp_path, sampling):
    section = {"contrastive_weight": 0.5, "sampling": sampling}
    straight = fit(tmp_path / "straight", **section)
    with pytest.raises(Killed):
        fit(tmp_path / "killed", stop_after=1, **section)

    assert are_equal(fit(tmp_path / "killed", **section), straight)


def test_fresh_weights_of_its_sasrec_are_those_of_sasrec():
    fields = dataclasses.asdict(DiffusionOptions())
    built = build_model(CaDiRecModel, OPTIONS.model, num_items=ITEMS, text_dim=None, seed=4, **fields)

    assert are_equal(built.sasrec, build_model(SasRecModel, OPTIONS.model, num_items=ITEMS, text_dim=None, seed=4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling": "ddpm"}, "diffusion.sampling must be one of one_step, ddim, got 'ddpm'"),
        ({"sampling_steps": 2000}, "diffusion.sampling_steps must be"),
        ({"masked_share": 0.0}, r"diffusion.masked_share is a share in \(0, 1\], got 0.0"),
        ({"diffusion_weight": float("inf")}, "diffusion.diffusion_weight must be 0 or above and finite"),
        ({"contrastive_temperature": 0.0}, "diffusion.contrastive_temperature must be above 0"),
        ({"num_substitutes": 0}, "diffusion.num_substitutes must be"),
        ({"diffusion_dropout": 1.0}, r"diffusion.diffusion_dropout is a share in \[0, 1\)"),
    ],
)
def test_options_that_no_run_can_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DiffusionOptions(**fields).validate()


def test_options_have_the_choices_bounds_and_fields_of_the_configuration():
    assert cadirec_options.SAMPLINGS == configuration_cadirec.SAMPLINGS
    assert cadirec_options.MAX_STEPS == configuration_cadirec.MAX_STEPS
    own = {entry.name for entry in dataclasses.fields(DiffusionOptions)}
    known = {entry.name: entry.default for entry in dataclasses.fields(configuration_cadirec.CaDiRecConfig)}
    assert own <= set(known)
    assert all(getattr(DiffusionOptions(), name) == known[name] for name in own)
