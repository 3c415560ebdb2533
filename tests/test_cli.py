"""The commands as a user types them: answers on stdout, progress on stderr, 0, 1 or 2."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from napari_recon import api, cli
from napari_recon.demo import run_headless
from napari_recon.image import Image
from napari_recon.io import read_image, write_image

TINY = "--features 4 --depth 1 --patch-size 16 --batch-size 4 --precision float32"


@pytest.fixture
def folder(phantom, trained, tmp_path, monkeypatch):
    """A folder to work in, with noisy.tif, clean.tif and model.safetensors."""
    for name, array in zip(("noisy", "clean"), phantom, strict=True):
        image = Image(array.clip(0).astype(np.uint16), "YX", scale=(0.1, 0.1), units=("um", "um"))
        write_image(tmp_path / f"{name}.tif", image)
    trained.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys):
    """Run a command: exit code, stdout, stderr."""

    def run(line):
        with pytest.raises(SystemExit) as done:
            cli.main(line.split())
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return done.value.code, out, err

    return run


@pytest.fixture
def answer(command):
    """Run a command that succeeds; its JSON."""

    def run(line):
        code, out, err = command(line)
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.fixture
def refusal(command):
    """Run a command that fails; its one line."""

    def run(line, code=1):
        found, out, err = command(line)
        assert (found, out) == (code, ""), err
        lines = [x for x in err.splitlines() if x.startswith("napari-recon: ")]
        assert len(lines) == 1
        assert err.endswith(lines[0] + "\n")
        return lines[0].removeprefix("napari-recon: ")

    return run


def test_train_denoise_evaluate_info(folder, answer):
    made = answer(f"train autoencoder noisy.tif --out new --steps 6 --seed 3 {TINY}")
    assert (made["family"], made["name"], made["provenance"]["steps"]) == ("autoencoder", "new", 6)
    assert made["provenance"]["training"]["seed"] == 3
    assert "train_loss" not in made["provenance"]

    done = answer("denoise noisy.tif out.ome.tif --model new.safetensors")
    assert (done["output"], done["axes"], done["model"]) == ("out.ome.tif", "YX", "new")
    result = read_image(folder / "out.ome.tif")
    assert (result.scale, result.units, str(result.dtype)) == ((0.1, 0.1), ("um", "um"), "float32")

    scores = answer("evaluate clean.tif out.ome.tif --data-range 255")
    assert set(scores) == {"psnr", "si_psnr", "ssim", "nrmse"}
    assert scores["psnr"] > answer("evaluate clean.tif out.ome.tif --data-range 100")["psnr"]

    described = answer("info new.safetensors")
    assert described["config"]["features"] == 4
    assert (described["axes"], described["channels"]) == ("YX", 1)
    assert described["provenance"]["train_loss"]


def test_several_images_and_targets(folder, answer):
    made = answer(
        "train autoencoder noisy.tif noisy.tif --target clean.tif clean.tif --out m --steps 3 --axes YX "
        f"--preset best --device cpu --top-skip {TINY}"
    )
    assert made["provenance"]["targets"]
    assert len(made["provenance"]["data"]) == 2
    assert made["config"]["top_skip"]


def test_keep_dtype_and_axes(folder, answer):
    answer("denoise noisy.tif out.png --model model.safetensors --keep-dtype --strength 0.5 --tile-size 64")
    assert read_image(folder / "out.png").dtype == np.uint16
    write_image(folder / "stack.tif", np.ones((3, 40, 41), np.float32), axes="ZYX")
    assert answer("denoise stack.tif out.tif --model model.safetensors --axes TYX")["axes"] == "TYX"
    assert read_image(folder / "out.tif").axes == "TYX"


def test_models_lists_what_is_saved(folder, answer, trained):
    assert [m["name"] for m in answer("models") if not m["shipped"]] == []
    api.save_model(trained, "mine")
    (found,) = [m for m in answer("models") if not m["shipped"]]
    assert (found["name"], found["family"]) == ("mine", "autoencoder")
    assert answer("info mine")["family"] == "autoencoder"
    assert answer("denoise noisy.tif out.tif --model mine")["model"] == "mine"


def test_noise_is_told_for_each_channel(folder, answer):
    (report,) = answer("noise noisy.tif")
    assert report


SMALL = "--levels 2 --blocks 1 --features 8 --latents 4 --patch-size 16 --batch-size 4 --precision float32"


def test_train_sample_generate_encode_and_decode(folder, answer, refusal):
    made = answer(f"train vae noisy.tif --out vae --steps 6 {SMALL}")
    assert (made["family"], made["provenance"]["steps"]) == ("vae", 6)
    told = answer("sample noisy.tif samples.tif --model vae.safetensors -n 3 --std std.tif --mean mean.tif --seed 7")
    assert (told["n"], told["seed"]) == (3, 7)
    samples, mean, noisy = (read_image(folder / f"{name}.tif") for name in ("samples", "mean", "noisy"))
    assert samples.shape == (3, *noisy.shape)
    assert (mean.shape, mean.scale, mean.units) == (noisy.shape, noisy.scale, noisy.units)
    again = api.sample(noisy, folder / "vae.safetensors", 3, seed=7, outputs=("samples", "std"))
    np.testing.assert_array_equal(samples.array, again.samples.array)
    np.testing.assert_array_equal(read_image(folder / "std.tif").array, again.std.array)

    answer("generate new.tif --model vae.safetensors --shape 30,50 -n 2 --seed 1")
    assert read_image(folder / "new.tif").shape == (2, 30, 50)

    stored = answer("encode noisy.tif small --model vae.safetensors")
    assert stored["ratio"] > 1
    answer("decode small.latents back.tif --model vae.safetensors")
    back = read_image(folder / "back.tif")
    assert back.shape == noisy.shape
    assert api.evaluate(noisy, back)["psnr"] == pytest.approx(stored["psnr"], abs=0.01)

    write_image(folder / "dead.tif", np.where(noisy.array > noisy.array.min(), noisy.array, np.nan))
    assert answer("encode dead.tif small --model vae.safetensors")["psnr"] is None

    assert "same file" in refusal("sample noisy.tif a.tif --model vae.safetensors --std a.tif")
    assert "not a shape" in refusal("generate a.tif --model vae.safetensors --shape big")
    assert "not to sample" in refusal("sample noisy.tif a.tif --model model.safetensors")
    assert "no small latents" in refusal("encode noisy.tif a --model model.safetensors")
    assert not (folder / "a.tif").exists()


def test_progress_is_one_bar_on_stderr(folder, command):
    code, out, err = command(f"train autoencoder noisy.tif --out m --steps 8 {TINY}")
    assert code == 0
    assert json.loads(out)
    assert err.count("\n") == 1
    assert "8/8" in err


def test_a_finished_training_leaves_no_state_and_cannot_be_resumed(folder, answer, refusal):
    answer(f"train autoencoder noisy.tif --out m --steps 3 {TINY}")
    assert sorted(p.name for p in folder.glob("m.*")) == ["m.safetensors"]
    before = (folder / "m.safetensors").read_bytes()
    assert "no interrupted training" in refusal(f"train autoencoder noisy.tif --out m --steps 3 --resume {TINY}")
    assert (folder / "m.safetensors").read_bytes() == before


MISTAKES = {
    "denoise noisy.tif out.tif --model universe": "Did you mean universal?",
    "denoise noisy.tif out.tif --model UPSCALE-X2": "Did you mean upscale-x2?",
    "denoise . out.tif --model model.safetensors": "is a folder. Give one image file in it; `napari-recon batch`",
    "denoise noisy.tif s3://bucket/out.tif": "is an address",
    "denoise https://host/noisy.tif out.tif": "is an address",
    "upscale noisy.tif a.tif --trust a.tif": "same file",
    "denoise noisy.tif a.tif --attention a.tif": "same file",
    f"train autoencoder none.tif --out m --steps 3 {TINY}": "no file",
    f"train autoencoder noisy.tif --out no/m --steps 3 {TINY}": "does not exist",
    f"train autoencoder noisy.tif --out . --steps 3 {TINY}": "is a folder",
    f"train autoencoder noisy.tif --out m --steps 0 {TINY}": "out of range",
    f"train autoencoder noisy.tif --out m --minutes 0 {TINY}": "out of range",
    f"train autoencoder noisy.tif --out m --minutes -1 {TINY}": "out of range",
    f"train autoencoder noisy.tif --out m --minutes 1 --steps 3 {TINY}": "one budget",
    f"train autoencoder noisy.tif --out m --preset slow {TINY}": "preset",
    f"train autoencoder noisy.tif --out m --device tpu --steps 3 {TINY}": "no device",
    f"train autoencoder noisy.tif --out m --axes ZYX --steps 3 {TINY}": "axes",
    f"train autoencoder noisy.tif --target small.tif --out m --steps 3 {TINY}": "same size",
    f"train autoencoder noisy.tif noisy.tif --target clean.tif --out m --steps 3 {TINY}": "one target for each",
    f"train autoencoder noisy.tif --start-from none.safetensors --out m --steps 3 {TINY}": "no model",
    "denoise none.tif out.tif --model model.safetensors": "no file",
    "denoise noisy.tif out.tif --model none.safetensors": "no model",
    "denoise noisy.tif out.tif --model cut.safetensors": "damaged",
    "denoise noisy.tif out.tif --model noisy.tif": "no model",
    "denoise noisy.tif noisy.tif --model model.safetensors": "itself",
    "denoise noisy.tif ./noisy.tif --model model.safetensors": "itself",
    "denoise noisy.tif no/out.tif --model model.safetensors": "does not exist",
    "denoise noisy.tif out.docx --model model.safetensors": "known image format",
    f"denoise noisy.tif {'a' * 300}.tif --model model.safetensors": "too long",
    "denoise noisy.tif out.png --model model.safetensors": "--keep-dtype",
    "denoise noisy.tif out.tif --model model.safetensors --strength 9": "strength",
    "denoise noisy.tif out.tif --model model.safetensors --tile-size 0": "tile",
    "denoise cut.tif out.tif --model model.safetensors": "cut",
    "denoise colour.tif out.tif --model model.safetensors": "channel",
    "sample none.tif out.tif --model model.safetensors": "no file",
    "sample noisy.tif noisy.tif --model model.safetensors": "itself",
    "sample noisy.tif out.png --model model.safetensors": "fractions",
    "generate no/out.tif --model model.safetensors": "does not exist",
    "encode none.tif out --model model.safetensors": "no file",
    "decode none.latents out.tif --model model.safetensors": "no file",
    "evaluate clean.tif none.tif": "no file",
    "evaluate clean.tif small.tif": "shape",
    "info none": "no model",
    "info cut.safetensors": "damaged",
    "noise none.tif": "no file",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_told_in_one_line_and_change_nothing(folder, refusal, line):
    write_image(folder / "small.tif", np.zeros((20, 20), np.uint16))
    write_image(folder / "colour.tif", np.zeros((40, 40, 3), np.uint8), axes="YXC")
    for name in ("noisy.tif", "model.safetensors"):
        content = (folder / name).read_bytes()
        (folder / f"cut.{name.split('.')[1]}").write_bytes(content[: len(content) // 2])
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert MISTAKES[line] in refusal(line)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("denoise stack.tif out.png --keep-dtype", "PNG holds one plane"),
        ("denoise noisy.tif out.jpg --keep-dtype", "JPEG cannot hold pixels of type uint16"),
        ("upscale stack.tif out.png --keep-dtype", "PNG holds one plane"),
        ("complete stack.tif stack.tif out.png", "PNG holds one plane"),
    ],
)
def test_what_the_output_cannot_hold_is_told_before_the_work(folder, refusal, monkeypatch, line, problem):
    write_image(folder / "stack.tif", np.zeros((2, 3, 2, 40, 40), np.uint8), axes="TZCYX")
    monkeypatch.setattr(api, line.split()[0], None)
    assert problem in refusal(line)


@pytest.mark.parametrize(
    "line",
    [
        "train autoencoder noisy.tif",
        "train autoencoder --out m",
        "train transformer noisy.tif --out m",
        "train autoencoder noisy.tif --out m --steps many",
        "train autoencoder noisy.tif --out m --nonsense 3",
        "denoise noisy.tif",
        "evaluate",
        "info",
        "frobnicate",
        "denoise noisy.tif out.tif more",
    ],
)
def test_wrong_usage_exits_with_2(folder, refusal, line):
    assert refusal(line, code=2).endswith(" See --help.")


def test_help_names_every_option_and_default(command):
    code, out, _ = command("train autoencoder --help")
    assert code == 0
    for word in ("--steps", "--minutes", "--target", "--resume", "--mask-axis", "plateau", "--devices"):
        assert word in out


def every_command(app):
    for name in app:
        if not name.startswith("-"):
            yield app[name]
            yield from every_command(app[name])


def test_help_says_what_every_argument_is():
    arguments = [
        (command.name[0], argument.name, argument.parameter.help)
        for command in every_command(cli.app)
        if command.default_command
        for argument in command.assemble_argument_collection(parse_docstring=True)
        if argument.show
    ]
    assert {("denoise", "INPUT"), ("info", "MODEL"), ("train", "--guided")} <= {found[:2] for found in arguments}
    assert [found for found in arguments if not found[2]] == []


def test_what_is_on_can_be_switched_off(folder, answer):
    made = answer(f"train vae noisy.tif --out vae --steps 2 --no-guided {SMALL}")
    assert made["config"]["guided"] is False


def test_the_installed_command_answers_on_stdout_alone(folder):
    program = shutil.which("napari-recon", path=str(sys.executable).rsplit("/", 1)[0])
    line = [program] if program else [sys.executable, "-m", "napari_recon"]
    done = subprocess.run([*line, "evaluate", "clean.tif", "noisy.tif"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["psnr"] > 0


@pytest.mark.parametrize("line", ["evaluate clean.tif noisy.tif", "--help"])
def test_a_reader_that_has_enough_is_no_error(folder, line):
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "napari_recon", *line.split()]
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
@pytest.mark.parametrize("line", ["evaluate clean.tif noisy.tif", "--help", "--version"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_stdout_is_told_in_one_line(folder, line, unbuffered):
    run = [sys.executable, "-m", "napari_recon", *line.split()]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(run, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "could not be written to stdout (No space left on device)" in done.stderr


INTERRUPTED = {
    "denoise noisy.tif out.tif --model model.safetensors": "denoise",
    "denoise noisy.tif out.zarr --model model.safetensors": "denoise",
    "upscale noisy.tif out.tif": "upscale",
    "generate out.tif --model model.safetensors": "generate",
    "encode noisy.tif out --model model.safetensors": "encode",
    "complete noisy.tif mask.tif out.tif": "complete",
    "noise noisy.tif": "measure_noise",
    "info model.safetensors": "load_model",
}


@pytest.mark.parametrize("line", INTERRUPTED)
def test_ctrl_c_ends_every_command_alike(folder, refusal, monkeypatch, line):
    write_image(folder / "mask.tif", np.eye(*read_image(folder / "noisy.tif").shape, dtype=np.uint8))
    done = getattr(api, INTERRUPTED[line])

    def interrupted(*arguments, cancel=None, **options):
        signal.raise_signal(signal.SIGINT)
        return done(*arguments, **options, **({"cancel": cancel} if cancel else {}))

    monkeypatch.setattr(api, INTERRUPTED[line], interrupted)
    assert refusal(line, code=130) == "Stopped."
    assert not list(folder.glob("out*.tif"))


def test_the_headless_demo_writes_all_it_promises(tmp_path):
    scores = run_headless(tmp_path / "demo", minutes=0.02)
    folder = tmp_path / "demo"
    assert {p.name for p in folder.iterdir()} == {
        "noisy.tif", "denoised.tif", "model.safetensors", "before_after.png", "scores.json",
    }  # fmt: skip
    assert json.loads((folder / "scores.json").read_text()) == scores
    noisy, denoised = read_image(folder / "noisy.tif"), read_image(folder / "denoised.tif")
    assert noisy.shape == denoised.shape
    assert read_image(folder / "before_after.png").shape == (noisy.shape[0], 3 * noisy.shape[1])
    assert api.load_model(folder / "model.safetensors").provenance["steps"] == scores["steps"] > 0
