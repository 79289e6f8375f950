"""The table of errors."""

import importlib
import json

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from inpaintrt.errors import EngineRunError, ExportError, InpaintError, InputError, MaskError
from inpaintrt_server.errors import (
    DrainingError,
    ModelBusyError,
    ModelLoadError,
    QueueFullError,
    ServerError,
)
from inpaintrt_server.http.errors import own_shape, problem_of, respond
from inpaintrt_server.http.refusals import FieldError, RequestError, UnauthorizedError

_MODULES = ("inpaintrt.errors", "inpaintrt_server.errors", "inpaintrt_server.http.refusals")


def _kinds() -> list[type[InpaintError]]:
    names = [(importlib.import_module(module), module) for module in _MODULES]
    kinds = [getattr(module, name) for module, _ in names for name in module.__all__]
    leaves = [kind for kind in kinds if not kind.__subclasses__()]
    return [kind for kind in leaves if issubclass(kind, InputError | ServerError)]


@pytest.mark.parametrize("kind", _kinds(), ids=lambda kind: kind.__name__)
def test_every_refusal_has_a_status_of_its_own(kind: type[InpaintError]) -> None:
    more = {"retry_after": 2.0} if kind is QueueFullError else {"field": "a"} if kind is FieldError else {}
    problem = problem_of(kind("it is wrong", received=1, expected=2, **more))
    assert problem.status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 499, 503, 504)
    assert problem.code != "internal_error"
    assert problem.message == "it is wrong"
    assert problem.received == "1"


def test_the_trees_are_drawn() -> None:
    for module in _MODULES[1:]:
        errors = importlib.import_module(module)
        defined = {name for name, value in vars(errors).items() if name.endswith("Error")}
        assert defined - {"InpaintError"} == set(errors.__all__) | (defined & {"ServerError"})
        for name in errors.__all__:
            assert f"{name} " in f"{errors.__doc__} ".replace("\n", " \n")


def test_a_subclass_counts_as_the_kind_it_is() -> None:
    class OddMaskError(MaskError):
        pass

    assert problem_of(OddMaskError("odd")).code == "invalid_mask"


@pytest.mark.parametrize(
    "error",
    [
        EngineRunError("it failed", received="/srv/engines/a.onnx"),
        ExportError("x", received="/srv"),
        ValueError("/srv"),
    ],
)
def test_of_what_fails_inside_clients_hear_little(error: Exception) -> None:
    problem = problem_of(error)
    assert problem.status == 500
    assert "/srv" not in json.dumps(own_shape(problem))


def test_headers_say_when_to_come_back_and_which_key_is_asked_for() -> None:
    assert problem_of(QueueFullError("full", retry_after=7.4)).headers["Retry-After"] == "7"
    assert problem_of(QueueFullError("full", retry_after=0.1)).headers["Retry-After"] == "1"
    assert int(problem_of(DrainingError("stopping")).headers["Retry-After"]) > 0
    assert int(problem_of(ModelBusyError("busy")).headers["Retry-After"]) > 0
    assert "Retry-After" not in problem_of(ModelLoadError("damaged")).headers
    assert "Bearer" in problem_of(UnauthorizedError("key?")).headers["WWW-Authenticate"]


def test_what_the_framework_refuses_has_our_words() -> None:
    assert problem_of(HTTPException(404)).code == "not_found"
    assert problem_of(HTTPException(400, "bad part")).code == "malformed_body"
    assert problem_of(HTTPException(405, headers={"Allow": "GET"})).headers == {"Allow": "GET, HEAD"}
    assert problem_of(ClientDisconnect()).status == 499
    details = [{"loc": ("body", "steps"), "type": "missing", "msg": "Field required", "input": {}}]
    problem = problem_of(RequestValidationError(details))
    assert (problem.status, problem.field) == (422, "steps")


def test_long_and_odd_values_do_not_break_the_answer() -> None:
    long = "\ud800" + "a" * 10_000
    answer = respond(problem_of(FieldError(long, field=long, received=long)), own_shape)
    told = json.loads(bytes(answer.body))["error"]
    for name in ("message", "field", "received"):
        assert told[name].startswith("\\ud800")
        assert len(told[name]) < 3000


def test_a_refusal_of_the_http_layer_is_a_server_error() -> None:
    assert issubclass(RequestError, ServerError)
