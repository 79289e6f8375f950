"""What fails harms nobody else; and an engine that is gone is said to be gone."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from inpaintrt.backends import Array
from inpaintrt.errors import EngineInputError, EngineMemoryError, EngineRunError
from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import BatchingService, BatchingSettings, Event, Started, Stepped
from inpaintrt_server.errors import EngineLostError
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, paint_alone, with_engine
from server.conftest import wait_until


class Fuse:
    """Raises on demand in place of an engine."""

    def __init__(
        self, blows: Callable[[Mapping[str, Array]], bool], error: type[Exception] = EngineRunError
    ) -> None:
        self.blows = blows
        self.error = error
        self.calls = 0

    def __call__(self, inputs: Mapping[str, Array]) -> None:
        self.calls += 1
        if self.blows(inputs):
            raise self.error("the device is on fire")


def _rows(inputs: Mapping[str, Array]) -> int:
    return len(inputs["row_slot"])


def _never(inputs: Mapping[str, Array]) -> bool:
    return False


@pytest.mark.parametrize("error", [EngineRunError, ValueError])
def test_a_failing_step_fails_those_in_it_and_the_service_goes_on(
    demo: LoadedBundle,
    make_service: MakeService,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    fuse = Fuse(_never, error)
    service = make_service(with_engine(demo, "denoiser", fuse), slots=2, workers=1)
    third = Ear()

    def blow_once(event: Event) -> None:
        if isinstance(event, Stepped) and event.index == 3:
            fuse.blows = lambda inputs: _rows(inputs) == 4

    def heal(event: Event) -> None:
        fuse.blows = _never if not isinstance(event, Started | Stepped) else fuse.blows

    first, second = Ear(heal), Ear(blow_once)
    hand_in(service, ask(num_inference_steps=200), first, job_id="first")
    hand_in(service, ask(num_inference_steps=200, seed=1), second, job_id="second")
    hand_in(service, ask(seed=2), third, job_id="third")
    for ear in (first, second):
        failure = ear.error()
        assert isinstance(failure, EngineRunError)
        assert "on fire" in str(failure)
    assert largest_difference(third.finished().images[0], paint_alone(demo, ask(seed=2))[0]) <= 1
    (record,) = [record for record in caplog.records if "a step failed" in record.message]
    assert record.__dict__["job_ids"] == ["first", "second"]
    wait_until(lambda: service.snapshot.active == 0)
    assert service.snapshot.ready


def test_a_failing_step_does_not_harm_a_group_of_another_size(
    demo: LoadedBundle, make_service: MakeService
) -> None:
    fuse = Fuse(lambda inputs: inputs["state"].shape[-2:] == (8, 8))
    service = make_service(with_engine(demo, "denoiser", fuse), slots=2)
    small, large = Ear(), Ear()
    hand_in(service, ask(num_inference_steps=6, size=(96, 64)), large)
    hand_in(service, ask(), small)
    assert isinstance(small.error(), EngineRunError)
    large.finished()


@pytest.mark.parametrize("scheduler", ["euler_a", "dpmpp_2m_karras"])
def test_a_request_whose_estimate_is_nan_is_put_out_alone(
    demo: LoadedBundle, make_service: MakeService, scheduler: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(slots=3, faults=1)
    overflowing = np.full((1, 4, 8, 8), 3e38, np.float32)
    requests = [ask(num_inference_steps=6, scheduler=scheduler, seed=seed) for seed in (1, 2)]
    ears = [Ear(), Ear()]
    bad = Ear()
    hand_in(service, requests[0], ears[0])
    hand_in(service, ask(num_inference_steps=6, scheduler=scheduler, latents=overflowing), bad, job_id="bad")
    hand_in(service, requests[1], ears[1])
    with np.errstate(all="ignore"):
        assert "NaN" in str(bad.error())
        for request, ear in zip(requests, ears, strict=True):
            assert largest_difference(ear.finished().images[0], paint_alone(demo, request)[0]) <= 1
    assert any(record.__dict__.get("job_ids") == ["bad"] for record in caplog.records)
    assert not service.snapshot.engine_lost


@pytest.mark.parametrize(
    ("component", "output"), [("vae_encoder", "latent_parameters"), ("text_encoder", "last_hidden_state")]
)
def test_values_that_are_not_finite_never_reach_the_slots(
    demo: LoadedBundle, make_service: MakeService, component: str, output: str
) -> None:
    def spoil(inputs: Mapping[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:
        return {output: np.full_like(outputs[output], np.nan)}

    service = make_service(with_engine(demo, component, lambda inputs: None, spoil), faults=1)
    ear = Ear()
    hand_in(service, ask(), ear)
    assert "the encoded prompt or image holds NaN" in str(ear.error())
    assert not service.snapshot.engine_lost


@pytest.mark.parametrize("component", ["text_encoder", "vae_encoder", "vae_decoder"])
def test_a_failing_encoder_or_decoder_fails_one_request(
    demo: LoadedBundle, make_service: MakeService, component: str, caplog: pytest.LogCaptureFixture
) -> None:
    fuse = Fuse(lambda inputs: fuse.calls == 1)
    service = make_service(with_engine(demo, component, fuse), workers=1)
    ears = Ear(), Ear()
    for seed, ear in enumerate(ears):
        hand_in(
            service,
            ask(num_inference_steps=4, image_seed=seed, prompt=f"{seed} trees"),
            ear,
            job_id=str(seed),
        )
    assert isinstance(ears[0].error(), EngineRunError)
    ears[1].finished()
    assert any(record.__dict__.get("job_ids") == ["0"] for record in caplog.records)
    assert not service.snapshot.engine_lost


def test_a_decoder_that_gives_nan_fails_its_request(demo: LoadedBundle, make_service: MakeService) -> None:
    def spoil(inputs: Mapping[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:
        return {"sample": np.full_like(outputs["sample"], np.nan)}

    service = make_service(with_engine(demo, "vae_decoder", lambda inputs: None, spoil), faults=1)
    ear = Ear()
    hand_in(service, ask(), ear)
    assert "NaN" in str(ear.error())
    assert not service.snapshot.engine_lost


def _assert_lost(service: BatchingService) -> None:
    wait_until(lambda: service.snapshot.engine_lost)
    assert not service.snapshot.ready
    with pytest.raises(EngineLostError, match="start the server again"):
        service.admit()
    wait_until(lambda: service.snapshot.outstanding == 0)


@pytest.mark.parametrize("error", [EngineRunError, EngineMemoryError])
def test_an_engine_that_fails_on_a_probe_too_is_lost(
    demo: LoadedBundle, make_service: MakeService, error: type[Exception]
) -> None:
    fuse = Fuse(_never, error)
    service = make_service(with_engine(demo, "denoiser", fuse), slots=1, workers=1)
    spare = service.admit()

    def blow(event: Event) -> None:
        if isinstance(event, Stepped) and event.index == 2:
            fuse.blows = lambda inputs: True

    running, waiting, late = Ear(blow), Ear(), Ear()
    hand_in(service, ask(num_inference_steps=50), running)
    hand_in(service, ask(), waiting)
    assert isinstance(running.error(), error)
    assert isinstance(waiting.error(), EngineLostError)
    service.submit(spare, ask(), late, job_id="late")
    assert isinstance(late.error(), EngineLostError)
    _assert_lost(service)


@pytest.mark.parametrize("component", ["denoiser", "vae_encoder", "vae_decoder"])
def test_failures_in_a_row_lose_the_engine_whatever_the_probe_says(
    demo: LoadedBundle, make_service: MakeService, component: str
) -> None:
    fuse = Fuse(lambda inputs: "row_slot" not in inputs or _rows(inputs) > 1)
    service = make_service(with_engine(demo, component, fuse), slots=1, faults=3)
    for seed in range(3):
        ear = Ear()
        hand_in(service, ask(seed=seed), ear)
        assert isinstance(ear.error(), EngineRunError)
    _assert_lost(service)


def test_a_success_in_between_keeps_the_engine(demo: LoadedBundle, make_service: MakeService) -> None:
    fuse = Fuse(lambda inputs: fuse.calls % 2 == 1)
    service = make_service(with_engine(demo, "vae_decoder", fuse), slots=1, faults=2)
    for seed in range(6):
        ear = Ear()
        hand_in(service, ask(seed=seed), ear)
        ear.last()
    assert not service.snapshot.engine_lost


def test_an_engine_that_does_not_work_from_the_start_is_lost(demo: LoadedBundle) -> None:
    broken = with_engine(demo, "denoiser", Fuse(lambda inputs: True))
    service = BatchingService(broken, BatchingSettings())
    ear = Ear()
    hand_in(service, ask(), ear)
    with service:
        assert isinstance(ear.error(), EngineLostError)
        _assert_lost(service)


def test_an_engine_that_gives_nan_for_zeros_is_lost(demo: LoadedBundle, make_service: MakeService) -> None:
    def spoil(inputs: Mapping[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:
        return {**outputs, "next_finite": np.zeros_like(outputs["next_finite"])}

    _assert_lost(make_service(with_engine(demo, "denoiser", lambda inputs: None, spoil)))


def test_an_engine_that_cannot_open_slots_fails_the_request(
    demo: LoadedBundle, make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(faults=5)
    wait_until(lambda: service.snapshot.ready)
    step = service.stages.step
    open_state = step.open_state

    def refuse(slots: int, height: int, width: int) -> object:
        if (height, width) == (8, 12):
            raise EngineMemoryError("no memory for so large an image")
        return open_state(slots, height, width)

    monkeypatch.setattr(step, "open_state", refuse)
    large, small = Ear(), Ear()
    hand_in(service, ask(size=(96, 64)), large)
    hand_in(service, ask(), small)
    assert isinstance(large.error(), EngineMemoryError)
    small.finished()


def test_fewer_slots_in_the_engine_than_asked_for_are_said_at_once(
    demo: LoadedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = with_engine(demo, "denoiser", lambda inputs: None)
    engine = limited.engines["denoiser"]

    def fit(shapes: Mapping[str, tuple[int, ...]]) -> object:
        if shapes["state"][0] > 2:
            raise EngineInputError("the engine has two slots")
        return shapes

    monkeypatch.setattr(engine, "fit", fit, raising=False)
    monkeypatch.setattr(engine, "profiles", [], raising=False)
    with pytest.raises(EngineInputError, match="two slots"):
        BatchingService(limited, BatchingSettings(slots=3))
    BatchingService(limited, BatchingSettings(slots=2)).close()
