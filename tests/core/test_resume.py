"""Stopping, resuming, being killed, full disks, and several processes: nothing that was learned is lost."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from napari_recon import api
from napari_recon.errors import ReconError
from napari_recon.io import write_image
from napari_recon.progress import CancelToken

FLAGS = "--features 4 --depth 1 --patch-size 16 --batch-size 4 --precision float32"


def stop_at(step, **options):
    """Keyword arguments that stop a training within one step after `step`."""
    token = CancelToken()

    def watch(event):
        if event.done >= step:
            token.cancel()

    return options | {"cancel": token, "on_progress": watch}


@pytest.fixture
def every_event(monkeypatch):
    """Let no event be dropped for coming too soon."""
    monkeypatch.setattr("napari_recon.training.loop.Reporter", _Eager)


class _Eager:
    def __init__(self, on_progress, phase):
        from napari_recon.progress import Reporter

        self._reporter = Reporter(on_progress, phase, interval=0)

    def __getattr__(self, name):
        return getattr(self._reporter, name)


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("pairs", [False, True])
def test_stop_and_resume_equal_one_run(phantom, tiny, tmp_path, every_event, schedule, pairs):
    noisy, clean = phantom
    target = clean if pairs else None
    options = tiny | {"steps": 25, "validate_every": 2, "schedule": schedule}
    state = tmp_path / "run.resume"
    whole = api.train("autoencoder", noisy, target, **options)

    for step in (5, 12):
        part = api.train(
            "autoencoder", noisy, target, checkpoint=state, resume=state.exists(), **stop_at(step, **options)
        )
        assert part.stopped
        assert part.provenance["steps"] == step
        assert state.exists()
    done = api.train("autoencoder", noisy, target, checkpoint=state, resume=True, **options)

    assert not done.stopped
    assert all(torch.equal(done.weights[k], whole.weights[k]) for k in whole.weights)
    for key in ("train_loss", "validation_loss", "best_step", "steps"):
        assert done.provenance[key] == whole.provenance[key]
    assert not state.exists()


def test_a_vae_goes_on_as_if_there_had_been_no_break(phantom, tmp_path, every_event):
    options = {"levels": 2, "blocks": 1, "features": 4, "latents": 2, "patch_size": 16, "batch_size": 4, "steps": 12,
               "validate_every": 3, "precision": "float32", "likelihood": "learned"}  # fmt: skip
    state = tmp_path / "run.resume"
    whole = api.train("vae", phantom[0], **options)
    assert api.train("vae", phantom[0], checkpoint=state, **stop_at(5, **options)).provenance["steps"] == 5
    done = api.train("vae", phantom[0], checkpoint=state, resume=True, **options)
    assert all(torch.equal(done.weights[k], whole.weights[k]) for k in whole.weights)
    assert done.provenance["train_loss"] == whole.provenance["train_loss"]


@pytest.mark.parametrize(
    ("family", "more"), [("texture", {"levels": 1}), ("completion", {"depth": 1, "adversarial_weight": 0.1})]
)
def test_a_game_goes_on_as_if_there_had_been_no_break(phantom, tmp_path, every_event, family, more):
    image = phantom[0].copy()
    image[5:8, 9:12] = np.nan
    options = {"features": 4, "patch_size": 16, "batch_size": 2, "steps": 10, "validate_every": 3,
               "precision": "float32"} | more  # fmt: skip
    state = tmp_path / "run.resume"
    whole = api.train(family, image, **options)
    assert api.train(family, image, checkpoint=state, **stop_at(4, **options)).provenance["steps"] == 4
    done = api.train(family, image, checkpoint=state, resume=True, **options)
    assert all(torch.equal(done.weights[k], whole.weights[k]) for k in whole.weights)


def test_a_resumed_run_keeps_its_precision(phantom, tiny, tmp_path, every_event, monkeypatch):
    """Another machine might choose another one, and the run would no longer be the same."""
    options = tiny | {"precision": "auto", "checkpoint": tmp_path / "run.resume"}
    monkeypatch.setattr("napari_recon.device._bfloat16_is_faster", lambda device: True)
    api.train("autoencoder", phantom[0], **stop_at(2, **options))
    monkeypatch.setattr("napari_recon.device._bfloat16_is_faster", lambda device: False)
    done = api.train("autoencoder", phantom[0], resume=True, **options)
    assert "bf16" in done.provenance["precision"]


def test_a_stopped_model_is_a_model(phantom, tiny, every_event, tmp_path):
    model = api.train("autoencoder", phantom[0], **stop_at(2, **tiny))
    again = api.load_model(model.save(tmp_path / "m"))
    assert again.provenance["stopped"]
    assert np.isfinite(api.denoise(phantom[0], again)).all()


def test_what_cannot_be_resumed_says_why(phantom, tiny, tmp_path, every_event):
    state = tmp_path / "run.resume"
    with pytest.raises(ReconError, match="no checkpoint"):
        api.train("autoencoder", phantom[0], resume=True, **tiny)
    with pytest.raises(ReconError, match="no interrupted training"):
        api.train("autoencoder", phantom[0], resume=True, checkpoint=state, **tiny)
    api.train("autoencoder", phantom[0], **stop_at(2, checkpoint=state, **tiny))
    with pytest.raises(ReconError, match="another network"):
        api.train("autoencoder", phantom[0], resume=True, checkpoint=state, **tiny | {"features": 8})
    content = state.read_bytes()
    for damaged in (b"", b"not a state", content[: len(content) // 2]):
        state.write_bytes(damaged)
        with pytest.raises(ReconError, match="not a readable training state"):
            api.train("autoencoder", phantom[0], resume=True, checkpoint=state, **tiny)
        assert state.read_bytes() == damaged


def test_a_disk_that_is_full_at_an_autosave_ends_no_training(phantom, tiny, tmp_path, monkeypatch):
    def full(*_):
        raise ReconError("The disk is full, run.resume was not written.", "Free some space.")

    monkeypatch.setattr("napari_recon.training.loop.save_state", full)
    messages = []
    options = tiny | {"autosave_seconds": 1, "minutes": 0.03}
    del options["steps"]
    model = api.train(
        "autoencoder",
        phantom[0],
        checkpoint=tmp_path / "r",
        on_progress=lambda e: messages.append(e.message),
        **options,
    )
    assert not model.stopped
    assert any("disk is full" in m for m in messages)
    assert os.listdir(tmp_path) == []


def run(arguments, folder, **more):
    line = [sys.executable, "-m", "napari_recon", *arguments.split()]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.fixture
def folder(phantom, tmp_path, monkeypatch):
    write_image(tmp_path / "noisy.tif", phantom[0])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_after_kill_9_training_goes_on_from_the_autosave(folder):
    line = f"train autoencoder noisy.tif --out model --autosave-seconds 1 {FLAGS}"
    process = run(f"{line} --minutes 5", folder)
    state = folder / "model.resume"
    while not state.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.kill()
    process.communicate()
    before = torch.load(state, weights_only=True)["history"]["step"]
    assert before > 0
    assert not (folder / "model.safetensors").exists()

    process = run(f"{line} --steps {before + 3} --resume", folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["provenance"]["steps"] == before + 3
    assert not state.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_ctrl_c_keeps_the_model_and_the_state(folder):
    process = run(f"train autoencoder noisy.tif --out model --autosave-seconds 1 --minutes 5 {FLAGS}", folder)
    while not (folder / "model.resume").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert json.loads(out)["provenance"]["stopped"]
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert api.load_model(folder / "model.safetensors").provenance["steps"] > 0
    assert (folder / "model.resume").exists()


IN_TWO_PROCESSES = """
import os
from napari_recon import api, cli
from napari_recon.progress import CancelToken

