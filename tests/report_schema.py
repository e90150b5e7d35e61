"""The JSON Schemas of the report, of a comparison and of a check, made from the models, so that they cannot drift apart.

The published copies are `gpucost/data/*.schema.json`; tests compare them with what this module makes.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from gpucost.analyzers.model import USES
from gpucost.analyzers.slow import CAUSES, COUNTER, SAMPLED, UNKNOWN
from gpucost.report import comparison, model, slowness, tracks

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ENUMS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("Run", "state"): ("complete", "live", "crashed", "recovered"),
    ("Run", "end_basis"): ("exit", "last_sample", "last_mark"),
    ("Use", "use"): USES,
    ("Cell", "use"): USES,
    ("HeldBack", "cause"): tuple(CAUSES),
    ("HeldBack", "basis"): (COUNTER, SAMPLED, UNKNOWN),
    ("Report", "shares_of"): ("cost", "gpu_time"),
    ("Report", "schema_version"): (model.SCHEMA_VERSION,),
    ("RunRef", "state"): ("complete", "live", "crashed", "recovered"),
    ("Change", "direction"): comparison.DIRECTIONS,
    ("GpuChange", "presence"): ("both", "added", "removed"),
    ("StageChange", "presence"): ("both", "added", "removed", "renamed"),
    ("Method", "name"): ("mann-whitney", "median-mad", "report-only"),
    ("GateResult", "status"): comparison.STATUSES,
    ("Comparison", "schema_version"): (comparison.COMPARISON_VERSION,),
    ("CheckResult", "schema_version"): (comparison.CHECK_VERSION,),
}
_NAMESPACE = {**vars(tracks), **vars(slowness), **vars(model), **vars(comparison)}
_USD_PATTERN = r"^\d+(\.\d{1,12})?$"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of what `Report.to_json` gives. Readers must ignore properties they do not know."""
    return _schema(model.Report, f"gpucost report, version {model.SCHEMA_VERSION}")


def comparison_schema() -> dict[str, Any]:
    """The schema of what `Comparison.to_json` gives."""
    return _schema(comparison.Comparison, f"gpucost comparison, version {comparison.COMPARISON_VERSION}")


def check_schema() -> dict[str, Any]:
    """The schema of what `CheckResult.to_json` gives, which has `passed` besides the model's fields."""
    schema = _schema(comparison.CheckResult, f"gpucost check, version {comparison.CHECK_VERSION}")
    check = schema["$defs"]["CheckResult"]
    check["properties"] = {"passed": {"type": "boolean"}, **check["properties"]}
    check["required"] = ["passed", *check["required"]]
    return schema


def _schema(kind: type, title: str) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    root = _reference(kind, definitions)
    return {
        "$schema": DIALECT,
        "title": title,
        "description": "Unknown figures are null, never 0. Later gpucosts may add properties without a new version.",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        hints = get_type_hints(kind, _NAMESPACE)
        described = _attributes(kind)
        properties = {f.name: _property(name, f.name, hints[f.name], described, definitions) for f in fields(kind)}
        definitions[name] = {
            "type": "object",
            "description": (kind.__doc__ or "").split("\n\n")[0].strip(),
            "properties": properties,
            "required": list(properties),
        }
    return {"$ref": f"#/$defs/{name}"}


def _property(
    owner: str, name: str, hint: Any, described: dict[str, str], definitions: dict[str, Any]
) -> dict[str, Any]:
    schema = _type(hint, definitions)
    if (owner, name) in _ENUMS:
        schema = {"enum": list(_ENUMS[owner, name])}
    if name in ("usd", "amount_usd"):
        schema["pattern"] = _USD_PATTERN if name == "usd" else r"^\d+(\.\d+)?$"
    if name in described:
        schema["description"] = described[name]
    return schema


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if is_dataclass(hint) and isinstance(hint, type):
        return _reference(hint, definitions)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is list:
        return {"type": "array", "items": _type(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    if origin in (Union, UnionType):
        options = [_type(option, definitions) for option in arguments]
        if all(set(option) == {"type"} and isinstance(option["type"], str) for option in options):
            return {"type": sorted({option["type"] for option in options})}
        return {"anyOf": options}
    return {} if hint is Any else {"type": _PLAIN[hint]}


def _attributes(kind: type) -> dict[str, str]:
    """The descriptions in a docstring's `Attributes:` section."""
    _, _, section = (kind.__doc__ or "").partition("Attributes:")
    return dict(re.findall(r"^\s+(\w+): (.+)$", section, flags=re.MULTILINE))
