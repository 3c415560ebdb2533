"""Generating texture: of any size, without a seam, alike in its statistics, and what is refused."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_recon import CancelToken, Image, ReconError, api, cli
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.normalization import Normalization
from napari_recon.data.patches import PatchSampler
from napari_recon.errors import Cancelled
from napari_recon.inference import texture as inference
from napari_recon.io import read_image
from napari_recon.losses.texture import log_spectrum, patch_distance, sorted_distance
from napari_recon.models.texture import TextureConfig, build

SMALL = {
    "features": 8, "levels": 2, "patch_size": 32, "batch_size": 4, "precision": "float32", "validate_every": 20,
    "ema_decay": 0.9,
}  # fmt: skip


@pytest.fixture(scope="module")
def stripes():
    """Rough horizontal stripes, skewed histogram: unlike white or Gaussian noise."""
    noise = np.random.default_rng(0).normal(size=(96, 112))
    return (100 + 40 * np.exp(3 * gaussian_filter(noise, (1, 4), mode="wrap"))).astype(np.float32)


@pytest.fixture(scope="module")
def trained(stripes):
    return api.train("texture", stripes, steps=200, learning_rate=5e-3, **SMALL)


def untrained(channels=1, joint=False):
    config = TextureConfig(levels=2, features=4, channels=channels if joint else 1)
    torch.manual_seed(0)
    weights = build(config).state_dict()
    return TrainedModel("texture", config, weights, Normalization((10.0,) * channels, (5.0,) * channels), name="m")


def shape_of(pixels):
    """Standard deviation, skewness, and how much rougher the picture is across than along its rows."""
    z = (pixels - pixels.mean()) / pixels.std()
    return np.array([pixels.std(), (z**3).mean(), np.diff(z, axis=-2).std() / np.diff(z, axis=-1).std()])


def test_a_short_training_takes_over_the_statistics(stripes, trained):
    made = api.generate(trained, (96, 112), 4)
    assert made.dtype == np.float32
    assert abs(made.mean() - stripes.mean()) < 0.2 * stripes.std()
    contrast, skewness, direction = np.mean([shape_of(m) for m in made], axis=0) / shape_of(stripes)
    assert 0.8 < contrast < 1.25
    assert skewness > 0.15
    assert direction > 0.5


def test_seeds_reproduce_and_differ(trained):
    first, second = (api.generate(trained, (33, 50), 2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2, 33, 50)
    assert np.abs(first[0] - first[1]).mean() > 1
    assert np.abs(first - api.generate(trained, (33, 50), 2, seed=4)).mean() > 1


def test_a_seamless_texture_tiles_without_an_edge(trained):
    plain, seamless = (api.generate(trained, (64, 48), 4, tileable=t) for t in (False, True))

    def excess(pixels, axis):
        inside = np.abs(np.diff(pixels, axis=axis)).mean()
        return np.abs(pixels.take(0, axis) - pixels.take(-1, axis)).mean() / inside

    for axis in (1, 2):
        assert excess(seamless, axis) < 1.3
    assert max(excess(plain, axis) for axis in (1, 2)) > 1.3
    # Moving the field of noise moves the texture: no place is special.
    tiled = np.tile(seamless, (1, 2, 2))
    assert np.abs(np.diff(tiled, axis=1)).max() < 1.2 * np.abs(np.diff(seamless, axis=1)).max() + 1e-3


@pytest.mark.parametrize("tileable", [False, True])
def test_tiles_make_no_difference(trained, monkeypatch, tileable):
    whole = api.generate(trained, (64, 72), tileable=tileable)
    monkeypatch.setattr(inference, "TILE", 16)
    np.testing.assert_allclose(api.generate(trained, (64, 72), tileable=tileable), whole, rtol=1e-4, atol=1e-3)


def test_channels_one_by_one_and_together():
    assert api.generate(untrained(), (5, 7)).shape == (1, 5, 7)
    assert api.generate(untrained(3, joint=True), (8, 8), 2).shape == (2, 3, 8, 8)
    single = untrained(2)
    assert api.generate(single, (8, 8), channel=1).shape == (1, 8, 8)
    with pytest.raises(ReconError, match="no channel 2"):
        api.generate(single, (8, 8), channel=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (30, 32), "tileable": True}, "cannot be 30 x 32"),
        ({"shape": (8, 8, 8)}, "8 x 8 x 8"),
        ({"shape": (0, 8)}, "0 x 8"),
        ({"noise": True}, "noise"),
        ({"temperature": 3}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"n": 0}, "0 samples"),
    ],
)
def test_what_cannot_be_generated_is_refused(options, words):
    with pytest.raises(ReconError, match=words) as caught:
        api.generate(untrained(), **options)
    assert caught.value.hint


def test_other_models_small_images_and_targets_are_refused(stripes, phantom, tiny):
    with pytest.raises(ReconError, match="not to sample"):
        api.generate("universal")
    sampler = {"features": 4, "latents": 2, "levels": 2, "guided": False}
    vae = api.train("vae", phantom[0], **{**tiny, **sampler, "depth": None, "steps": 2})
    with pytest.raises(ReconError, match="seam"):
        api.generate(vae, (16, 16), tileable=True)
    with pytest.raises(ReconError, match="48 pixels wide"):
        api.train("texture", phantom[0], steps=1)
    with pytest.raises(ReconError, match="target"):
        api.train("texture", stripes, stripes, steps=1, **SMALL)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        api.generate(untrained(), cancel=token)


def test_the_parts_of_the_loss_can_be_left_out_and_watched(stripes):
    events = []
    model = api.train(
        "texture", Image(stripes[None], "ZYX"), steps=6, patch_weight=0, preview=Image(stripes[None, :20, :31], "ZYX"),
        on_progress=events.append, **SMALL,
    )  # fmt: skip
    assert model.spec.task == "generate"
    assert any("adversarial" in e.values for e in events)
    assert next(e.preview for e in events if e.preview is not None).shape == (1, 20, 31)
    events.clear()
    api.train("texture", stripes, steps=3, adversarial_weight=0, on_progress=events.append, **SMALL)
    assert not any("adversarial" in e.values for e in events)


def test_patches_are_drawn_evenly_and_upright():
    image = torch.zeros(1, 1, 40, 40)
    image[..., :8, :8] = 100.0  # what other families prefer
    image[..., 0] = torch.arange(40.0)
    sampler = PatchSampler([image], patch_size=8, validation_fraction=0.0)
    sampler.draw_evenly()
    rng = torch.Generator().manual_seed(0)
    patches = torch.cat([sampler.draw(16, rng).input for _ in range(60)])
    assert (patches > 50).any(dim=(1, 2, 3)).float().mean() < 0.15
    left = patches[(patches[:, 0, :, 0].diff(dim=1) != 0).all(dim=1), 0, :, 0]
    assert len(left) > 3
    assert (left.diff(dim=1) == 1).all()


def test_the_distances_tell_textures_apart(stripes):
    rng = torch.Generator().manual_seed(0)
    x = torch.from_numpy((stripes - stripes.mean()) / stripes.std())[None, None]
    rolled, noise = x.roll((30, 40), (2, 3)), torch.randn(x.shape, generator=rng)
    assert patch_distance(x, rolled, 2, rng) < 0.1 * patch_distance(x, noise, 2, rng)
    distances = [(log_spectrum(y) - log_spectrum(x)).abs().mean() for y in (rolled, noise)]
    assert distances[0] < 0.6 * distances[1]


def test_lines_that_keep_to_a_grid_are_told_from_lines_anywhere():
    rng = torch.Generator().manual_seed(0)

    def lines(anywhere):
        """Some lines, 16 pixels apart or not, in each of 16 images of 96 pixels."""
        drawn = torch.randn(16, 1, 6, generator=rng).repeat_interleave(16, dim=2)
        drawn[..., torch.arange(96) % 16 > 3] = 0
        shifts = torch.randint(0, 16 if anywhere else 1, (16,), generator=rng).tolist()
        return torch.stack([x.roll(s, 1) for x, s in zip(drawn, shifts, strict=True)])[:, :, None].expand(-1, 1, 96, 96)

    def mean_distance(real, fake):
        return float(torch.stack([patch_distance(real, fake, 4, rng) for _ in range(20)]).mean())

    alike = mean_distance(lines(True), lines(True))
    assert mean_distance(lines(True), lines(False)) > 2 * alike


def test_faint_grain_counts_beside_strong_edges():
    rng = torch.Generator().manual_seed(0)
    edges, grain = torch.randn(2, 500, generator=rng) * torch.tensor([[10.0], [0.01]])
    assert sorted_distance(torch.stack([edges, grain]), torch.stack([edges, 0 * grain])) > 0.3


def test_the_command_writes_textures(tmp_path, trained, capsys):
    trained.save(tmp_path / "model")
    out = tmp_path / "out.tif"
    arguments = ["--model", str(tmp_path / "model.safetensors"), "--shape", "32,48", "-n", "2", "--tileable"]
    with pytest.raises(SystemExit) as done:
        cli.main(["generate", str(out), *arguments])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out)["axes"] == "SYX"
    np.testing.assert_array_equal(read_image(out).array, api.generate(trained, (32, 48), 2, tileable=True))
