"""Requests with LoRAs: the pipeline's image, steps shared within a choice, and a bounded memory."""

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from inpaintrt import InpaintPipeline
from inpaintrt.errors import (
    BundleError,
    BundleIntegrityError,
    InpaintError,
    LoraFileError,
    LoraMismatchError,
    ParameterError,
)
from inpaintrt.loading import LoadedBundle, load_bundle, load_variant
from inpaintrt.lora import open_loras
from inpaintrt.store import find_bundle
from inpaintrt_server.batching import NO_LORAS, BatchingService, BatchingSettings, LoraFiles, NullObserver
from inpaintrt_server.batching.loras import LoraLibrary
from inpaintrt_server.errors import DeadlineError, DrainingError, ModelBusyError, ModelLoadError
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, with_engine
from server.conftest import Logged, wait_until
from server.loras import LoraPaths, make_lora

Weights = Mapping[str, float]
Alone = Callable[[Weights], Image.Image]

SCALES = {"style": 0.8, "detail": 1.0, "words": -0.5}


class Recorder(NullObserver):
    """What happens to models, and how many rows each step has."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, tuple[str, ...]]] = []
        self.rows: list[int] = []
        self.hits: list[bool] = []

    def chosen(self, loras: Sequence[str]) -> None:
        self.happened.append(("chosen", tuple(loras)))

    def loaded(self, loras: Sequence[str], seconds: float) -> None:
        assert seconds > 0
        self.happened.append(("loaded", tuple(loras)))

    def dropped(self, loras: Sequence[str]) -> None:
        self.happened.append(("dropped", tuple(loras)))

    def step(self, seconds: float, rows: int, bucket: int) -> None:
        self.rows.append(rows)

    def cache(self, name: str, *, hit: bool) -> None:
        if name == "prompts":
            self.hits.append(hit)


@pytest.fixture
def files(lora_paths: LoraPaths) -> LoraFiles:
    return {name: ((str(getattr(lora_paths, name)), scale),) for name, scale in SCALES.items()}


@pytest.fixture(scope="module")
def alone(lora_paths: LoraPaths) -> Alone:
    """What the pipeline paints when it was opened with these LoRAs; each image is painted once."""
    painted: dict[tuple[tuple[str, float], ...], Image.Image] = {}

    def paint(weights: Weights) -> Image.Image:
        key = tuple(weights.items())
        if key not in painted:
            loras = [(getattr(lora_paths, name), SCALES[name] * weight) for name, weight in key]
            request = ask()
            with InpaintPipeline.from_bundle("demo", loras=loras, threads=1) as pipe:
                inputs: Any = (request.prompts[0], request.images[0], request.masks[0])
                output = pipe(*inputs, **request.options)
            assert isinstance(output.images, list)
            painted[key] = output.images[0]
        return painted[key]

    return paint


def submit(service: BatchingService, weights: Weights, **options: Any) -> Ear:
    ear = Ear()
    given = {name: options.pop(name) for name in ("deadline",) if name in options}
    hand_in(service, ask(**options), ear, loras=service.loras.choose(weights), **given)
    return ear


def paint(service: BatchingService, weights: Weights, **options: Any) -> Image.Image:
    return submit(service, weights, **options).finished().images[0]


def room_for(count: int, demo: LoadedBundle, files: LoraFiles) -> int:
    """Bytes for so many of the LoRAs that change the UNet alone."""
    library = LoraLibrary(demo, files)
    return count * library.nbytes(library.choose_one("style"))


class Gate:
    """Holds up every loading of LoRAs until it is opened."""

    def __init__(self, service: BatchingService, monkeypatch: pytest.MonkeyPatch) -> None:
        load = service.loras.load
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()

        def wait(choice: Any) -> LoadedBundle:
            self.arrived.release()
            assert self.opened.wait(60)
            return load(choice)

        monkeypatch.setattr(service.loras, "load", wait)


@pytest.mark.parametrize(
    "weights",
    [{}, {"style": 1.0}, {"words": 1.0}, {"style": 0.5, "words": 1.0}, {"detail": -0.25, "style": 1.5}],
    ids=str,
)
def test_a_choice_gives_the_pipelines_image(
    make_service: MakeService, files: LoraFiles, alone: Alone, weights: Weights
) -> None:
    service = make_service(loras=files)
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
    demo: LoadedBundle, make_service: MakeService, files: LoraFiles
) -> None:
    recorder = Recorder()
    service = make_service(
        loras=files, observer=recorder, lora_memory=int(1.5 * room_for(1, demo, files)), slots=2
    )
    names = ("style", "detail", "style", "detail", "style")
    first, second, *again = (paint(service, {name: 1.0}) for name in names)
    assert first.tobytes() != second.tobytes()
    assert [image.tobytes() for image in again] == [first.tobytes(), second.tobytes(), first.tobytes()]
    loaded = [loras for what, loras in recorder.happened if what == "loaded"]
    assert loaded == [("style",), ("detail",), ("words",), *((name,) for name in names)]
    assert service.snapshot.lora_models == 1


def test_requests_of_all_kinds_at_the_same_time(
    make_service: MakeService, files: LoraFiles, alone: Alone
) -> None:
    recorder = Recorder()
    service = make_service(loras=files, observer=recorder, slots=6)
    kinds: list[dict[str, float]] = [{}, {"style": 1.0}, {"words": 1.0}, {"style": 1.0}, {}, {"style": 0.5}]
    ears = [submit(service, kind) for kind in kinds]
    for ear, kind in zip(ears, kinds, strict=True):
        assert largest_difference(ear.finished().images[0], alone(kind)) <= 1
    # 24 steps if nobody shared one.
    assert sum(recorder.rows) == 2 * 4 * len(kinds)
    assert max(recorder.rows) == 4


def test_different_choices_take_turns(make_service: MakeService, files: LoraFiles) -> None:
    service = make_service(loras=files, slots=4)
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


def test_the_least_recently_used_makes_room(
    demo: LoadedBundle, make_service: MakeService, files: LoraFiles
) -> None:
    unet = {name: files[name] for name in ("style", "detail")}
    recorder = Recorder()
    service = make_service(loras=unet, observer=recorder, lora_memory=room_for(2, demo, files))
    assert (service.snapshot.lora_models, service.snapshot.lora_bytes) == (2, room_for(2, demo, files))
    paint(service, {"detail": 1.0})
    paint(service, {"style": 1.0})
    paint(service, {"style": 0.5})
    paint(service, {"style": 1.0})
    paint(service, {})
    assert recorder.happened == [
        *(("loaded", (name,)) for name in ("style", "detail")),
        *(("chosen", (name,)) for name in ("detail", "style", "style")),
        *(("dropped", ("detail",)), ("loaded", ("style",))),
        *(("chosen", ("style",)), ("chosen", ())),
    ]


def test_what_is_in_use_is_not_dropped(
    demo: LoadedBundle, make_service: MakeService, files: LoraFiles, alone: Alone
) -> None:
    unet = {name: files[name] for name in ("style", "detail")}
    service = make_service(loras=unet, lora_memory=room_for(1, demo, files))
    running = submit(service, {"style": 1.0}, num_inference_steps=200)
    wait_until(lambda: bool(running.started))
    refused = submit(service, {"detail": 1.0}).error()
    assert isinstance(refused, ModelBusyError)
    assert str(refused.received).startswith("detail, which takes about 10.1 MiB")
    assert refused.expected == "at most 0.0 MiB at the moment"
    assert largest_difference(paint(service, {}), alone({})) <= 1
    assert not running.over
    running.finished()
    assert largest_difference(paint(service, {"detail": 1.0}), alone({"detail": 1.0})) <= 1


def test_a_cancelled_request_no_longer_keeps_its_loras(
    demo: LoadedBundle, make_service: MakeService, files: LoraFiles
) -> None:
    unet = {name: files[name] for name in ("style", "detail")}
    service = make_service(loras=unet, lora_memory=room_for(1, demo, files))
    ear = Ear()
    loras = service.loras.choose_one("style")
    job = hand_in(service, ask(num_inference_steps=900), ear, loras=loras)
    wait_until(lambda: bool(ear.started))
    job.cancel()
    paint(service, {"detail": 1.0})


def test_loras_that_never_fit_are_refused(
    demo: LoadedBundle, make_service: MakeService, files: LoraFiles
) -> None:
    with pytest.raises(ParameterError, match="more memory than this server gives them") as caught:
        BatchingService(demo, BatchingSettings(lora_memory=1000), loras=files)
    assert "style, which takes about 10.1 MiB" in str(caught.value.received)
    assert "--lora-memory" in str(caught.value.hint)
    service = make_service(loras=files, lora_memory=int(1.1 * room_for(1, demo, files)))
    error = submit(service, {"style": 1.0, "detail": 1.0, "words": 1.0}).error()
    assert isinstance(error, ParameterError)
    assert error.parameter == "lora"
    assert "style+detail+words" in str(error.received)


@pytest.mark.parametrize("available", [0, None])
def test_by_default_the_largest_lora_always_fits(
    make_service: MakeService, files: LoraFiles, monkeypatch: pytest.MonkeyPatch, available: int | None
) -> None:
    monkeypatch.setattr("inpaintrt_server.batching.service.available_bytes", lambda: available)
    service = make_service(loras=files)
    assert service.snapshot.lora_models == 1
    for name in files:
        paint(service, {name: 1.0})


def test_others_go_on_while_loras_are_loaded(
    make_service: MakeService, files: LoraFiles, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    service = make_service(loras=files, observer=recorder)
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
    demo: LoadedBundle, files: LoraFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = BatchingService(demo, BatchingSettings(), loras=files)
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
    demo: LoadedBundle, make_service: MakeService, files: LoraFiles
) -> None:
    library = LoraLibrary(demo, files)
    engines = library.load(library.choose_one("style")).engines
    assert {name for name in engines if engines[name] is not demo.engines[name]} == {"denoiser"}
    engines = library.load(library.choose_one("words")).engines
    changed = {name for name in engines if engines[name] is not demo.engines[name]}
    assert changed == {"denoiser", "text_encoder"}
    recorder = Recorder()
    service = make_service(loras=files, observer=recorder)
    for name in ("style", "detail", "words"):
        paint(service, {name: 1.0})
    assert recorder.hits == [False] * 2 + [True] * 2 + [False] * 2


def test_the_bundles_engines_outlive_a_service_with_loras(demo: LoadedBundle, files: LoraFiles) -> None:
    with BatchingService(demo, BatchingSettings(), loras=files) as service:
        paint(service, {"words": 1.0})
    with BatchingService(demo, BatchingSettings()) as service:
        paint(service, {})


def test_engines_that_are_not_in_host_memory_are_loaded_between_steps(
    demo: LoadedBundle, make_service: MakeService, files: LoraFiles, alone: Alone
) -> None:
    watched = with_engine(demo, "denoiser", lambda inputs: None)
    unet = {name: files[name] for name in ("style", "detail")}
    service = make_service(watched, loras=unet)
    assert service.snapshot.lora_bytes == room_for(1, demo, files)  # what a device has is not known
    assert largest_difference(paint(service, {"style": 0.5}), alone({"style": 0.5})) <= 1
    assert service.snapshot.lora_models == 1


def test_a_file_that_cannot_be_applied_stops_the_service_at_the_start(
    demo: LoadedBundle, tmp_path: Path
) -> None:
    other, damaged = tmp_path / "other.safetensors", tmp_path / "damaged.safetensors"
    save_file({"unet.elsewhere.diff": np.ones((2, 2), np.float32)}, other)
    damaged.write_bytes(b"not safetensors")
    wide = tmp_path / "wide.safetensors"
    save_file({"unet.conv_out.diff": np.ones((9, 9, 3, 3), np.float32)}, wide)
    for path, refusal, words in (
        (tmp_path / "absent.safetensors", LoraFileError, "cannot be read"),
        (damaged, LoraFileError, "not a whole"),
        (other, LoraMismatchError, "does not have"),
        (wide, LoraMismatchError, "does not fit"),
    ):
        with pytest.raises(refusal, match=words):
            BatchingService(demo, BatchingSettings(), loras={"style": ((str(path), 1.0),)})


def test_engines_that_come_from_no_bundle_take_no_loras(demo: LoadedBundle, files: LoraFiles) -> None:
    with pytest.raises(BundleError, match="not opened from a bundle"):
        BatchingService(replace(demo, source=None), BatchingSettings(), loras=files)


def test_a_file_that_changes_later_is_refused_until_it_is_back(
    demo: LoadedBundle, make_service: MakeService, tmp_path: Path, log: Logged
) -> None:
    path = make_lora(tmp_path / "style.safetensors", "denoiser", seed=1)
    content = path.read_bytes()
    service = make_service(loras={"style": ((str(path), 1.0),)})
    first = paint(service, {"style": 0.5})
    make_lora(path, "denoiser", seed=2)
    paint(service, {"style": 0.5})  # is in memory
    error = submit(service, {"style": 0.25}).error()
    assert isinstance(error, ModelLoadError)
    assert str(tmp_path) not in str(error)
    assert isinstance(error.__cause__, LoraFileError)
    assert "changed since the server was started" in log.only(message="LoRAs cannot be loaded")["exception"]
    path.write_bytes(content)
    assert largest_difference(paint(service, {"style": 0.25}), first) > 0


def test_weights_that_half_precision_cannot_hold_are_refused(tiny_half_bundle: Path, tmp_path: Path) -> None:
    loaded = load_bundle(tiny_half_bundle, backend_options={"threads": 1})
    shape = (4, loaded.manifest.architecture.latent_channels * 4, 3, 3)
    path = tmp_path / "large.safetensors"
    save_file({"unet.conv_out.diff": np.full(shape, 5000, np.float32)}, path)
    with BatchingService(loaded, BatchingSettings(), loras={"large": ((str(path), 1.0),)}) as service:
        error = submit(service, {"large": 20.0}).error()
        assert isinstance(error, ParameterError)
        assert isinstance(error.__cause__, LoraMismatchError)
        assert (error.parameter, error.received) == ("lora", "large:20")
        submit(service, {}).finished()


def test_loading_says_so_in_the_log(make_service: MakeService, files: LoraFiles, log: Logged) -> None:
    service = make_service(loras={"style": files["style"]}, lora_memory=11_000_000)
    paint(service, {"style": 0.5})
    first, second = log.lines(message="LoRAs loaded")
    assert (first["lora"], second["lora"]) == ("style", "style:0.5")
    assert second["bytes"] == service.snapshot.lora_bytes
    assert log.only(message="LoRAs dropped")["lora"] == "style"


def test_a_bundle_that_is_damaged_later_loads_no_loras(files: LoraFiles, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(find_bundle("demo"), folder)
    loaded = load_bundle(folder, backend_options={"threads": 1})
    (folder / "denoiser" / "model.onnx.data").write_bytes(b"")
    ((path, scale),) = files["style"]
    with pytest.raises(BundleIntegrityError):
        load_variant(loaded, open_loras([(path, scale)]))


def test_what_a_choice_is(demo: LoadedBundle, files: LoraFiles) -> None:
    library = LoraLibrary(demo, files)
    assert library.names == ("style", "detail", "words")
    assert library.choose({}) == library.choose({"style": 0.004}) == library.choose_one(None) == NO_LORAS
    assert library.choose({"words": 1.0, "style": 0.801}) == library.choose({"style": 0.8, "words": 1})
    assert [str(library.choose(weights)) for weights in ({}, {"words": 1, "style": -0.5})] == [
        "none",
        "style:-0.5+words",
    ]
    nbytes = [library.nbytes(library.choose_one(name)) for name in library.names]
    assert nbytes[0] == nbytes[1] < nbytes[2]
    assert library.nbytes(NO_LORAS) == 0


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"paint": 1.0}, "does not have the LoRA"),
        ({"style": 100.1}, "out of range"),
        ({"style": float("nan")}, "out of range"),
    ],
)
def test_a_choice_of_what_is_not_there(
    demo: LoadedBundle, files: LoraFiles, weights: Weights, words: str
) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        LoraLibrary(demo, files).choose(weights)
    assert caught.value.parameter == "lora"
    with pytest.raises(InpaintError) as refused:
        LoraLibrary(demo, {}).choose_one("style")
    assert "without --lora" in str(refused.value.expected)
