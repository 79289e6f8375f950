"""Which plan is taken, and why none is."""

from pathlib import Path

import msgspec
import pytest

from bundles import SD_COMPONENTS, builds_for
from inpaintrt.bundle import (
    FORMAT_VERSION,
    Architecture,
    Build,
    Checkpoint,
    FileEntry,
    FusedLora,
    Manifest,
    TensorSpec,
    TokenizerSettings,
    choose_builds,
    network_digest,
)
from inpaintrt.errors import PlanError

SPEC = {"sample": TensorSpec(dtype="float16", shape=("batch", 4))}


def _manifest(*plans: Build) -> Manifest:
    files = [FileEntry(path=f"{name}/model.onnx", size=1, sha256=name[0] * 64) for name in SD_COMPONENTS]
    exported = [
        Build(component=name, precision="fp16", inputs=SPEC, outputs=SPEC, files=(f"{name}/model.onnx",))
        for name in SD_COMPONENTS
    ]
    return Manifest(
        format_version=FORMAT_VERSION,
        family="sd",
        name="made",
        producer={},
        checkpoint=Checkpoint(id="nowhere"),
        architecture=Architecture(
            latent_channels=4,
            vae_scale_factor=8,
            latent_scale=1.0,
            context_width=8,
            prediction_type="epsilon",
            native_resolution=(64, 64),
        ),
        scheduler={},
        tokenizers={
            "text_encoder": TokenizerSettings(
                file="tokenizer.json", max_length=77, start_token=0, end_token=1, pad_token=1
            )
        },
        builds=(*exported, *plans),
        files=tuple(files),
    )


def _plans(key: str = "a", **changes: object) -> list[Build]:
    empty = _manifest()
    plans = [
        Build(
            component=name,
            backend="tensorrt-rtx",
            library="1.7.1",
            precision="fp16",
            targets=("sm86", "sm89"),
            profiles=({"sample": (1, 4)},),
            inputs=SPEC,
            outputs=SPEC,
            network_sha256=network_digest(empty, name),
            key=key * 64,
            files=(f"plans/{key}-{name}.plan",),
        )
        for name in SD_COMPONENTS
    ]
    return [msgspec.structs.replace(plan, **changes) for plan in plans]


def _select(
    manifest: Manifest, backend: str = "tensorrt-rtx", library: str = "1.7.1", target: str = "sm89"
) -> dict[str, Build]:
    return choose_builds(manifest, backend, library=library, target=target)


def test_the_newest_plan_that_fits_is_taken() -> None:
    old, new, other = _plans("a"), _plans("b"), _plans("c", targets=("sm120",))
    chosen = _select(_manifest(*old, *new, *other))
    assert list(chosen) == list(SD_COMPONENTS)
    assert {plan.key[0] for plan in chosen.values()} == {"b"}


def test_a_portable_plan_fits_every_gpu() -> None:
    assert _select(_manifest(*_plans(targets=())), target="sm121")


@pytest.mark.parametrize(
    ("asked", "received"),
    [
        ({"library": "1.8"}, "a plan built by version 1.7.1"),
        ({"target": "sm120"}, "a plan for sm86, sm89"),
        ({"backend": "tensorrt"}, "plans for tensorrt-rtx"),
    ],
)
def test_both_sides_and_the_cure_are_named(asked: dict[str, str], received: str) -> None:
    with pytest.raises(PlanError) as caught:
        _select(_manifest(*_plans()), **asked)
    assert caught.value.received == received
    assert str({"library": "1.7.1", "target": "sm89", **asked}["target"]) in str(caught.value.expected)
    assert "inpaintrt build made --backend" in str(caught.value.hint)


def test_a_bundle_without_plans_says_so() -> None:
    with pytest.raises(PlanError, match=r"(?s)no plan of its text_encoder.*plans for no backend"):
        _select(_manifest())


def test_a_plan_of_another_network_is_refused() -> None:
    with pytest.raises(PlanError, match="a plan of another network, 000000000000 instead of"):
        _select(_manifest(*_plans(network_sha256="0" * 64)))


A = FusedLora(name="a.safetensors", sha256="a" * 64, scale=0.5)
B = FusedLora(name="b.safetensors", sha256="b" * 64, scale=1.0)


def test_plans_with_loras_are_taken_for_the_same_loras_alone() -> None:
    plain, changed = _plans("a"), _plans("b", loras=(A, B))
    manifest = _manifest(*plain, *changed)
    chosen = choose_builds(
        manifest, "tensorrt-rtx", library="1.7.1", target="sm89", loras={"denoiser": (A, B)}
    )
    assert {name for name, plan in chosen.items() if plan.loras} == {"denoiser"}
    assert not any(plan.loras for plan in _select(manifest).values())


@pytest.mark.parametrize(
    ("built", "asked", "received"),
    [
        ((), (A,), "a plan without LoRAs"),
        ((A, B), (B, A), "a plan with a.safetensors:0.5, b.safetensors:1"),
        ((A,), (msgspec.structs.replace(A, scale=0.6),), "a plan with a.safetensors:0.5"),
        ((A,), (), "a plan with a.safetensors:0.5"),
    ],
)
def test_a_plan_with_other_loras_is_refused_and_the_command_is_told(
    built: tuple[FusedLora, ...], asked: tuple[FusedLora, ...], received: str
) -> None:
    manifest = _manifest(*_plans(loras=built))
    wanted = dict.fromkeys(SD_COMPONENTS, asked)
    with pytest.raises(PlanError) as caught:
        choose_builds(manifest, "tensorrt-rtx", library="1.7.1", target="sm89", loras=wanted)
    assert caught.value.received == received
    options = "".join(f" --lora {lora.text}" for lora in asked)
    assert f"--backend tensorrt-rtx{options} --target sm89" in str(caught.value.hint)


def test_plans_that_were_really_built_are_found(planned_bundle: Path) -> None:
    from inpaintrt.bundle import load_manifest

    manifest = load_manifest(planned_bundle)
    library = builds_for(manifest, "tensorrt-rtx")[0].library
    assert len(_select(manifest, library=library)) == len(SD_COMPONENTS)
    with pytest.raises(PlanError, match="sm90"):
        _select(manifest, library=library, target="sm90")
