"""Requests with LoRAs: the pipeline's image, steps shared within a choice, and nothing loaded twice."""

import threading
import time

import pytest

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import BatchingService, BatchingSettings, LoraFiles
from inpaintrt_server.batching.loras import LoraLibrary
from inpaintrt_server.errors import DeadlineError, DrainingError
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.lora_tools import SCALES, Alone, Gate, Recorder, Weights, paint, room_for, submit
from server.batching.tools import Ear, ask, hand_in, with_engine
from server.conftest import Logged
from server.loras import LoraPaths


@pytest.mark.parametrize(
    "weights",
    [{}, {"style": 1.0}, {"words": 1.0}, {"style": 0.5, "words": 1.0}, {"detail": -0.25, "style": 1.5}],
    ids=str,
)
def test_a_choice_gives_the_pipelines_image(
    make_service: MakeService, lora_files: LoraFiles, alone: Alone, weights: Weights
) -> None:
    service = make_service(loras=lora_files)
    image = paint(service, weights)
    ordered = {name: weights[name] for name in SCALES if name in weights}
    assert largest_difference(image, alone(ordered)) <= 1
    if weights:
        assert largest_difference(image, alone({})) > 10


def test_several_files_of_one_name_are_applied_together(
    make_service: MakeService, lora_paths: LoraPaths, alone: Alone
) -> None:
    both = ((str(lora_paths.style), SCALES["style"]), (str(lora_paths.words), SCALES["words"]))
    service = make_service(loras={"both": both})
    assert largest_difference(paint(service, {"both": 1.0}), alone({"style": 1.0, "words": 1.0})) <= 1


def test_coming_back_to_a_lora_gives_the_same_bits(
    demo: LoadedBundle, make_service: MakeService, lora_files: LoraFiles
) -> None:
    recorder = Recorder()
    service = make_service(
        loras=lora_files, observer=recorder, lora_memory=int(1.5 * room_for(1, demo, lora_files)), slots=2
    )
    names = ("style", "detail", "style", "detail", "style")
    first, second, *again = (paint(service, {name: 1.0}) for name in names)
    assert first.tobytes() != second.tobytes()
    assert [image.tobytes() for image in again] == [first.tobytes(), second.tobytes(), first.tobytes()]
    loaded = [loras for what, loras in recorder.happened if what == "loaded"]
    assert loaded == [("style",), ("detail",), ("words",), *((name,) for name in names)]
    assert service.snapshot.lora_models == 1


def test_requests_of_all_kinds_at_the_same_time(
    make_service: MakeService, lora_files: LoraFiles, alone: Alone
) -> None:
    recorder = Recorder()
    service = make_service(loras=lora_files, observer=recorder, slots=6)
    kinds: list[dict[str, float]] = [{}, {"style": 1.0}, {"words": 1.0}, {"style": 1.0}, {}, {"style": 0.5}]
    ears = [submit(service, kind) for kind in kinds]
    for ear, kind in zip(ears, kinds, strict=True):
        assert largest_difference(ear.finished().images[0], alone(kind)) <= 1
    # 24 steps if nobody shared one.
    assert sum(recorder.rows) == 2 * 4 * len(kinds)
    assert max(recorder.rows) == 4


def test_different_choices_take_turns(make_service: MakeService, lora_files: LoraFiles) -> None:
    service = make_service(loras=lora_files, slots=4)
    steps: list[str] = []
    ears = []
    for name in ("style", "detail"):
        ear = Ear(lambda event, name=name: steps.append(name) if hasattr(event, "index") else None)  # type: ignore[misc]
        request = ask(num_inference_steps=40)
        hand_in(service, request, ear, loras=service.loras.choose_one(name))
        ears.append(ear)
    for ear in ears:
        ear.finished()
    together = steps[steps.index("detail") : len(steps) - steps[::-1].index("style")]
    assert len(together) > 20
    runs = "".join("s" if name == "style" else "d" for name in together)
    assert "sss" not in runs
    assert "ddd" not in runs


