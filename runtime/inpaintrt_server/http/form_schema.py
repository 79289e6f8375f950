"""Models as OpenAPI tells of bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

__all__ = ["Limits", "accept_null", "form_schema", "json_schema"]

Limits = Mapping[str, Mapping[str, int]]


def json_schema(model: type[BaseModel], limits: Limits) -> dict[str, Any]:
    """The schema of a flat model.

    Args:
        model: The fields.
        limits: Upper limits that this server's settings set, such as `{"steps": {"maximum": 50}}`; a lower
            one of the model's remains.
    """
    schema = model.model_json_schema()
    for name, keywords in limits.items():
        part = _typed(schema["properties"][name])
        part.update({key: min(limit, part.get(key, limit)) for key, limit in keywords.items()})
    return schema


def form_schema(model: type[BaseModel], limits: Limits, files: Mapping[str, bool]) -> dict[str, Any]:
    """The same for a form: fields are left out where JSON says null, and images are files.

    Args:
        model: The fields beside files.
        limits: As for `json_schema`.
        files: The files; True for those that must be there.
    """
    schema = json_schema(model, limits)
    properties = {name: _without_null(part) for name, part in schema["properties"].items()}
    properties |= {name: {"type": "string", "format": "binary"} for name in files}
    required = [*schema.get("required", ()), *(name for name, needed in files.items() if needed)]
    return {**schema, "properties": properties, "required": required}


def accept_null(schema: dict[str, Any]) -> None:
    """Add null to the fields of a schema that need not be there; for `json_schema_extra` of a model."""
    needed = schema.get("required", ())
    for name, part in schema["properties"].items():
        if name not in needed and not _takes_null(part):
            about = {key: part.pop(key) for key in ("title", "description", "default") if key in part}
            schema["properties"][name] = {**about, "anyOf": [part, {"type": "null"}]}


def _takes_null(part: dict[str, Any]) -> bool:
    if "anyOf" in part:
        return any(choice.get("type") == "null" for choice in part["anyOf"])
    return "type" not in part


def _typed(part: dict[str, Any]) -> dict[str, Any]:
    """Where keywords of a field go that may be null."""
    choices: list[dict[str, Any]] = part.get("anyOf", [part])
    return next(choice for choice in choices if choice.get("type") != "null")


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in part.get("anyOf", ()) if choice.get("type") != "null"]
    rest = {key: value for key, value in part.items() if key not in ("anyOf", "default") or value is not None}
    if "anyOf" not in part:
        return rest
    del rest["anyOf"]
    return {**rest, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}
