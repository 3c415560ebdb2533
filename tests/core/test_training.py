"""Training learns what it should, in every way to learn, and says how it goes."""

import itertools

import dask.array as da
import numpy as np
import pytest
import torch

from napari_recon import api
from napari_recon.errors import ReconError
from napari_recon.image import Image
from napari_recon.progress import CancelToken
from napari_recon.training import setup
from napari_recon.training.loop import MAX_BAD_STEPS
from napari_recon.training.steps.autoencoder import AutoencoderStep


def psnr(image, clean):
    return api.evaluate(clean, image)["psnr"]


def learn(image, target=None, steps=150, **options):
    small = {"features": 8, "depth": 1, "patch_size": 32, "batch_size": 8, "precision": "float32"}
    small |= {"learning_rate": 3e-3, "ema_decay": 0.95, "validate_every": 50}
    return api.train("autoencoder", image, target, **{**small, "steps": steps, **options})


def test_a_blind_spot_network_denoises_what_it_learned_from(phantom):
    noisy, clean = phantom
    model = learn(noisy)
    losses = [loss for _, loss in model.provenance["train_loss"]]
    assert losses[-1] < losses[0]
    assert psnr(api.denoise(noisy, model, precision="float32"), clean) > psnr(noisy, clean) + 2


@pytest.mark.parametrize("noisy_target", [True, False])
def test_pairs_teach_the_clean_image(phantom, noisy_target):
    noisy, clean = phantom
    second = clean + np.random.default_rng(1).normal(0, 20, clean.shape) if noisy_target else clean
    model = learn(noisy, second.astype(np.float32))
    assert model.provenance["targets"]
    assert psnr(api.denoise(noisy, model, precision="float32"), clean) > psnr(noisy, clean) + 2


def test_the_bottleneck_learns_to_return_what_it_is_given(phantom):
    clean = phantom[1]
    model = learn(clean, network="bottleneck", image_size=16, code_length=32, patch_size=16, features=8)
    losses = [loss for _, loss in model.provenance["train_loss"]]
    assert losses[-1] < 0.5 * losses[0]
    assert psnr(api.denoise(clean, model, precision="float32"), clean) > 20


def test_volumes_are_learned_as_volumes(tiny):
    volume = np.random.default_rng(0).normal(10, 1, (9, 20, 21)).astype(np.float32)
    model = api.train("autoencoder", Image(volume, "ZYX"), dimensions=3, **tiny | {"patch_size": 8})
    assert model.spec.axes == "ZYX"
    assert api.denoise(volume, model, axes="ZYX").shape == volume.shape
    with pytest.raises(ReconError, match="no Z axis"):
        api.denoise(volume[0], model, axes="YX")


def test_channels_are_learned_together_or_on_their_own(phantom, tiny):
    both = np.stack(phantom)
    for channels in (1, 2):
        model = api.train("autoencoder", both, axes="CYX", channels=channels, **tiny)
        assert model.normalization.channels == 2
        assert api.denoise(both, model, axes="CYX").shape == both.shape


@pytest.mark.parametrize("axis", ["x", "y", "both"])
def test_structured_masks_train(phantom, tiny, axis):
    model = api.train("autoencoder", phantom[0], mask_axis=axis, mask_length=3, **tiny)
    assert np.isfinite(api.denoise(phantom[0], model)).all()


def test_pixels_that_are_not_numbers_teach_nothing(phantom, tiny):
    noisy = phantom[0].copy()
    noisy[5:8, 5:8], noisy[20, 20], noisy[30, 30] = np.nan, np.inf, -np.inf
    messages = []
    model = api.train("autoencoder", noisy, on_progress=lambda e: messages.append(e.message), **tiny)
    assert model.provenance["missing_pixels"] == 11
    assert any("11 pixels" in m for m in messages)
    assert all(np.isfinite(loss) for _, loss in model.provenance["train_loss"])
    target = phantom[1].copy()
    target[:20] = np.nan
    paired = api.train("autoencoder", noisy, target, **tiny)
    assert paired.provenance["missing_pixels"] == 20 * 48 + 2
    assert all(torch.isfinite(w).all() for w in paired.weights.values())


def test_a_masked_pixel_may_hold_anything(phantom, tiny):
    """With pairs, what a masked target pixel would have been has no influence on the weights."""
    noisy, clean = phantom
    hashes = set()
    for value in (np.nan, np.inf, -np.inf):
        target = clean.copy()
        target[10:20, 10:20] = value
        hashes.add(api.train("autoencoder", noisy, target, **tiny).hash)
    assert len(hashes) == 1


def test_the_same_seed_gives_the_same_model(phantom, tiny):
    first, again, other = (api.train("autoencoder", phantom[0], seed=s, **tiny).hash for s in (3, 3, 4))
    assert first == again != other


def test_the_budget_may_be_a_time(phantom, tiny):
    events = []
    options = {k: v for k, v in tiny.items() if k != "steps"} | {"minutes": 0.01}
    model = api.train("autoencoder", phantom[0], on_progress=events.append, **options)
    assert model.provenance["steps"] > 0
    assert model.provenance["seconds"] >= 0.6
    assert all(e.eta <= 0.6 and e.total >= e.done for e in events)


