import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.utils._python_dispatch import TorchDispatchMode

from cost_hf.methods.cadirec import modeling_cadirec
from cost_hf.methods.cadirec.configuration_cadirec import CaDiRecConfig
from cost_hf.methods.cadirec.modeling_cadirec import CaDiRecModel
from cost_hf.methods.sasrec.modeling_sasrec import SasRecModel
from tests.methods.sasrec.sasrec_toys import ITEMS, TINY, WIDTH, item_vectors

HISTORIES = torch.tensor([[3, 1, 4, 1, 5, 2], [9, 2, 6, -1, -1, -1], [8, 7, 3, 0, -1, -1], [2, -1, -1, -1, -1, -1]])
LABELS = torch.tensor([[1, 4, 1, 5, 2, 7], [2, 6, 0, -100, -100, -100], [7, 3, 0, 9, -100, -100], [6] + [-100] * 5])
SMALL = TINY | {"diffusion_intermediate_size": 16, "noise_steps": 50, "masked_share": 0.5, "num_substitutes": 3}


class Products(TorchDispatchMode):
    """Records the shapes of the products of matrices."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        if operation is torch.ops.aten.mm.default:
            self.shapes.append(found.shape)
        return found


def tiny_model(**changes):
    options = SMALL | changes
    if options.get("inputs", "ids") != "ids":
        options["text_dim"] = WIDTH
    torch.manual_seed(0)
    return CaDiRecModel(CaDiRecConfig(**options))


def masks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(HISTORIES.shape, generator=generator) < 0.5) & (HISTORIES >= 0)


def test_without_both_losses_it_is_sasrec_bit_for_bit():
    model = tiny_model(diffusion_weight=0.0, contrastive_weight=0.0).train()
    plain = SasRecModel(model.config.sasrec()).train()
    plain.load_state_dict(model.sasrec.state_dict())

    torch.manual_seed(5)
    found = model(HISTORIES, labels=LABELS).loss
    torch.manual_seed(5)
    expected = plain(HISTORIES, labels=LABELS).loss

    assert torch.equal(found, expected)
    found.backward()
    expected.backward()
    for name, weight in plain.named_parameters():
        assert torch.equal(model.sasrec.get_parameter(name).grad, weight.grad), name
    assert all(weight.grad is None for weight in model.diffusion.parameters())


@pytest.mark.parametrize("inputs", ["ids", "text", "both"])
@pytest.mark.parametrize("sampling", ["one_step", "ddim"])
def test_every_weight_learns(inputs, sampling):
    model = tiny_model(inputs=inputs, sampling=sampling).train()
    vectors = None if inputs == "ids" else item_vectors()

    model(HISTORIES, labels=LABELS, item_vectors=vectors).loss.backward()

    unlearned = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not unlearned


@pytest.mark.parametrize("sampling", ["one_step", "ddim"])
def test_mixed_precision_has_nearly_the_same_loss(sampling):
    model = tiny_model(sampling=sampling).train()
    losses = []
    for is_mixed in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
            losses.append(float(model(HISTORIES, labels=LABELS).loss))

    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_evaluation_adds_no_loss_and_draws_nothing():
    model = tiny_model().eval()
    state = torch.get_rng_state()

    found = model(HISTORIES, labels=LABELS)

    assert torch.equal(found.loss, model.sasrec(HISTORIES, labels=LABELS).loss)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_contrastive_loss_trains_the_layers_and_no_item():
    model = tiny_model().train()
    is_masked = masks()
    states = torch.randn(int(is_masked.sum()), 8)

    model._contrast(HISTORIES, is_masked, states, model.sasrec.item_table()).backward()

    assert model.sasrec.items.ids.weight.grad is None
    assert all(weight.grad is not None for weight in model.sasrec.layers.parameters())


def test_views_differ_from_histories_at_masked_positions_alone(monkeypatch):
    model = tiny_model().eval()
    is_masked = masks()
    states = torch.randn(int(is_masked.sum()), 8)
    read = []
    monkeypatch.setattr(model.sasrec, "read", lambda rows, table: read.append(rows) or torch.zeros(*rows.shape, 8))

    model._contrast(HISTORIES, is_masked, states, model.sasrec.item_table())

    (rows,) = read
    scores = model.sasrec.scaled(states) @ model.sasrec.targets(model.sasrec.item_table()).T
    best = scores.topk(3).indices
    for view in rows.chunk(2):
        assert torch.equal(view[~is_masked], HISTORIES[~is_masked])
        assert (view[is_masked][:, None] == best).any(1).all()


@pytest.mark.parametrize("positions", [0, 1, 5, 7])
def test_substitutes_are_the_most_likely_of_all_items_scored_for_a_few_positions_at_a_time(monkeypatch, positions):
    monkeypatch.setattr(modeling_cadirec, "POSITIONS_PER_CHUNK", 3)
    model = tiny_model().eval()
    states = torch.randn(positions, 8)
    table = model.sasrec.item_table()

    with Products() as made:
        scores, items = model._most_likely(states, table)

    expected = (model.sasrec.scaled(states) @ model.sasrec.targets(table).T).topk(3)
    torch.testing.assert_close(scores, expected.values)
    assert torch.equal(items, expected.indices)
    assert made.shapes
    assert all(rows <= 3 and width == ITEMS for rows, width in made.shapes)


@pytest.mark.parametrize("loss", ["cross_entropy", "sampled_softmax"])
def test_a_step_encodes_every_text_once(loss):
    model = tiny_model(inputs="text", loss=loss).train()
    encoded = []
    model.sasrec.items.hidden.register_forward_hook(lambda module, given, output: encoded.append(len(given[0])))
    negatives = torch.tensor([4, 8])

    found = model(
        HISTORIES, labels=LABELS, item_vectors=item_vectors(), negatives=negatives, log_expected=torch.zeros(2)
    )

    assert found.loss.isfinite()
    assert encoded == [ITEMS]


def test_noise_grows_and_stays_at_masked_positions():
    diffusion = tiny_model().diffusion
    vectors = torch.randn(4, 6, 8)
    is_masked = masks()

    signal = diffusion.signal(torch.arange(50))
    slightly = diffusion.noised(vectors, is_masked, torch.zeros(4, dtype=torch.int64))
    strongly = diffusion.noised(vectors, is_masked, torch.full((4,), 49))

    assert signal[0] == pytest.approx(0.99)
    assert (signal.diff() < 0).all()
    assert signal[-1] > 0
    for noised in (slightly, strongly):
        assert torch.equal(noised[~is_masked], vectors[~is_masked])
        assert (noised[is_masked] != vectors[is_masked]).all()
    distances = [(noised - vectors)[is_masked].norm() for noised in (slightly, strongly)]
    assert distances[0] < distances[1]


def test_the_variance_of_noised_vectors_is_that_of_the_schedule():
    diffusion = tiny_model().diffusion
    zeros = torch.zeros(1, 400, 8)
    steps = torch.tensor([30])

    torch.manual_seed(0)
    noised = diffusion.noised(zeros, torch.ones(1, 400, dtype=torch.bool), steps)

    share = diffusion.signal(steps)
    expected = share * (1 - diffusion.signal(torch.tensor([0]))) + 1 - share
    assert noised.var() == pytest.approx(float(expected), rel=0.1)


def test_pads_and_what_stands_there_change_nothing():
    diffusion = tiny_model().diffusion.eval()
    vectors = torch.randn(2, 5, 8)
    is_item = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    other = vectors.clone()
    other[0, 3:] = 7.0
    steps = torch.tensor([3, 9])

    first, second = diffusion(vectors, steps, is_item), diffusion(other, steps, is_item)
    alone = diffusion(vectors[:1, :3], steps[:1], is_item[:1, :3])

    torch.testing.assert_close(first[is_item], second[is_item])
    torch.testing.assert_close(first[0, :3], alone[0])


def test_the_context_decides_and_later_items_belong_to_it():
    diffusion = tiny_model().diffusion.eval()
    vectors = torch.randn(1, 5, 8)
    changed = vectors.clone()
    changed[0, 4] = torch.randn(8)
    every = torch.ones(1, 5, dtype=torch.bool)
    steps = torch.tensor([3])

    assert not torch.allclose(diffusion(vectors, steps, every)[0, 0], diffusion(changed, steps, every)[0, 0])
    assert not torch.allclose(diffusion(vectors, steps, every), diffusion(vectors, steps + 20, every))


@pytest.mark.parametrize("sampling_steps", [1, 2, 5, 50])
def test_the_reverse_process_ends_at_what_a_perfect_encoder_knows(monkeypatch, sampling_steps):
    diffusion = tiny_model(sampling_steps=sampling_steps).diffusion
    truth = torch.randn(4, 6, 8)
    is_masked = masks()
    calls = []

    def perfect(current, steps, is_item):
        share = diffusion.signal(steps)[:, None, None]
        if calls:  # what is left of the noise points from the truth to the state
            noise = (current - share.sqrt() * truth) / (1 - share).sqrt()
            torch.testing.assert_close(noise[is_masked], calls[0][is_masked], rtol=1e-3, atol=1e-3)
        else:
            calls.append((current - share.sqrt() * truth) / (1 - share).sqrt())
        assert torch.equal(current[~is_masked], truth[~is_masked])
        return truth

    monkeypatch.setattr(diffusion, "forward", perfect)

    assert torch.equal(diffusion.sampled(truth, is_masked, HISTORIES >= 0), truth)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling": "ddpm"}, "sampling must be one of one_step, ddim, got 'ddpm'"),
        ({"sampling_steps": 2000}, "expected 1 <= sampling_steps <= noise_steps"),
        ({"masked_share": 0.0}, r"masked_share is a share in \(0, 1\], got 0.0"),
        ({"diffusion_weight": -1.0}, "diffusion_weight must be 0 or above"),
        ({"contrastive_weight": float("nan")}, "contrastive_weight must be 0 or above"),
        ({"contrastive_temperature": 0.0}, "contrastive_temperature must be above 0"),
        ({"contrastive_similarity": "l2"}, "contrastive_similarity must be dot or cosine"),
        ({"num_substitutes": 0}, "num_substitutes must be from 1"),
        ({"hidden_size": 7}, "hidden_size must be a multiple of num_heads=2, got 7"),
    ],
)
def test_configurations_that_define_no_model_are_refused(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        CaDiRecConfig(**fields)


def test_more_substitutes_than_items_are_all_items():
    model = tiny_model(num_substitutes=10 * ITEMS).train()

    assert model(HISTORIES, labels=LABELS).loss.isfinite()
