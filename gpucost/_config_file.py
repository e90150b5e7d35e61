"""Reading a configuration file; what it can hold is described in `gpucost.config`."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpucost.config import FILE_NAME
from gpucost.errors import UsageError
from gpucost.prices.parse import parse_price

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IDLE_SPLITS = ("owner", "equal", "none")
MAX_IDLE_AFTER_S = 86_400.0
MAX_PUE = 10.0
MAX_PCT = 100.0


@dataclass(frozen=True, slots=True)
class Config:
    """What the configuration says; None (or empty) where it says nothing.

    Attributes:
        path: the file, None when there is none.
        price: USD per GPU-hour for every GPU.
        prices: USD per GPU-hour by NVML name or UUID.
        runs: where recordings are kept, absolute.
        hz: ticks a second.
        call_budget_pct: percent of a tick that calls into the GPU driver may take.
        idle_after_s: seconds without a kernel after which a held GPU is idle.
        idle_split: who is charged for idle power: `owner`, `equal` or `none`.
        region: of the electricity grid.
        pue: power usage effectiveness of the data centre (1 or more).
        check: the table of gates as it stands in the file; `gpucost.gates.settings` reads it.
    """

    path: str | None = None
    price: Decimal | None = None
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    runs: str | None = None
    hz: float | None = None
    call_budget_pct: float | None = None
    idle_after_s: float | None = None
    idle_split: str | None = None
    region: str | None = None
    pue: float | None = None
    check: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The file's name without its folder, which differs from machine to machine."""
        return "configuration" if self.path is None else Path(self.path).name


def check_idle_after_s(value: float) -> float:
    """Seconds after which a GPU counts as idle.

    Raises:
        ValueError: not above 0 and at most a day.
    """
    if not 0 < value <= MAX_IDLE_AFTER_S:
        raise ValueError(f"takes seconds above 0 and at most {MAX_IDLE_AFTER_S:g}")
    return value


def read(file: str) -> Config | None:
    """The configuration in `file`, or None when it is a pyproject.toml without one.

    Raises:
        UsageError: as `gpucost.config.load`.
    """
    path = Path(file)
    table = _table(path)
    return None if table is None else _config(path, table)


def _table(path: Path) -> dict[str, Any] | None:
    """The configuration in `path`, or None when it is a pyproject.toml without one."""
    import tomllib

    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (
        ValueError,
        ArithmeticError,
        RecursionError,
    ) as error:  # TOMLDecodeError, numbers of 5,000 digits, a thousand brackets
        if path.name != FILE_NAME:
            return None  # somebody else's file; whoever owns it will say what is wrong with it
        raise UsageError(f"{path} is not valid TOML: {str(error) or type(error).__name__}") from error
    if path.name == FILE_NAME:
        return document
    tool = document.get("tool")
    table = tool.get("gpucost") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _config(path: Path, table: dict[str, Any]) -> Config:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in _SECTIONS:
            if not isinstance(value, dict):
                raise UsageError(f"{path}: {key} is {value!r}, but is a table, [{key}]")
            values.update(_SECTIONS[key](path, value))
        else:
            values.update(_read(path, _KEYS, key, value, known=[*_KEYS, *_SECTIONS]))
    if "runs" in values:
        values["runs"] = str(path.parent.joinpath(Path(values["runs"]).expanduser()))
    return Config(path=str(path), **values)


def _prices(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    prices = {}
    for gpu, value in table.items():
        prices.update(_read(path, {gpu: (gpu, _price)}, gpu, value, known=[gpu], section="prices"))
    return {"prices": prices}


def _carbon(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in table.items():
        values.update(_read(path, _CARBON_KEYS, key, value, known=list(_CARBON_KEYS), section="carbon"))
    return values


def _check(path: Path, table: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 (a section's signature)
    """As it stands: reading gates needs more than a recording should wait for."""
    return {"check": table}


def _read(
    path: Path,
    keys: Mapping[str, tuple[str, Callable[[Any], Any]]],
    key: str,
    value: Any,
    *,
    known: list[str],
    section: str = "",
) -> dict[str, Any]:
    """One key's value under its field's name."""
    full = f"{section}.{key}" if section else key
    if key not in keys:
        from difflib import get_close_matches

        close = get_close_matches(key, known, n=1, cutoff=0.0)
        raise UsageError(
            f"{path}: unknown key {full!r}; did you mean {close[0]!r}?", hint=f"keys here: {', '.join(known)}"
        )
    name, read = keys[key]
    try:
        return {name: read(value)}
    except ValueError as error:
        raise UsageError(f"{path}: {full} is {_shown(value)}, but {error}") from error
    except ArithmeticError as error:  # not a number, or far too large for one
        raise UsageError(f"{path}: {full} is {_shown(value)}, which is not a number to reckon with") from error
    except UsageError as error:
        raise UsageError(f"{path}: {full}: {error}", hint=error.hint) from error


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)


def _price(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise ValueError("takes dollars per GPU-hour, for example 2.49")  # noqa: TRY004 (every wrong value is a ValueError here)
    return parse_price(value)


def _number(value: Any, low: float, high: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not low <= value <= high:
        raise ValueError(f"takes {what} from {low:g} to {high:g}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("takes a text that is not empty")
    return value


def _idle_split(value: Any) -> str:
    if value not in IDLE_SPLITS:
        raise ValueError(f"takes one of {', '.join(IDLE_SPLITS)}")
    return str(value)


def _idle_after(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError("takes seconds")  # noqa: TRY004
    return check_idle_after_s(float(value))


def _call_budget(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 < value <= MAX_PCT:
        raise ValueError(f"takes a percentage above 0 and up to {MAX_PCT:g}")
    return float(value)


_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "price": ("price", _price),
    "runs": ("runs", _text),
    "hz": ("hz", lambda value: _number(value, 0.1, 50.0, "a number (ticks a second)")),
    "call_budget": ("call_budget_pct", _call_budget),
    "idle_after": ("idle_after_s", _idle_after),
    "idle_split": ("idle_split", _idle_split),
}

_CARBON_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "region": ("region", _text),
    "pue": ("pue", lambda value: _number(value, 1.0, MAX_PUE, "a number")),
}

_SECTIONS: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
    "prices": _prices,
    "carbon": _carbon,
    "check": _check,
}