first = os.environ["RANK"] == "0"
noisy = api.read_image("noisy.tif")
options = dict(steps=12, features=4, depth=1, patch_size=16, batch_size=4, precision="float32", devices=2)
whole = api.train("autoencoder", noisy, **options)

token = CancelToken()
stop = lambda event: token.cancel() if first else None  # a stop button has but one process
part = api.train("autoencoder", noisy, checkpoint="run.resume", on_progress=stop, cancel=token, **options)
done = api.train("autoencoder", noisy, checkpoint="run.resume", resume=True, **options)
assert part.stopped and part.provenance["steps"] < 12, part.provenance["steps"]
assert done.hash == whole.hash

timed = api.train("autoencoder", noisy, checkpoint="run.resume", autosave_seconds=1, minutes=0.02,
                  **{k: v for k, v in options.items() if k != "steps"})
with open(f"hashes{os.environ['RANK']}", "w") as file:
    file.write(f"{whole.hash} {timed.hash} {timed.provenance['steps']}")
cli.main("train autoencoder noisy.tif --out model --steps 6 --devices 2 FLAGS".split())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo launcher there")
def test_two_processes_train_one_model_and_answer_once(folder):
    """They resume exactly, stop together, hold the same weights also on a budget in minutes, and write once."""
    (folder / "script.py").write_text(IN_TWO_PROCESSES.replace("FLAGS", FLAGS))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "script.py"]
    done = subprocess.run(launcher, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["steps"] == 6
    assert (folder / "hashes0").read_text() == (folder / "hashes1").read_text()
    assert sorted(p.name for p in folder.glob("*.safetensors")) == ["model.safetensors"]
    assert not list(folder.glob("*.resume"))
    model = api.load_model(folder / "model.safetensors")
    assert np.isfinite(api.denoise(np.ones((48, 48), np.float32), model)).all()


SHARED_BATCH = """
import json, os
from napari_recon import api

images = [api.read_image(n) for n in ("noisy.tif", "clean.tif")]
options = dict(steps=40, features=4, depth=1, patch_size=16, batch_size=8, validate_every=10, start_from=None,
               validation_fraction=0.25, precision="float32", devices=int(os.environ.get("WORLD_SIZE", 1)))
pairs = api.train("autoencoder", images[0], images[1], **options)
blind = api.train("autoencoder", images[0], **options)
if os.environ.get("RANK", "0") == "0":
    print(json.dumps([[loss for _, loss in m.provenance["validation_loss"]] for m in (pairs, blind)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo launcher there")
def test_two_processes_learn_as_one_does_from_the_same_batch(folder, phantom):
    write_image(folder / "clean.tif", phantom[1])
    (folder / "script.py").write_text(SHARED_BATCH)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    losses = []
    for more in ([], launcher):
        line = [sys.executable, *more, "script.py"]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        losses.append(json.loads(done.stdout))
    (pairs, blind), (shared_pairs, shared_blind) = losses
    assert len(pairs) == 5  # at the start, then every ten steps
    np.testing.assert_allclose(shared_pairs, pairs, rtol=1e-3)
    np.testing.assert_allclose(shared_blind, blind, rtol=1e-2)  # each hides pixels of its own


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo launcher there")
def test_tasks_of_slurm_train_one_model(folder):
    """Two tasks with the variables that srun gives them, on two machines as far as Fabric can tell."""
    job = {"JOB_ID": "4711", "JOB_NAME": "train", "NODELIST": "127.0.0.1", "NTASKS": "2", "NTASKS_PER_NODE": "1"}
    job |= {"NNODES": "2", "LOCALID": "0", "STEP_NUM_TASKS": "2"}
    line = [sys.executable, "-m", "napari_recon", "train", "autoencoder", "noisy.tif", "--out", "model", "--nodes", "2"]
    tasks = []
    for rank in ("0", "1"):
        variables = {f"SLURM_{name}": value for name, value in {**job, "PROCID": rank, "NODEID": rank}.items()}
        tasks.append(
            subprocess.Popen(
                [*line, "--steps", "6", *FLAGS.split()],
                cwd=folder,
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    (first, error), (second, other_error) = (task.communicate(timeout=200) for task in tasks)
    assert [task.returncode for task in tasks] == [0, 0], error + other_error
    assert json.loads(first)["provenance"]["steps"] == 6
    assert second == ""
    assert sorted(p.name for p in folder.glob("*.safetensors")) == ["model.safetensors"]


def test_one_process_trains_in_a_job_of_several_tasks(phantom, tiny, monkeypatch):
    """As napari does on a remote desktop that SLURM gave eight tasks, none of which was started by srun."""
    for name, value in {"NTASKS": "8", "JOB_NAME": "desktop", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert not api.train("autoencoder", phantom[0], **tiny).stopped


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_more_devices_than_there_are_is_a_clear_error(phantom, tiny, monkeypatch, variable):
    monkeypatch.setenv(variable, "2")
    with pytest.raises(ReconError, match="2 processes") as error:
        api.train("autoencoder", phantom[0], **tiny)
    assert "devices=2" in error.value.hint


def test_more_processes_than_cores_are_refused_before_they_start(phantom, tiny):
    with pytest.raises(ReconError, match="cores"):
        api.train("autoencoder", phantom[0], devices=10_000, device="cpu", **tiny)
