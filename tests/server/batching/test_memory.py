"""Memory: what is too large is refused, what has to wait waits, and the rest goes on."""

from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from inpaintrt.backends import Array, Engine
from inpaintrt.bundle import Activations, TensorSpec
from inpaintrt.errors import ParameterError
from inpaintrt.loading import LoadedBundle
from inpaintrt.request import Request
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.settings import ServerSettings
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in
from server.conftest import Serve
from server.uploads import FORM, files

MEBIBYTE = 2**20
ROOM = 60 * MEBIBYTE
ARENA = 1.5


class OnDevice:
    """An engine that takes no memory of this process."""

    inputs: Mapping[str, TensorSpec] = {}
    outputs: Mapping[str, TensorSpec] = {}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(inputs)

    def close(self) -> None:
        pass


class OnHost(OnDevice):
    """One that does."""

    def __init__(self, activations: Activations | None) -> None:
        self.activations = activations


def _engines(activations: Activations | None) -> dict[str, Engine]:
    return {name: OnHost(activations) for name in ("vae_encoder", "denoiser", "vae_decoder")}


def _budget(
    demo: LoadedBundle, engines: Mapping[str, Engine], limit: int | None, available: int | None = None
) -> MemoryBudget:
    architecture = demo.manifest.architecture
    return MemoryBudget(engines, limit, available=available, architecture=architecture)


LINEAR = Activations(per_position=1000, per_pair=0)


def test_a_step_takes_what_was_measured(demo: LoadedBundle) -> None:
    budget = _budget(demo, _engines(Activations(per_position=10, per_pair=2)), None)
    assert budget.step(3, 64 * 16) == ARENA * 3 * (16 * 10 + 256 * 2)


def test_half_of_the_machine_is_for_runs(demo: LoadedBundle) -> None:
    assert _budget(demo, _engines(LINEAR), None, 10**9).limit == 5 * 10**8
    assert _budget(demo, _engines(LINEAR), None).limit is None


def test_the_native_size_always_fits(demo: LoadedBundle) -> None:
    budget = _budget(demo, _engines(LINEAR), None, 1000)
    assert budget.limit == ARENA * 2 * 256 * 1000
    budget.check(ask(), 128 * 128)
    with pytest.raises(
        ParameterError, match=r"(?s)needs more memory.*18432 pixels.*0.8 MiB.*0.7 MiB.*smaller"
    ):
        budget.check(ask(), 128 * 144)


def test_a_budget_below_the_native_size_is_refused(demo: LoadedBundle) -> None:
    with pytest.raises(ParameterError, match=r"(?s)too small.*native.*--memory-budget"):
        _budget(demo, _engines(LINEAR), 1000)


def test_networks_that_were_not_measured_count_as_large(demo: LoadedBundle) -> None:
    """Stable Diffusion 1.5 takes 2.1 GB a row at 512 x 512 with attention as matrices."""
    assert 2.5e9 < _budget(demo, _engines(None), None).step(1, 512 * 512) < 4e9


def test_engines_elsewhere_have_no_budget(demo: LoadedBundle) -> None:
    engines = {name: OnDevice() for name in ("vae_encoder", "denoiser", "vae_decoder")}
    budget = _budget(demo, engines, None, 10**9)
    assert budget.limit is None
    budget.check(ask(), 10**9)


def test_rows_count(demo: LoadedBundle) -> None:
    budget = _budget(demo, _engines(LINEAR), int(ARENA * 2 * 512 * 1000))
    budget.check(ask(guidance_scale=1.0), 256 * 128)
    budget.check(ask(), 256 * 128)
    with pytest.raises(ParameterError):
        budget.check(ask(negative_prompt="a boat", negative_mode="symmetric"), 256 * 128)


@pytest.fixture(scope="module")
def whole(demo: LoadedBundle) -> MemoryBudget:
    """The demo's, without a limit."""
    return _budget(demo, demo.engines, None)


def _large(**options: Any) -> Request:
    return ask(height=256, width=256, **options)


def test_what_is_too_large_alone_is_refused_and_the_next_is_served(make_service: MakeService) -> None:
    service = make_service(memory_budget=ROOM)
    refused, served = Ear(), Ear()
    hand_in(service, ask(height=512, width=512), refused)
    hand_in(service, ask(), served)
    assert isinstance(refused.error(), ParameterError)
    assert "262144 pixels" in str(refused.error())
    served.finished()


def test_what_has_to_wait_for_memory_waits(make_service: MakeService, whole: MemoryBudget) -> None:
    """The decoder of 256 x 256 fits, and fewer results in steps than there are slots and requests."""
    service = make_service(memory_budget=ROOM, slots=16)
    maximum = int(ROOM // whole.step(2, 256 * 256))
    active: set[int] = set()
    ears = [Ear(lambda _: active.add(service.snapshot.active)) for _ in range(maximum + 3)]
    for ear in ears:
        hand_in(service, _large(num_inference_steps=8), ear)
    for ear in ears:
        ear.finished()
    assert max(active) == maximum


def test_a_large_request_gets_its_turn_among_small_ones(make_service: MakeService) -> None:
    service = make_service(memory_budget=ROOM, slots=4)
    small = [Ear() for _ in range(6)]
    for ear in small[:3]:
        hand_in(service, ask(num_inference_steps=30), ear)
    large = Ear()
    hand_in(service, _large(num_images_per_prompt=4), large)
    for ear in small[3:]:
        hand_in(service, ask(num_inference_steps=30), ear)
    assert len(large.finished().images) == 4
    for ear in small:
        ear.finished()


def test_a_result_does_not_depend_on_the_budget(make_service: MakeService) -> None:
    ears = [Ear(), Ear()]
    for budget, ear in zip((ROOM, None), ears, strict=True):
        hand_in(make_service(memory_budget=budget), _large(seed=3), ear)
    mine, theirs = (np.asarray(ear.finished().images[0]) for ear in ears)
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("accept", ["image/png", "application/json", "text/event-stream"])
def test_a_client_is_told_what_is_too_large(make_service: MakeService, serve: Serve, accept: str) -> None:
    service = make_service(memory_budget=ROOM)
    url = serve(make_application(service, ServerSettings()))
    fields = {**FORM, "height": 1024, "width": 1024}
    answer = httpx.post(f"{url}/v1/inpaint", data=fields, files=files(), headers={"accept": accept})
    assert answer.status_code == 422
    problem = answer.json()["error"]
    assert problem["code"] == "invalid_parameter"
    assert "1048576 pixels" in problem["received"]
    assert problem["expected"] == "at most 60.0 MiB"
    assert httpx.get(f"{url}/info").json()["limits"]["memory_budget"] == ROOM


def test_a_budget_is_a_number_of_bytes(make_service: MakeService) -> None:
    with pytest.raises(ParameterError, match=r"(?s)memory_budget.*integer from 1"):
        make_service(memory_budget=0)
