"""The memory of models with LoRAs: what stays, what makes room, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

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
from inpaintrt_server.batching import NO_LORAS, BatchingService, BatchingSettings, LoraFiles
from inpaintrt_server.batching.loras import LoraLibrary
from inpaintrt_server.errors import ModelBusyError, ModelLoadError
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.lora_tools import Alone, Recorder, Weights, paint, room_for, submit
from server.batching.tools import Ear, ask, hand_in
from server.conftest import Logged, wait_until
from server.loras import make_lora


def test_the_least_recently_used_makes_room(
    demo: LoadedBundle, make_service: MakeService, lora_files: LoraFiles
) -> None:
    unet = {name: lora_files[name] for name in ("style", "detail")}
    recorder = Recorder()
    service = make_service(loras=unet, observer=recorder, lora_memory=room_for(2, demo, lora_files))
    assert (service.snapshot.lora_models, service.snapshot.lora_bytes) == (2, room_for(2, demo, lora_files))
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
    demo: LoadedBundle, make_service: MakeService, lora_files: LoraFiles, alone: Alone
) -> None:
    unet = {name: lora_files[name] for name in ("style", "detail")}
    service = make_service(loras=unet, lora_memory=room_for(1, demo, lora_files))
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
    demo: LoadedBundle, make_service: MakeService, lora_files: LoraFiles
) -> None:
    unet = {name: lora_files[name] for name in ("style", "detail")}
    service = make_service(loras=unet, lora_memory=room_for(1, demo, lora_files))
    ear = Ear()
    loras = service.loras.choose_one("style")
    job = hand_in(service, ask(num_inference_steps=900), ear, loras=loras)
    wait_until(lambda: bool(ear.started))
    job.cancel()
    paint(service, {"detail": 1.0})


def test_loras_that_never_fit_are_refused(
    demo: LoadedBundle, make_service: MakeService, lora_files: LoraFiles
) -> None:
    with pytest.raises(ParameterError, match="more memory than this server gives them") as caught:
        BatchingService(demo, BatchingSettings(lora_memory=1000), loras=lora_files)
    assert "style, which takes about 10.1 MiB" in str(caught.value.received)
    assert "--lora-memory" in str(caught.value.hint)
    service = make_service(loras=lora_files, lora_memory=int(1.1 * room_for(1, demo, lora_files)))
    error = submit(service, {"style": 1.0, "detail": 1.0, "words": 1.0}).error()
    assert isinstance(error, ParameterError)
    assert error.parameter == "lora"
    assert "style+detail+words" in str(error.received)


@pytest.mark.parametrize("available", [0, None])
def test_by_default_the_largest_lora_always_fits(
    make_service: MakeService, lora_files: LoraFiles, monkeypatch: pytest.MonkeyPatch, available: int | None
) -> None:
    monkeypatch.setattr("inpaintrt_server.batching.service.available_bytes", lambda: available)
    service = make_service(loras=lora_files)
    assert service.snapshot.lora_models == 1
    for name in lora_files:
        paint(service, {name: 1.0})


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


def test_engines_that_come_from_no_bundle_take_no_loras(demo: LoadedBundle, lora_files: LoraFiles) -> None:
    with pytest.raises(BundleError, match="not opened from a bundle"):
        BatchingService(replace(demo, source=None), BatchingSettings(), loras=lora_files)


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


def test_a_bundle_that_is_damaged_later_loads_no_loras(lora_files: LoraFiles, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(find_bundle("demo"), folder)
    loaded = load_bundle(folder, backend_options={"threads": 1})
    (folder / "denoiser" / "model.onnx.data").write_bytes(b"")
    ((path, scale),) = lora_files["style"]
    with pytest.raises(BundleIntegrityError):
        load_variant(loaded, open_loras([(path, scale)]))


def test_what_a_choice_is(demo: LoadedBundle, lora_files: LoraFiles) -> None:
    library = LoraLibrary(demo, lora_files)
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
    demo: LoadedBundle, lora_files: LoraFiles, weights: Weights, words: str
) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        LoraLibrary(demo, lora_files).choose(weights)
    assert caught.value.parameter == "lora"
    with pytest.raises(InpaintError) as refused:
        LoraLibrary(demo, {}).choose_one("style")
    assert "without --lora" in str(refused.value.expected)