def test_the_kept_weights_are_an_average(phantom, tiny):
    plain = api.train("autoencoder", phantom[0], ema_decay=0.0, **tiny)
    assert plain.hash != api.train("autoencoder", phantom[0], ema_decay=0.9, **tiny).hash


def test_the_best_weights_of_pairs_are_kept(phantom, tiny):
    """At a learning rate that is far too high validation gets worse, and the weights from before that are kept."""
    noise = np.random.default_rng(5).normal(size=(48, 48)).astype(np.float32)
    wild = tiny | {"steps": 60, "learning_rate": 0.5, "ema_decay": 0.0, "schedule": "plateau"}
    provenance = api.train("autoencoder", phantom[0], noise, **wild).provenance
    losses = dict(map(tuple, provenance["validation_loss"]))
    assert losses[provenance["best_step"]] == min(losses.values())
    assert provenance["best_step"] < 60


def test_a_plateau_halves_the_learning_rate(phantom, tiny, monkeypatch):
    rates = []
    original = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    noise = np.random.default_rng(5).normal(size=(48, 48)).astype(np.float32)
    options = tiny | {"schedule": "plateau", "steps": 60, "validate_every": 1, "learning_rate": 0.1, "ema_decay": 0.0}
    api.train("autoencoder", phantom[0], noise, **options)
    scales = [rate / (0.1 * min(1, max((i + 1) / 100, 20 * i / 60))) for i, rate in enumerate(rates)]  # no warm-up
    assert scales[0] == pytest.approx(1)
    assert scales[-1] < 1
    for before, after in itertools.pairwise(scales):
        assert after == pytest.approx(before) or after == pytest.approx(before / 2)


def test_events_tell_step_total_time_and_losses(phantom, tiny):
    events = []
    api.train("autoencoder", phantom[0], preview=phantom[0][:20, :24], on_progress=events.append, **tiny)
    assert {e.phase for e in events} == {"train"}
    assert events[-1].done == events[-1].total == 6
    assert events[-1].eta == 0
    assert all(e.eta is not None and e.eta >= 0 for e in events)
    validated = [e for e in events if "validation" in e.values]
    assert [e.done for e in validated] == [3, 6]
    assert all(np.isfinite(e.values["train"]) for e in validated)
    shown = [e.preview for e in events if e.preview is not None]
    assert shown
    assert all(p.shape == (20, 24) and np.isfinite(p).all() for p in shown)


class Sick(AutoencoderStep):
    """Gives a loss that is not a number at some steps."""

    sick: range = range(0)
    count = 0

    def losses(self, batch, rng, used):
        for name, loss in super().losses(batch, rng, used):
            yield name, loss * (torch.nan if self.count in self.sick else 1.0)
        self.count += 1


@pytest.fixture
def sick(monkeypatch):
    monkeypatch.setattr(setup, "STEPS", {"autoencoder": Sick})
    return lambda steps: monkeypatch.setattr(Sick, "sick", steps)


def test_a_step_that_is_not_finite_is_skipped_counted_and_told(phantom, tiny, sick):
    sick(range(2, 4))
    messages = []
    model = api.train("autoencoder", phantom[0], on_progress=lambda e: messages.append(e.message), **tiny)
    assert model.provenance["skipped_steps"] == 2
    assert sum("skipped" in m for m in messages) == 2
    assert all(torch.isfinite(w).all() for w in model.weights.values())


@pytest.mark.parametrize("steps", [5, MAX_BAD_STEPS + 20])
def test_a_training_that_diverges_says_so(phantom, tiny, sick, steps):
    sick(range(0, 1000))
    with pytest.raises(ReconError, match="diverged") as error:
        api.train("autoencoder", phantom[0], **tiny | {"steps": steps})
    assert "learning rate" in error.value.hint


def test_a_token_that_is_set_stops_before_the_first_step(phantom, tiny):
    token = CancelToken()
    token.cancel()
    model = api.train("autoencoder", phantom[0], cancel=token, **tiny)
    assert (model.stopped, model.provenance["steps"]) == (True, 0)


def test_short_memory_is_told_with_a_next_step(phantom, tiny, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(AutoencoderStep, "_compute", fail)
    with pytest.raises(ReconError, match="not enough memory") as error:
        api.train("autoencoder", phantom[0], **tiny)
    assert "batch_size" in error.value.hint


def test_data_larger_than_memory_are_learned_from_in_part(phantom, tiny, monkeypatch):
    read = []

    def plane(block_id):
        read.append(block_id[0])
        return phantom[0][None]

    movie = da.map_blocks(
        plane, chunks=((1,) * 400, (48,), (48,)), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    monkeypatch.setenv("NAPARI_RECON_MEMORY_GB", "0.0002")
    model = api.train("autoencoder", movie, axes="TYX", **tiny | {"normalization": "standard"})
    assert model.provenance["steps"] == 6
    assert len(set(read)) < 40
