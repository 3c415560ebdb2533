"""The two stages of training an upscaler: faithful first, then sharp, with a way back."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_recon import Image, api
from napari_recon.data.degradation import Optics
from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import Batch
from napari_recon.errors import ReconError
from napari_recon.io import write_image
from napari_recon.losses.adversarial import ADVERSARIAL, feature_matching
from napari_recon.models.gan import GANConfig, build
from napari_recon.models.generators import enlarge
from napari_recon.progress import CancelToken
from napari_recon.training.steps.gan import GANStep

SMALL = {
    "features": 8, "blocks": 1, "patch_size": 24, "batch_size": 4, "precision": "float32", "validate_every": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def sharp():
    """A band-limited picture with structure down to two pixels."""
    noise = np.random.default_rng(0).normal(size=(72, 80))
    return (100 + 400 * gaussian_filter(noise, 1.1)).astype(np.float32)


def step_of(**options):
    config = GANConfig(**{"features": 8, "blocks": 1, "perceptual": True, **options})
    torch.manual_seed(0)
    step = GANStep(config, build(config), has_target=False)
    step.use(Normalization((100.0,), (50.0,)), None)
    return step


def batch_of(sharp):
    x = torch.from_numpy((sharp[:24, :24] - 100) / 50)
    return Batch(x.expand(2, 1, 24, 24).contiguous())


def differences(model):
    return [w for k, w in model.weights.items() if k.startswith("difference.")]


def test_the_faithful_stage_learns_to_beat_bicubic(sharp):
    options = SMALL | {"learning_rate": 5e-3, "ema_decay": 0.95, "psf_sigma": 0.8}
    model = api.train("gan", sharp, steps=120, start_from=None, **options)
    x = torch.from_numpy(sharp)[None, None]
    low = Optics.gaussian(2, 0.8).expected(x)
    errors = [
        np.abs(image - sharp)[4:-4, 4:-4].mean()
        for image in (api.upscale(low[0, 0].numpy(), model, precision="float32"), enlarge(low, 2)[0, 0].numpy())
    ]
    assert errors[0] < 0.8 * errors[1]
    low_rough, high_rough = model.provenance["roughness"]
    assert 0 < low_rough <= high_rough < 1


@pytest.mark.parametrize("discriminator", ["unet", "patch"])
@pytest.mark.parametrize("adversarial", list(ADVERSARIAL))
def test_the_perceptual_stage_moves_the_difference_alone(sharp, discriminator, adversarial):
    events = []
    more = {"perceptual": True, "fidelity_share": 0.5, "discriminator": discriminator, "adversarial": adversarial}
    first = api.train("gan", sharp, steps=6, start_from=None, **SMALL, **more | {"fidelity_share": 0.95})
    assert all(not w.any() for w in differences(first))
    model = api.train("gan", sharp, steps=12, start_from=None, on_progress=events.append, **SMALL, **more)
    assert any(w.any() for w in differences(model))
    seen = events[-1].values
    assert {"generator", "discriminator"} <= seen.keys()
    assert 0 < seen["D(real)"] < 1
    assert 0 < seen["D(fake)"] < 1
    assert seen["consistency"] > 0


def test_the_faithful_weights_are_held_in_the_perceptual_stage(sharp):
    step = step_of()
    for name, loss in step.losses(batch_of(sharp), torch.Generator().manual_seed(0), used=0.9):
        step.players[name].zero_grad()
        loss.backward()
    network = step.players["network"]
    assert all(p.grad is None for p in network.generator.parameters())
    assert any(p.grad.any() for p in network.difference.parameters())
    assert all(p.grad is not None for p in step.players["discriminator"].parameters())


def test_weights_that_disagree_with_the_input_go_halfway_back(sharp):
    step = step_of()
    batch, rng = batch_of(sharp), torch.Generator().manual_seed(0)
    next(step.losses(batch, rng, used=0.0))  # notes the consistency of the faithful weights
    difference = step.players["network"].difference
    torch.nn.init.normal_(difference.tail.weight, std=3.0)
    before = difference.tail.weight.detach().clone()
    for _ in step.losses(batch, rng, used=0.9):
        pass
    torch.testing.assert_close(difference.tail.weight, before / 2)
    assert "halfway back" in step.warning


def test_a_discriminator_that_has_won_pauses(sharp):
    step = step_of()
    critic = step.players["discriminator"]
    assert [n for n, _ in step.losses(batch_of(sharp), torch.Generator(), used=0.9)] == ["discriminator", "network"]
    critic.real.fill_(1.0)
    critic.fake.fill_(0.0)
    assert [n for n, _ in step.losses(batch_of(sharp), torch.Generator(), used=0.9)] == ["network"]


def test_both_stages_resume_exactly(sharp, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_recon.training.loop.Reporter", _Eager)
    options = SMALL | {"perceptual": True, "fidelity_share": 0.5, "steps": 14, "photons": 40.0, "start_from": None}
    whole = api.train("gan", sharp, **options)
    state = tmp_path / "run.resume"
    for stop in (4, 10):
        token = CancelToken()
        part = api.train(
            "gan", sharp, checkpoint=state, resume=state.exists(), cancel=token,
            on_progress=lambda e, stop=stop, token=token: token.cancel() if e.done >= stop else None, **options,
        )  # fmt: skip
        assert part.stopped
    done = api.train("gan", sharp, checkpoint=state, resume=True, **options)
    assert all(torch.equal(done.weights[k], w) for k, w in whole.weights.items())


class _Eager:
    def __init__(self, on_progress, phase):
        from napari_recon.progress import Reporter

        self._reporter = Reporter(on_progress, phase, interval=0)

    def __getattr__(self, name):
        return getattr(self._reporter, name)


def test_a_faithful_model_can_go_on_to_look_sharp(sharp):
    faithful = api.train("gan", sharp, steps=4, start_from=None, **SMALL)
    model = api.train("gan", sharp, steps=10, start_from=faithful, perceptual=True, fidelity_share=0.1, **SMALL)
    assert any(w.any() for w in differences(model))
    assert api.upscale(sharp, model, fidelity=0.5).shape == (144, 160)


def test_images_whose_sides_are_no_multiples_of_the_scale_train(sharp):
    odd = np.stack([sharp[:47, :53]] * 2)
    odd[0, 5, 5] = np.nan
    model = api.train("gan", Image(odd, "ZYX"), steps=4, scale=3, start_from=None, **SMALL)
    assert api.upscale(sharp, model).shape == (216, 240)
    with pytest.raises(ReconError, match="2 pixels wide"):
        api.train("gan", sharp[:2], steps=4, scale=3, start_from=None, **SMALL)


@pytest.mark.parametrize("loss", ["l1", "mse", "ms_ssim"])
def test_every_distance_trains(sharp, loss):
    model = api.train("gan", sharp, steps=25, start_from=None, loss=loss, **SMALL | {"learning_rate": 3e-3})
    losses = [value for _, value in model.provenance["validation_loss"]]
    assert losses[-1] < losses[0]


def test_a_model_keeps_its_measured_psf_when_the_file_is_gone(sharp, tmp_path):
    bead = tmp_path / "bead.tif"
    y, x = np.mgrid[-3:4, -3:4]
    write_image(bead, (1000 * np.exp(-(x**2 + y**2) / 3)).astype(np.uint16))
    model = api.train("gan", sharp, psf_file=str(bead), steps=2, start_from=None, **SMALL)
    before = api.upscale(sharp, model, return_trust=True)[1]
    bead.unlink()
    again = api.load_model(model.save(tmp_path / "model"))
    np.testing.assert_allclose(api.upscale(sharp, again, return_trust=True)[1], before, atol=1e-4)


def test_a_measured_psf_is_read(sharp, tmp_path):
    y, x = np.mgrid[:9, :9]
    bead = (200 * np.exp(-((y - 4) ** 2 + (x - 4) ** 2) / 4)).astype(np.uint8)
    write_image(tmp_path / "bead.tif", Image(bead, "YX"))
    step = step_of(psf_file=str(tmp_path / "bead.tif"))
    assert np.shape(step.optics.kernel) == (9, 9)


@pytest.mark.parametrize("game", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_each_game_pulls_the_players_apart(game):
    real, fake = (torch.tensor([v], requires_grad=True) for v in (0.1, -0.1))
    game.discriminator(real, fake).backward()
    assert real.grad < 0 < fake.grad
    fake = torch.tensor([-0.1], requires_grad=True)
    game.generator(real.detach(), fake).backward()
    assert fake.grad < 0


def test_minimax_gives_up_where_non_saturating_does_not():
    gradients = {}
    for name in ("minimax", "non_saturating"):
        fake = torch.tensor([-8.0], requires_grad=True)
        ADVERSARIAL[name].generator(torch.tensor([8.0]), fake).backward()
        gradients[name] = -float(fake.grad)
    assert gradients["minimax"] < 1e-3
    assert gradients["non_saturating"] > 0.99


def test_feature_matching_teaches_the_generator_only():
    real, fake = (torch.ones(3, requires_grad=True) for _ in range(2))
    feature_matching([real], [2 * fake]).backward()
    assert real.grad is None
    assert fake.grad.sum() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wavelength": -500.0}, "wavelength"),
        ({"scale": 1}, "scale"),
        ({"scale": 5}, "scale"),
        ({"na": 1.4}, r"\(wavelength\) and Pixel size \(pixel_size\) must be given too"),
        ({"na": 1.4, "wavelength": 520, "pixel_size": 0.01}, "pixel_size"),
        ({"photons": -1}, "photons"),
        ({"read_noise": -1}, "read_noise"),
        ({"psf_sigma": 60.0}, "larger than the image"),
        ({"psf_file": "nowhere.tif"}, "nowhere.tif"),
        ({"features": 7}, "7 features"),
    ],
)
def test_options_that_cannot_be_are_refused(sharp, options, words):
    with pytest.raises(ReconError, match=words):
        api.train("gan", sharp, steps=1, start_from=None, **{**SMALL, **options})


def test_dark_images_have_no_photons(sharp):
    with pytest.raises(ReconError, match="photons to count"):
        api.train("gan", sharp - 1000, steps=1, photons=10, start_from=None, **SMALL)


def test_recorded_pairs_teach_what_no_optics_says(sharp):
    """Coarse images that are upside down in contrast: only pairs can teach that."""
    x = torch.from_numpy(sharp)[None, None]
    low = (200 - Optics(2).expected(x))[0, 0].numpy()
    options = SMALL | {"learning_rate": 5e-3, "ema_decay": 0.9}
    model = api.train("gan", low, sharp, steps=150, **options)
    done = api.upscale(low, model, precision="float32")
    assert model.provenance["targets"]
    assert np.corrcoef(done.ravel(), sharp.ravel())[0, 1] > 0.8
    with pytest.raises(ReconError, match="The target is") as caught:
        api.train("gan", sharp, sharp, steps=1, **SMALL)
    assert "2 times the size" in caught.value.hint


def test_the_preview_has_the_size_of_its_region(sharp):
    events = []
    api.train(
        "gan", sharp, steps=3, start_from=None, preview=sharp[:20, :31], on_progress=events.append, **SMALL
    )  # fmt: skip
    shown = [e.preview for e in events if e.preview is not None]
    assert shown
    assert shown[-1].shape == (20, 30)
