"""What OpenAPI says is true, for every interface: requests made after it, right and wrong ones."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import ServerSettings
from server.conftest import serving, wait_until
from server.uploads import SCENE, base64_of, png_of

# What a schema cannot say: that fields fit together, that a text names a sampler, how large a canvas gets.
BEYOND_SCHEMAS = ("invalid_parameter", "unknown_sampler", "image_too_large", "invalid_mask")
# These two compare the case that was generated with the answer to the one with images.
NOT_FOR_EDITED_CASES: list[schemathesis.CheckFunction] = [negative_data_rejection, positive_data_acceptance]


@pytest.fixture(scope="module")
def published(service: BatchingService) -> Iterator[BaseSchema]:
    """The schema that a real server publishes, one whose requests are soon done."""
    limits = ServerSettings(max_steps=3, max_results=2, max_run_pixels=128 * 128, max_prompt=200)
    with serving(make_application(service, limits)) as address:
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def _operations(published: BaseSchema) -> list[Any]:
    return [result.ok() for result in published.get_all_operations() if isinstance(result, Ok)]


def test_every_interface_is_published(published: BaseSchema) -> None:
    paths = {operation.path for operation in _operations(published)}
    assert paths >= {
        "/v1/inpaint",
        "/v1/images/edits",
        "/v1/images/generations",
        "/sdapi/v1/img2img",
        "/sdapi/v1/txt2img",
        "/info",
        "/healthz",
        "/metrics",
    }


def test_right_requests_are_answered_as_published(published: BaseSchema, service: BatchingService) -> None:
    for operation in _operations(published):
        _try_right(operation)
    wait_until(lambda: service.snapshot.outstanding == 0)


def test_wrong_requests_are_refused_as_published(published: BaseSchema, service: BatchingService) -> None:
    tried = [operation.label for operation in _operations(published) if _try_wrong(operation)]
    assert "POST /v1/inpaint" in tried
    wait_until(lambda: service.snapshot.outstanding == 0)


def _try_right(operation: Any) -> None:
    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: schemathesis.Case[Any]) -> None:
        if isinstance(case.body, dict):
            steps = "num_inference_steps" if operation.path == "/v1/inpaint" else "steps"
            encode = png_of if case.media_type == "multipart/form-data" else base64_of
            case.body = {steps: 2, **case.body, **_images(case.body, encode)}
        answer = case.call_and_validate(timeout=60, excluded_checks=NOT_FOR_EDITED_CASES)
        if operation.path == "/v1/inpaint" and answer.status_code != 200:
            assert answer.json()["error"]["code"] in BEYOND_SCHEMAS, answer.text

    check()


def _images(body: Mapping[str, object], encode: Callable[[Image.Image], object]) -> dict[str, Any]:
    """Real images for those of a generated body."""
    images: dict[str, Any] = {
        "image": encode(SCENE.image),
        "mask": encode(SCENE.mask),
        "init_images": [encode(SCENE.image)],
    }
    return {name: image for name, image in images.items() if body.get(name) is not None}


def _try_wrong(operation: Any) -> bool:
    """Whether a request to this path can be wrong at all."""

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def check(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(timeout=60)

    try:
        check()
    except Unsatisfiable:
        return False
    return True
