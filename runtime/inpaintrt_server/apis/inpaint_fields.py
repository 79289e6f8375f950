"""The fields of `POST /v1/inpaint`: the pipeline's options, as they are declared, and how to answer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, Union, cast

from msgspec import Meta, inspect
from pydantic import BaseModel, ConfigDict, Field, create_model

from inpaintrt.options import OPTIONS, RENAMED, Options, current_names, make_options
from inpaintrt.validation import alternatives
from inpaintrt_server.http.result_files import DEFAULT_QUALITY, OutputFormat
from inpaintrt_server.http.timing import TimingsBody

__all__ = ["LIST_FIELDS", "ONLY_LIST_FIELDS", "InpaintFields", "InpaintJson", "InpaintResult"]

_Model = TypeVar("_Model", bound=BaseModel)
_Seed = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Side = Annotated[int, Meta(ge=8, le=16384, multiple_of=8)]

_NARROWER: Mapping[str, object] = MappingProxyType(
    {
        "negative_prompt": str | None,  # A request has one prompt.
        "negative_prompt_2": str | None,
        "prompt_2": str | None,
        "guidance_scale": Annotated[float, Meta(ge=0, le=50)] | None,
        "num_images_per_prompt": Annotated[int, Meta(ge=1, le=100)],
        "seed": _Seed | list[_Seed] | None,  # JavaScript's numbers hold no larger ones.
        "height": _Side | None,
        "width": _Side | None,
    }
)
"""Options that accept less here than in Python."""


def _kinds() -> dict[str, inspect.Type]:
    """The options that requests may have, with their types; results are always images."""
    return {
        name: inspect.type_info(_NARROWER.get(name, option.annotation))
        for name, option in OPTIONS.items()
        if not option.is_array and name != "output_type"
    }


_KINDS = _kinds()

_LISTS = inspect.ListType | inspect.TupleType

LIST_FIELDS = tuple(
    name for name, kind in _KINDS.items() if any(isinstance(part, _LISTS) for part in alternatives(kind))
)
"""Fields that a form may bring more than once, or as one JSON array."""

ONLY_LIST_FIELDS = tuple(
    name
    for name in LIST_FIELDS
    if all(isinstance(part, _LISTS | inspect.NoneType) for part in alternatives(_KINDS[name]))
)
"""Those of them that are lists even where a form brings them once."""


def _annotation(kind: inspect.Type) -> Any:  # noqa: ANN401 -- a type as pydantic reads it
    """A type of msgspec's for pydantic, constraints included."""
    match kind:
        case inspect.Metadata():
            return _annotation(kind.type)
        case inspect.UnionType():
            return Union[tuple(map(_annotation, kind.types))]  # noqa: UP007 -- the members are data
        case inspect.TupleType():
            return tuple[tuple(map(_annotation, kind.item_types))]  # type: ignore[misc]
        case inspect.ListType():
            return Annotated[
                list[_annotation(kind.item_type)],  # type: ignore[misc]
                Field(min_length=kind.min_length, max_length=kind.max_length),
            ]
        case inspect.IntType() | inspect.FloatType():
            number = int if isinstance(kind, inspect.IntType) else float
            return Annotated[
                number, Field(gt=kind.gt, ge=kind.ge, lt=kind.lt, le=kind.le, multiple_of=kind.multiple_of)
            ]
        case inspect.LiteralType():
            return Literal[tuple(kind.values)]
        case inspect.BoolType():
            return bool
        case inspect.StrType():
            return str
        case inspect.NoneType():
            return None
        case _:
            raise AssertionError(f"{kind} has no form in JSON: this is a bug")


def _with_options(model: type[_Model]) -> type[_Model]:
    """Add a field for each option, and deprecated ones for their former names."""
    fields: dict[str, Any] = {
        name: (_annotation(kind), Field(default=OPTIONS[name].default, description=OPTIONS[name].description))
        for name, kind in _KINDS.items()
    }
    for old, new in RENAMED.items():
        former = Field(
            default=None, description=f"Former name of {new}.", json_schema_extra={"deprecated": True}
        )
        fields[old] = (_annotation(_KINDS[new]) | None, former)
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=__name__, **fields)


@_with_options
class InpaintFields(BaseModel):
    """Every option of the pipeline but arrays and other output types, and how to answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str = Field(description="What to paint.")
    output_format: OutputFormat = Field(default="png", description="File type of the results.")
    output_quality: int = Field(default=DEFAULT_QUALITY, ge=1, le=100, description="Of JPEG and WebP.")
    response_format: Literal["image", "json"] | None = Field(
        default=None,
        description="The file of a single result, or JSON with base64 of all; goes before the header Accept.",
    )
    stream: bool = Field(
        default=False, description="Answer with server-sent events, as Accept: text/event-stream does."
    )
    previews: int = Field(
        default=0, ge=0, le=10, description="How many times a stream shows the present estimate."
    )

    def options(self) -> Options:
        """The pipeline's options, those that the request leaves out included.

        Raises:
            ParameterError: Options exclude each other, or one comes under two names.
        """
        given, _ = current_names(self._given())
        options = make_options(**cast("Options", given))
        return cast("Options", {name: value for name, value in options.items() if name in _KINDS})

    def notes(self) -> list[str]:
        """What the caller should know about the names of fields."""
        _, notes = current_names(self._given())
        return notes

    def _given(self) -> dict[str, object]:
        given = self.model_dump(include={*_KINDS, *RENAMED}, exclude_unset=True)
        return {name: value for name, value in given.items() if name in _KINDS or value is not None}


class InpaintJson(InpaintFields):
    """A request as JSON."""

    image: str | None = Field(
        default=None,
        description="The image's file as base64, or as a data: URL; absent for text-to-image.",
        json_schema_extra={"contentEncoding": "base64"},
    )
    mask: str | None = Field(
        default=None,
        description="The mask's file as base64: white is painted, black is kept. Without one, only margins "
        "are painted where there are any, and else the whole image is changed (image-to-image).",
        json_schema_extra={"contentEncoding": "base64"},
    )


class InpaintResult(BaseModel):
    """The results."""

    images: list[str] = Field(description="Files as base64, in the format that was asked for.")
    seeds: list[int] = Field(description="The seed of each.")
    warnings: list[str] = Field(description="What the caller should know.")
    timings: TimingsBody
