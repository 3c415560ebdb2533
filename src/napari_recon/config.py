"""One frozen dataclass per config: each option is written once.

The field metadata (label, help, range) makes the form of the panel and the flags of the command line;
the values make the JSON in the model file.
"""

import dataclasses
import math
import numbers
import types
import typing
from dataclasses import dataclass
from typing import Any, Self, get_args, get_origin, get_type_hints

from napari_recon.errors import ReconError


def option(
    default: Any,
    label: str,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
    group: str = "",
) -> Any:
    """Declare one option of a config dataclass (a `dataclasses.field` with its description).

    Parameters
    ----------
    default : object
        Value when the user says nothing.
    label, help : str
        Name in the form, and the sentence of its tooltip and its command-line help.
    minimum, maximum : float or None
        Bounds, both included.
    choices : tuple
        The only values allowed, when there is such a list.
    group : str
        Title of the part of a form that it belongs to, where it has a part of its own.
    """
    metadata = {
        "label": label, "help": help, "minimum": minimum, "maximum": maximum, "choices": choices, "group": group,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """The description of one config field, as forms and flags need it."""

    name: str
    type: Any
    default: Any
    label: str
    help: str
    minimum: float | None
    maximum: float | None
    choices: tuple[Any, ...]
    group: str


@dataclass(frozen=True)
class Config:
    """Base of all configs: checks its values when made, converts to and from JSON types."""

    def __post_init__(self) -> None:
        for opt in self.options():
            object.__setattr__(self, opt.name, _checked(opt, getattr(self, opt.name)))

    @classmethod
    def options(cls) -> list[Option]:
        """Describe all options, in the order in which they are declared."""
        hints = get_type_hints(cls)
        return [
            Option(name=f.name, type=hints[f.name], default=f.default, **f.metadata) for f in dataclasses.fields(cls)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from `to_json`; raises `ReconError` on an option this version does not know."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ReconError(
                f"{cls.__name__} has no option {', '.join(map(repr, unknown))}.",
                f"Use one of: {', '.join(sorted(known))}.",
            )
        return cls(**values)


def split_options(options: dict[str, Any], *configs: "Config") -> "list[Config]":
    """Replace the values in `configs` by `options`, each where a config declares it.

    Raises
    ------
    ReconError
        When no config has an option of that name, or a value is out of range.
    """
    names = [{f.name for f in dataclasses.fields(c)} for c in configs]
    unknown = sorted(set(options) - set().union(*names))
    if unknown:
        raise ReconError(
            f"There is no option {', '.join(map(repr, unknown))}.",
            f"Use one of: {', '.join(sorted(set().union(*names)))}.",
        )
    return [
        dataclasses.replace(c, **{k: v for k, v in options.items() if k in own})
        for c, own in zip(configs, names, strict=True)
    ]


def _checked(opt: Option, value: Any) -> Any:
    """Return `value` in the plain type of the option (2.0 and numpy's 2 become 2); raise when it does not fit."""
    if value is None:
        if type(None) not in get_args(opt.type):
            raise ReconError(f"{opt.label} ({opt.name}) needs a value.", "Give one.")
        return None
    expected = _plain_type(opt.type)
    if expected in (int, float):
        value = _number(opt, expected, value)
    elif not isinstance(value, expected):
        raise _wrong_type(opt, expected, value)
    if opt.choices and value not in opt.choices:
        raise ReconError(
            f"{opt.label} ({opt.name}) cannot be {value!r}.",
            f"Choose one of: {', '.join(map(str, opt.choices))}.",
        )
    return value


def _number(opt: Option, expected: type, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise _wrong_type(opt, expected, value)
    number = float(value)
    too_low = opt.minimum is not None and number < opt.minimum
    too_high = opt.maximum is not None and number > opt.maximum
    if too_low or too_high or not math.isfinite(number):
        limits = {"from": opt.minimum, "to": opt.maximum}
        bounds = " ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)
        hint = f"It goes {bounds}." if bounds else "Give a finite number."
        raise ReconError(f"{opt.label} ({opt.name}) is {value}, out of range.", hint)
    if expected is int and not number.is_integer():
        raise _wrong_type(opt, expected, value)
    return int(typing.cast(Any, value)) if expected is int else number


def _wrong_type(opt: Option, expected: type, value: Any) -> ReconError:
    return ReconError(
        f"{opt.label} ({opt.name}) must be of type {expected.__name__}, not {value!r}.", "Give such a value."
    )


def _plain_type(hint: Any) -> type:
    """Return ``int`` for ``int | None`` and so on."""
    if get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(a for a in get_args(hint) if a is not type(None))
    return typing.cast(type, get_origin(hint) or hint)
