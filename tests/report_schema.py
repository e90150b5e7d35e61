"""The JSON Schema of the report, made from the model, so that the two cannot drift apart.

The published copy is `gpucost/data/report.schema.json`; a test compares it with what this module makes.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from gpucost.analyzers.model import USES
from gpucost.report import model

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ENUMS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("Run", "state"): ("complete", "live", "crashed", "recovered"),
    ("Run", "end_basis"): ("exit", "last_sample", "last_mark"),
    ("Use", "use"): USES,
    ("Cell", "use"): USES,
    ("Report", "shares_of"): ("cost", "gpu_time"),
    ("Report", "schema_version"): (model.SCHEMA_VERSION,),
}
_USD_PATTERN = r"^\d+(\.\d{1,12})?$"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of what `Report.to_json` gives. Readers must ignore properties they do not know."""
    definitions: dict[str, Any] = {}
    root = _reference(model.Report, definitions)
    return {
        "$schema": DIALECT,
        "title": f"gpucost report, version {model.SCHEMA_VERSION}",
        "description": "Unknown figures are null, never 0. Later gpucosts may add properties without a new version.",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        hints = get_type_hints(kind, vars(model))
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
