"""JSON Schema of pydantic models in the form that editors read (draft 7: ``definitions``, not ``$defs``)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from remediator.units import format_duration, format_size

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["draft7"]

DRAFT = "http://json-schema.org/draft-07/schema#"


class _Generator(GenerateJsonSchema):
    """Defaults in the notation that the file takes, not in ISO 8601."""

    def encode_default(self, dft: Any) -> Any:
        """A default as JSON."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def draft7(model: type[BaseModel], *, title: str = "", prefix: str = "", strict: bool = True) -> dict[str, Any]:
    """The schema of what ``model`` reads. ``prefix`` stands before the names that references use, for schemas that go into another."""
    generated = model.model_json_schema(ref_template=f"#/definitions/{prefix}{{model}}", schema_generator=_Generator)
    schema = rewrite(generated, strict=strict)
    return {"$schema": DRAFT, "title": title, **{key: value for key, value in schema.items() if key != "title"}}


def rewrite(schema: Any, *, strict: bool) -> Any:
    """``$defs`` becomes ``definitions``; the titles that pydantic makes of field names go, for editors show the key anyway.

    ``strict``: a value that may be left out is not offered as null.
    """
    if isinstance(schema, list):
        return [rewrite(item, strict=strict) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    if strict and "default" in kept and kept["default"] is None and {"type": "null"} in kept.get("anyOf", ()):
        del kept["default"]
        options = [option for option in kept.pop("anyOf") if option != {"type": "null"}]
        kept |= options[0] if len(options) == 1 else {"anyOf": options}
    if kept.get("type") == "string" and isinstance(kept.get("default"), int):
        kept["default"] = format_size(kept["default"])
    return {"definitions" if key == "$defs" else key: rewrite(value, strict=strict) for key, value in kept.items()}
