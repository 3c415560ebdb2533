"""Configs: wrong values are refused with a next step, and JSON brings back the same config."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from napari_recon.config import Config, option, split_options
from napari_recon.errors import ReconError
from napari_recon.models import MODELS
from napari_recon.training.config import PRESETS, TrainConfig, train_config


@dataclass(frozen=True)
class Oven(Config):
    """A config of every kind of option."""

    trays: int = option(2, "Trays", "How many.", minimum=1, maximum=5)
    heat: float = option(180.0, "Heat", "In degrees.", minimum=20)
    grill: bool = option(False, "Grill", "From above.")
    mode: str = option("fan", "Mode", "Where heat comes from.", choices=("fan", "top"))
    minutes: float | None = option(None, "Minutes", "Empty: until it is done.", minimum=0.5, maximum=90)


@dataclass(frozen=True)
class Cook(Config):
    """A second config, to split options with."""

    hats: int = option(1, "Hats", "Worn at once.", minimum=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trays": 0},
        {"trays": 6},
        {"trays": 1.5},
        {"trays": "2"},
        {"trays": True},
        {"trays": None},
        {"trays": float("nan")},
        {"trays": float("inf")},
        {"heat": 19.9},
        {"heat": "hot"},
        {"heat": float("nan")},
        {"heat": float("inf")},
        {"heat": None},
        {"grill": 1},
        {"grill": "yes"},
        {"mode": "steam"},
        {"mode": 3},
        {"mode": None},
        {"minutes": 0},
        {"minutes": 91},
        {"minutes": float("nan")},
    ],
)
def test_a_wrong_value_names_the_option_and_a_next_step(wrong):
    with pytest.raises(ReconError) as caught:
        Oven(**wrong)
    assert next(iter(wrong)) in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize(
    "right",
    [{"trays": 1}, {"trays": 5}, {"heat": 20}, {"heat": 1e6}, {"grill": True}, {"mode": "top"}, {"minutes": 0.5}],
)
def test_bounds_and_choices_themselves_are_allowed(right):
    (name, value), config = next(iter(right.items())), Oven(**right)
    assert getattr(config, name) == value


@pytest.mark.parametrize("three", [3, 3.0, np.int64(3), np.float32(3)])
def test_a_whole_number_of_any_type_becomes_an_int(three):
    trays = Oven(trays=three).trays
    assert type(trays) is int
    assert trays == 3


def test_numbers_of_numpy_can_be_written_as_json():
    config = Oven(heat=np.float32(200), trays=np.uint8(4))
    assert json.loads(json.dumps(config.to_json()))["heat"] == 200


def test_options_describe_themselves_in_order():
    options = Oven.options()
    assert [o.name for o in options] == ["trays", "heat", "grill", "mode", "minutes"]
    assert options[0].label == "Trays"
    assert options[0].type is int
    assert (options[0].minimum, options[0].maximum, options[0].default) == (1, 5, 2)
    assert options[3].choices == ("fan", "top")


@pytest.mark.parametrize("kind", [Oven, TrainConfig, *(f.config for f in MODELS.values())])
def test_json_brings_back_the_same_config(kind):
    config = kind()
    assert kind.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_unknown_options_in_json_are_named_and_the_known_ones_listed():
    with pytest.raises(ReconError, match="trayz") as caught:
        Oven.from_json({"trayz": 2, "heat": 100})
    assert "trays" in caught.value.hint


def test_json_with_a_wrong_value_is_refused():
    with pytest.raises(ReconError, match="trays"):
        Oven.from_json({"trays": 99})


def test_options_go_to_the_config_that_declares_them():
    oven, cook = split_options({"hats": 2, "heat": 90}, Oven(), Cook())
    assert (oven, cook) == (Oven(heat=90), Cook(hats=2))


def test_an_option_of_no_config_is_refused():
    with pytest.raises(ReconError, match="'shoes'") as caught:
        split_options({"shoes": 2}, Oven(), Cook())
    assert "hats" in caught.value.hint
    assert "heat" in caught.value.hint


def test_a_replaced_value_is_checked_too():
    with pytest.raises(ReconError, match="trays"):
        replace(Oven(), trays=9)


@pytest.mark.parametrize("kind", [TrainConfig, *(f.config for f in MODELS.values())])
def test_every_option_has_a_label_and_a_sentence_of_help(kind):
    for opt in kind.options():
        assert opt.label
        assert opt.help.endswith(".")


@pytest.mark.parametrize("preset", PRESETS)
def test_an_own_budget_replaces_that_of_a_preset(preset):
    assert train_config(preset).minutes == PRESETS[preset]["minutes"]
    assert train_config(preset, steps=10).minutes is None
    assert train_config(preset, minutes=1).minutes == 1


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"minutes": 0}, {"steps": 5, "minutes": 1}])
def test_a_budget_of_nothing_or_two_budgets_are_refused(wrong):
    with pytest.raises(ReconError):
        train_config("fast", **wrong)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ReconError, match="quick"):
        train_config("quick")


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": "bottleneck", "dimensions": 3},
        {"network": "universal", "dimensions": 3},
        {"network": "universal", "channels": 2},
        {"image_size": 30},
    ],
)
def test_options_of_the_autoencoder_that_exclude_each_other_are_refused(wrong):
    with pytest.raises(ReconError) as caught:
        MODELS["autoencoder"].config(**wrong)
    assert caught.value.hint
