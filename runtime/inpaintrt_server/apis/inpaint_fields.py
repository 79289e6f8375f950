"""The fields of `POST /v1/inpaint`: the pipeline's options, as they are declared, and how to answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar, Union, cast

import anyio.to_thread
from msgspec import Meta, inspect
from pydantic import BaseModel, ConfigDict, Field, create_model

from inpaintrt.declaration import current_names
from inpaintrt.errors import ParameterError
from inpaintrt.options import OPTIONS, RENAMED, Options, make_options
from inpaintrt.quality import DOCUMENTED, Qualities
from inpaintrt.validation import alternatives
from inpaintrt_server.http.answers import DEFAULT_QUALITY, OutputFormat
from inpaintrt_server.http.bodies import checked
from inpaintrt_server.http.context import Context
from inpaintrt_server.http.forms import Form
from inpaintrt_server.http.refusals import FieldError
from inpaintrt_server.http.uploads import Upload, check_upload, decode_base64

__all__ = ["Asked", "InpaintFields", "InpaintJson", "parse_inpaint"]

_Answer: TypeAlias = Literal["image", "json", "events"]
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

_LIST_FIELDS = tuple(
    name for name, kind in _KINDS.items() if any(isinstance(part, _LISTS) for part in alternatives(kind))
)
"""Fields that a form may bring more than once, or as one JSON array."""

_ONLY_LIST_FIELDS = tuple(
    name
    for name in _LIST_FIELDS
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
    lora: str | None = Field(default=None, description="A LoRA of the server, by a name of /info.")
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

    def options(self, qualities: Qualities = DOCUMENTED) -> Options:
        """The pipeline's options, those that the request leaves out included.

        Args:
            qualities: What the words of `quality` stand for with the bundle.

        Raises:
            ParameterError: Options exclude each other, or one comes under two names.
        """
        given, _ = current_names(self._given(), RENAMED)
        options = make_options(qualities, **cast("Options", given))
        return cast("Options", {name: value for name, value in options.items() if name in _KINDS})

    def notes(self) -> list[str]:
        """What the caller should know about the names of fields."""
        _, notes = current_names(self._given(), RENAMED)
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


class Asked(NamedTuple):
    """What a request asks for, beside its images.

    Attributes:
        fields: The fields, without the texts of images.
        options: The pipeline's options, all of them.
        notes: What the caller should know about the names of fields.
        answer: What to answer with.
    """

    fields: InpaintFields
    options: Options
    notes: list[str]
    answer: _Answer

    @property
    def previews(self) -> int:
        """How many previews to make; they come in a stream only."""
        return self.fields.previews if self.answer == "events" else 0

    def parameters(self, bundle: str) -> dict[str, object]:
        """What the metadata of files says beside the seed, as `inpaintrt run` writes it."""
        lora = {} if self.fields.lora is None else {"lora": self.fields.lora}
        return {"bundle": bundle, **lora, "prompt": self.fields.prompt, **self.options}


async def parse_inpaint(
    body: InpaintJson | Form, accept: str, context: Context
) -> tuple[Asked, Upload | None, bytes | None]:
    """What a body asks for, its image, and the file of its mask.

    Args:
        body: From `read_body`.
        accept: The header of that name.
        context: Has the limits of images.

    Raises:
        FieldError: A field is unknown, missing or not valid.
        ParameterError: Options exclude each other or the answer, or one comes under two names.
        ImageError: The image is none.
        MaskError: The mask is none.
        ImageTooLargeError: One of them has too many pixels.
    """

    def parse() -> tuple[Asked, Upload | None, bytes | None]:
        fields = _fields_of_form(body) if isinstance(body, Form) else _fields_of_json(body)
        options = fields.options(context.service.stages.qualities)
        asked = Asked(fields, options, fields.notes(), _choose_answer(fields, options, accept))
        image, mask = _files_of_form(body) if isinstance(body, Form) else _files_of_json(body)
        max_pixels = context.settings.max_pixels
        upload = None if image is None else check_upload(image, "image", max_pixels=max_pixels)
        if mask is not None:
            check_upload(mask, "mask", max_pixels=max_pixels)
        return asked, upload, mask

    return await anyio.to_thread.run_sync(parse, limiter=context.image_threads)


def _fields_of_json(body: InpaintJson) -> InpaintFields:
    """The texts of images are not kept while the request waits."""
    return body.model_copy(update={"image": None, "mask": None})


def _files_of_json(body: InpaintJson) -> tuple[bytes | None, bytes | None]:
    return (
        None if body.image is None else decode_base64(body.image),
        None if body.mask is None else decode_base64(body.mask, "mask"),
    )


def _files_of_form(form: Form) -> tuple[bytes | None, bytes | None]:
    return _single_file(form, "image"), _single_file(form, "mask")


def _fields_of_form(form: Form) -> InpaintFields:
    values = {name: _field_value(name, texts) for name, texts in form.fields.items()}
    for name in ("image", "mask"):
        if name in values:
            raise FieldError(f"the {name} is not a file", field=name, expected="a file part of the form")
    unknown = sorted(form.files.keys() - {"image", "mask"})
    if unknown:
        raise FieldError(
            "there is no such file field", field=unknown[0], received=unknown[0], expected="image, mask"
        )
    return checked(InpaintFields, values)


def _field_value(name: str, texts: tuple[str, ...]) -> object:
    if len(texts) == 1:
        return _list_or_text(name, texts[0]) if name in _LIST_FIELDS else texts[0]
    if name not in _LIST_FIELDS:
        raise FieldError(f"the field {name!r} comes more than once", field=name, expected="one value")
    return texts


def _list_or_text(name: str, text: str) -> object:
    """A list may come as one JSON array, too; what is none is checked as it is."""
    if not text.lstrip().startswith("["):
        return [text] if name in _ONLY_LIST_FIELDS else text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _single_file(form: Form, name: str) -> bytes | None:
    files = form.files.get(name, (None,))
    if len(files) > 1:
        raise FieldError(f"the field {name!r} comes more than once", field=name, expected="one file")
    return files[0]


def _choose_answer(fields: InpaintFields, options: Options, accept: str) -> _Answer:
    """Fields go before the header; without either a single result is an image."""
    if fields.stream or (fields.response_format is None and "text/event-stream" in accept):
        return "events"
    by_header: _Answer = "json" if "application/json" in accept and "image/" not in accept else "image"
    answer = fields.response_format or by_header
    count = options["num_images_per_prompt"]
    if answer == "image" and count > 1:
        raise ParameterError(
            "several results do not fit into one image file",
            received=f"num_images_per_prompt {count}",
            expected="1",
            hint='ask for JSON: response_format "json", or the header Accept: application/json',
        )
    return answer