def test_others_go_on_while_loras_are_loaded(
    make_service: MakeService, lora_files: LoraFiles, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    service = make_service(loras=lora_files, observer=recorder)
    gate = Gate(service, monkeypatch)
    waiting = [submit(service, {"style": 0.5}) for _ in range(2)]
    assert gate.arrived.acquire(timeout=30)
    assert largest_difference(paint(service, {}), alone({})) <= 1
    assert largest_difference(paint(service, {"detail": 1.0}), alone({"detail": 1.0})) <= 1
    assert not any(ear.events for ear in waiting)
    late = submit(service, {"style": 0.5}, deadline=time.monotonic() + 0.01)
    assert isinstance(late.error(), DeadlineError)
    gate.opened.set()
    for ear in waiting:
        assert largest_difference(ear.finished().images[0], alone({"style": 0.5})) <= 1
    assert recorder.happened.count(("loaded", ("style",))) == 2


def test_closing_waits_for_what_is_being_loaded(
    demo: LoadedBundle, lora_files: LoraFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = BatchingService(demo, BatchingSettings(), loras=lora_files)
    service.start()
    gate = Gate(service, monkeypatch)
    waiting = submit(service, {"style": 0.5})
    assert gate.arrived.acquire(timeout=30)
    closing = threading.Thread(target=service.close)
    closing.start()
    gate.opened.set()
    closing.join(60)
    assert not closing.is_alive()
    assert isinstance(waiting.error(), DrainingError)
    assert service.snapshot.lora_models == 0


def test_what_loras_do_not_change_is_shared(
    demo: LoadedBundle, make_service: MakeService, lora_files: LoraFiles
) -> None:
    library = LoraLibrary(demo, lora_files)
    engines = library.load(library.choose_one("style")).engines
    assert {name for name in engines if engines[name] is not demo.engines[name]} == {"denoiser"}
    engines = library.load(library.choose_one("words")).engines
    changed = {name for name in engines if engines[name] is not demo.engines[name]}
    assert changed == {"denoiser", "text_encoder"}
    recorder = Recorder()
    service = make_service(loras=lora_files, observer=recorder)
    for name in ("style", "detail", "words"):
        paint(service, {name: 1.0})
    assert recorder.hits == [False] * 2 + [True] * 2 + [False] * 2


def test_the_bundles_engines_outlive_a_service_with_loras(demo: LoadedBundle, lora_files: LoraFiles) -> None:
    with BatchingService(demo, BatchingSettings(), loras=lora_files) as service:
        paint(service, {"words": 1.0})
    with BatchingService(demo, BatchingSettings()) as service:
        paint(service, {})


def test_engines_that_are_not_in_host_memory_are_loaded_between_steps(
    demo: LoadedBundle, make_service: MakeService, lora_files: LoraFiles, alone: Alone
) -> None:
    watched = with_engine(demo, "denoiser", lambda inputs: None)
    unet = {name: lora_files[name] for name in ("style", "detail")}
    service = make_service(watched, loras=unet)
    assert service.snapshot.lora_bytes == room_for(1, demo, lora_files)  # what a device has is not known
    assert largest_difference(paint(service, {"style": 0.5}), alone({"style": 0.5})) <= 1
    assert service.snapshot.lora_models == 1


def test_loading_says_so_in_the_log(make_service: MakeService, lora_files: LoraFiles, log: Logged) -> None:
    service = make_service(loras={"style": lora_files["style"]}, lora_memory=11_000_000)
    paint(service, {"style": 0.5})
    first, second = log.lines(message="LoRAs loaded")
    assert (first["lora"], second["lora"]) == ("style", "style:0.5")
    assert second["bytes"] == service.snapshot.lora_bytes
    assert log.only(message="LoRAs dropped")["lora"] == "style"
