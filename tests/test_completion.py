"""Filling marked parts: what is kept, what is learned, what is refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_recon import CancelToken, Image, ReconError, api, cli
from napari_recon.checkpoint import TrainedModel
from napari_recon.data.holes import KINDS, MovedHoles, draw_holes
from napari_recon.data.normalization import Normalization
from napari_recon.errors import Cancelled
from napari_recon.io import read_image, write_image
from napari_recon.models.completion import CompletionConfig, build, deepest, spec
from napari_recon.models.inpainter import first_guess

SMALL = {
    "features": 8, "depth": 1, "patch_size": 24, "batch_size": 4, "precision": "float32", "validate_every": 20,
    "ema_decay": 0.95,
}  # fmt: skip


def untrained(channels=1, joint=False):
    config = CompletionConfig(depth=1, features=4, channels=channels if joint else 1)
    torch.manual_seed(0)
    weights = build(config).state_dict()
    return TrainedModel("completion", config, weights, Normalization((400.0,) * channels, (50.0,) * channels), name="m")


@pytest.fixture(scope="module")
def smooth():
    """A band-limited picture with a little noise."""
    rng = np.random.default_rng(0)
    return (400 + 300 * gaussian_filter(rng.normal(size=(72, 80)), 2) + rng.normal(0, 2, (72, 80))).astype(np.float32)


@pytest.fixture(scope="module")
def pixels_mask():
    return np.random.default_rng(1).random((72, 80)) < 0.1


@pytest.fixture(scope="module")
def trained(smooth):
    return api.train("completion", smooth, steps=80, learning_rate=3e-3, holes="pixels", **SMALL)


DTYPES = ["uint8", "int16", "uint16", "int32", "uint64", "float16", "float32", "float64"]
AXES = ["YX", "ZYX", "TYX", "YXC", "CYX", "TCYX", "XY", "CXY"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_outside_the_mask_every_bit_and_the_dtype_are_kept(data):
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    axes = data.draw(st.sampled_from(AXES))
    sizes = {"Y": data.draw(st.integers(18, 23)), "X": data.draw(st.integers(18, 23)), "C": 2}
    shape = tuple(sizes.get(a, 2) for a in axes)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    if dtype.kind == "f":
        image = rng.normal(0, 100, shape).astype(dtype)
        image[rng.random(shape) < 0.02] = data.draw(st.sampled_from([np.nan, np.inf, -0.0, 1e-7]))
    else:
        info = np.iinfo(dtype)
        image = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    mask = rng.random(shape) < data.draw(st.sampled_from([0.02, 0.3, 0.8]))
    mask.flat[0] = True
    before = image.copy()
    model = untrained(shape[axes.index("C")] if "C" in axes else 1, joint=data.draw(st.booleans()))
    done = api.complete(image, mask, model, axes=axes, tile_size=data.draw(st.sampled_from([None, 8])))
    assert done.dtype == dtype
    assert done.shape == shape
    assert done[~mask].tobytes() == image[~mask].tobytes()
    assert image.tobytes() == before.tobytes()
    assert np.isfinite(done[mask].astype(float)).all()


def test_a_short_training_fills_holes_better_than_their_neighbours_mean(smooth, pixels_mask, trained):
    mask = torch.from_numpy(~pixels_mask)[None, None].float()
    damaged = np.where(pixels_mask, 0, smooth)
    done = api.complete(damaged, pixels_mask, trained)
    guess = first_guess(torch.from_numpy(smooth - 400)[None, None] * mask, mask, 1)[0, 0].numpy() + 400
    errors = [np.abs(x - smooth)[pixels_mask].mean() for x in (done, guess)]
    assert errors[0] < 0.85 * errors[1]


def test_what_is_under_the_mask_has_no_influence(smooth, pixels_mask, trained):
    other = np.where(pixels_mask, np.nan, smooth)
    np.testing.assert_array_equal(api.complete(smooth, pixels_mask, trained), api.complete(other, pixels_mask, trained))


def test_tiles_make_no_difference(smooth, pixels_mask, trained):
    whole, tiled = (api.complete(smooth, pixels_mask, trained, tile_size=t, precision="float32") for t in (None, 16))
    np.testing.assert_allclose(whole, tiled, rtol=1e-4, atol=1e-3)


def test_without_a_model_one_is_trained_on_the_rest(smooth, pixels_mask):
    damaged = Image(np.where(pixels_mask, 60000, smooth).astype(np.uint16), "YX", scale=(2.0, 2.0), units=("um", "um"))
    events = []
    done = api.complete(damaged, pixels_mask, minutes=0.02, on_progress=events.append)
    assert {e.phase for e in events} >= {"train", "complete"}
    assert (done.scale, done.units, done.dtype) == (damaged.scale, damaged.units, np.uint16)
    record = done.metadata["napari_recon"]
    assert record["trained_here"]
    assert record["filled"] == pixels_mask.sum()
    # The bad pixels are of the hundredfold brightness: had one been learned from, it would show.
    assert np.abs(done.array.astype(float) - smooth)[pixels_mask].max() < 60


@pytest.mark.parametrize(("side", "depth"), [(1, 1), (6, 2)])
def test_the_network_trained_here_sees_as_far_as_the_holes_need(smooth, side, depth):
    mask = np.zeros((72, 80), bool)
    mask[30 : 30 + side, 40 : 40 + side] = True
    done = api.complete(Image(smooth, "YX"), mask, minutes=0.01)
    assert done.metadata["napari_recon"]["depth"] == depth


def test_a_mask_of_one_plane_counts_for_all(smooth, pixels_mask, trained):
    stack = np.stack([smooth, smooth[::-1]])
    done = api.complete(stack, pixels_mask, trained, axes="TYX")
    alone = api.complete(smooth, pixels_mask, trained)
    np.testing.assert_allclose(done[0], alone, rtol=1e-6)  # convolutions of two planes may round otherwise than of one
    assert (done != stack)[:, pixels_mask].mean() > 0.9
    with_z = api.complete(np.stack([stack, stack]), np.stack([pixels_mask, ~pixels_mask]), trained, axes="TZYX")
    np.testing.assert_array_equal(with_z[1, 0], done[0])
    colours = api.complete(np.stack([smooth, smooth], -1), pixels_mask, untrained(2), axes="YXC")
    assert (colours != smooth[..., None])[pixels_mask].mean() > 0.9
    named = api.complete(stack, Image(pixels_mask.T.astype(np.uint8), "XY"), trained, axes="TYX")
    np.testing.assert_array_equal(named, done)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((72, 79), bool), "shape"),
        (np.ones((2, 72, 80), bool), "shape"),
        (np.zeros((72, 80), bool), "empty"),
        (np.ones((72, 80), bool), "too little is left"),
    ],
)
def test_masks_that_cannot_be_filled_are_refused(smooth, trained, mask, words):
    with pytest.raises(ReconError, match=words) as caught:
        api.complete(smooth, mask, trained)
    assert caught.value.hint


def test_an_image_smaller_than_the_network_looks_is_refused(trained):
    small = np.random.default_rng(0).random((17, 40)).astype(np.float32)
    mask = small > 0.9
    with pytest.raises(ReconError, match="17 pixels wide"):
        api.complete(small, mask, trained)
    with pytest.raises(ReconError, match="17 pixels wide"):
        api.complete(small, mask)
    with pytest.raises(ReconError, match="looks 72 far"):
        api.train("completion", np.random.default_rng(0).random((71, 90)), steps=1)
    assert [deepest(n) for n in (17, 18, 36, 71, 72, 2000)] == [0, 1, 2, 2, 3, 3]
    assert spec(CompletionConfig(depth=3)).receptive_field == 72


def test_other_models_targets_and_a_stop_are_told(smooth, pixels_mask, phantom, tiny):
    with pytest.raises(ReconError, match="not to complete"):
        api.complete(smooth, pixels_mask, "universal")
    with pytest.raises(ReconError, match="target"):
        api.train("completion", smooth, smooth, steps=1, **SMALL)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        api.complete(smooth, pixels_mask, cancel=token)
    with pytest.raises(Cancelled):
        api.complete(smooth, pixels_mask, untrained(), cancel=token)


def test_the_network_can_play_against_a_discriminator(smooth):
    events = []
    model = api.train(
        "completion", smooth, steps=8, adversarial_weight=0.1, holes="rectangles", hole_size=8,
        preview=smooth[:40, :33], on_progress=events.append, **SMALL,
    )  # fmt: skip
    assert set(model.weights) == set(build(model.config).state_dict())
    assert any("adversarial" in e.values for e in events)
    preview = next(e.preview for e in events if e.preview is not None)
    assert preview.shape == (40, 33)
    assert 0 < (preview != smooth[:40, :33]).mean() < 0.6


def test_training_uses_the_holes_of_the_image(smooth):
    holed = smooth.copy()
    holed[10:12, 5:40] = np.nan
    model = api.train("completion", holed, steps=2, **SMALL)
    assert model.provenance["holes"] == "own"
    assert model.provenance["missing_pixels"] == 70
    assert api.train("completion", smooth, steps=1, **SMALL).provenance["holes"] == "mixed"


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_drawn_holes_cover_about_their_share(kind):
    rng = torch.Generator().manual_seed(0)
    covered = [draw_holes((64, 48), kind, 0.1, 12, rng).float().mean().item() for _ in range(50)]
    assert 0.03 < np.mean(covered) < 0.25
    assert max(covered) < 0.6


def test_moved_holes_are_those_of_the_mask():
    holes = torch.zeros(30, 40, dtype=torch.bool)
    holes[3:5, 7:10] = True
    moved = MovedHoles([torch.zeros(5, 5, dtype=torch.bool), holes])
    rng = torch.Generator().manual_seed(0)
    drawn = [moved.draw((16, 12), 0.01, rng) for _ in range(40)]
    counts = [int(d.sum()) for d in drawn]
    assert min(counts) >= 1
    assert max(counts) == 6
    assert len({tuple(d.nonzero()[0].tolist()) for d in drawn}) > 20
    assert 0.1 < moved.draw((16, 12), 0.1, rng).float().mean() < 0.2


def test_the_first_guess_reaches_into_large_holes_and_keeps_what_is_known():
    x = torch.arange(64.0).expand(1, 1, 64, 64).contiguous()
    known = torch.ones_like(x)
    known[..., 20:44, 20:44] = 0
    guess = first_guess(x * known, known, 4)
    torch.testing.assert_close(guess[known > 0], x[known > 0])
    assert (guess - x).abs().max() < 14


def test_the_command_writes_a_file_that_differs_in_the_mask_only(tmp_path, smooth, pixels_mask, trained, capsys):
    image = smooth.astype(np.uint16)
    write_image(tmp_path / "in.tif", Image(image, "YX"))
    write_image(tmp_path / "mask.png", Image((255 * pixels_mask).astype(np.uint8), "YX"))
    trained.save(tmp_path / "model")
    paths = [str(tmp_path / n) for n in ("in.tif", "mask.png", "out.tif")]
    with pytest.raises(SystemExit) as done:
        cli.main(["complete", *paths, "--model", str(tmp_path / "model.safetensors")])
    assert done.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verb"], answer["filled"]) == ("complete", int(pixels_mask.sum()))
    result = read_image(paths[2]).array
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result[~pixels_mask], image[~pixels_mask])
    for source in paths[:2]:
        with pytest.raises(SystemExit) as done:
            cli.main(["complete", *paths[:2], source])
        assert done.value.code == 1
