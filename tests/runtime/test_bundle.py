"""The manifest: written, read back, and refused when it or its files are not what they should be."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bundles import SD_COMPONENTS
from inpaintrt.bundle import (
    FAMILIES,
    FORMAT_VERSION,
    MANIFEST_NAME,
    Architecture,
    AxisRange,
    Build,
    Checkpoint,
    FileEntry,
    Manifest,
    Parity,
    TensorSpec,
    TokenizerSettings,
    add_builds,
    choose_builds,
    describe_file,
    drop_builds,
    load_manifest,
    network_digest,
    number_format,
    save_manifest,
    verify_files,
)
from inpaintrt.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError, ParameterError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a manifest and files, which are not networks."""
    for name in SD_COMPONENTS:
        (tmp_path / f"{name}.onnx").write_bytes(name.encode())
    (tmp_path / "tokenizer.json").write_text("{}")
    spec = TensorSpec(dtype="float32", shape=("batch", 3), ranges={"batch": AxisRange(min=1, max=8)})
    parity = (Parity(case="[1, 3]", max_absolute_error=1e-6, relative_error=1e-7),)
    builds = tuple(
        Build(
            component=name,
            precision="fp32",
            inputs={"sample": spec},
            outputs={"out": spec},
            files=(f"{name}.onnx",),
            form="step" if name == "denoiser" else None,
            parity=parity,
        )
        for name in SD_COMPONENTS
    )
    paths = ["tokenizer.json", *(build.file for build in builds)]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        family="sd",
        name="made",
        producer={"inpaintrt": "0.1.0"},
        checkpoint=Checkpoint(id="nowhere", revision=None, sha256="0" * 64),
        architecture=Architecture(
            latent_channels=4,
            vae_scale_factor=8,
            latent_scale=0.18215,
            context_width=32,
            prediction_type="epsilon",
            native_resolution=(64, 64),
        ),
        scheduler={"_class_name": "DDIMScheduler"},
        tokenizers={
            "text_encoder": TokenizerSettings(
                file="tokenizer.json", max_length=77, start_token=0, end_token=1, pad_token=1
            )
        },
        builds=builds,
        files=tuple(describe_file(tmp_path, path) for path in paths),
    )
    save_manifest(manifest, tmp_path)
    return tmp_path


def _edit(bundle: Path, **changes: object) -> None:
    path = bundle / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_manifest_survives_the_disk(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    save_manifest(manifest, bundle)
    assert load_manifest(bundle) == manifest
    assert sorted(path.name for path in bundle.iterdir() if path.name.startswith(".")) == []
    verify_files(manifest, bundle)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="inpaintrt export"):
        load_manifest(tmp_path)


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleNotFoundError):
        load_manifest(tmp_path / "file")


@pytest.mark.parametrize(("version", "hint"), [(FORMAT_VERSION + 1, "upgrade inpaintrt"), (0, "export")])
def test_another_format_is_refused_and_both_versions_named(bundle: Path, version: int, hint: str) -> None:
    _edit(bundle, format_version=version, a_field_of_the_future={})
    with pytest.raises(BundleFormatError, match=rf"(?s){version}.*{FORMAT_VERSION}.*{hint}"):
        load_manifest(bundle)


# What a manifest of format 1 said of where it came from, and the command that makes the bundle anew.
OLDER = [
    (
        {"checkpoint": {"id": "owner/name", "revision": "0123abc"}},
        "inpaintrt export owner/name --revision 0123abc -o {folder} --force",
    ),
    (
        {
            "checkpoint": {"id": "my model.safetensors", "sha256": "0"},
            "components": {"denoiser": {"form": "step", "precision": "fp16"}},
        },
        "inpaintrt export 'my model.safetensors' --precision fp16 -o {folder} --force",
    ),
    (
        {"checkpoint": {"id": "synthetic:tiny", "revision": "seed 3"}},
        "inpaintrt export synthetic:tiny --seed 3 -o {folder} --force",
    ),
    (
        {"checkpoint": {"id": "optimum"}, "components": {"denoiser": {"form": "unet", "precision": "fp16"}}},
        "inpaintrt import-onnx optimum -o {folder} --force",
    ),
    ({}, "inpaintrt export SOURCE -o {folder} --force"),
    ({"checkpoint": "unreadable"}, "inpaintrt export SOURCE -o {folder} --force"),
]


@pytest.mark.parametrize(("content", "command"), OLDER)
def test_the_command_that_replaces_an_older_bundle_is_named(
    tmp_path: Path, content: dict[str, object], command: str
) -> None:
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({"format_version": 1, **content}))
    with pytest.raises(BundleFormatError) as caught:
        load_manifest(tmp_path)
    assert (caught.value.received, caught.value.expected) == ("format_version 1", "format_version 2")
    assert caught.value.hint == f"export it again: `{command.format(folder=tmp_path)}`"


def test_an_unknown_family_is_refused_and_the_known_are_named(bundle: Path) -> None:
    _edit(bundle, family="sd9")
    with pytest.raises(BundleFormatError) as caught:
        load_manifest(bundle)
    assert (caught.value.received, caught.value.expected) == ("sd9", ", ".join(FAMILIES))


def test_an_unknown_field_is_refused(bundle: Path) -> None:
    _edit(bundle, surprise=1)
    with pytest.raises(BundleFormatError, match="surprise"):
        load_manifest(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": "one"}'])
def test_a_manifest_that_is_none_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(BundleFormatError, match="not a manifest"):
        load_manifest(bundle)


def _builds(bundle: Path) -> list[dict[str, object]]:
    builds: list[dict[str, object]] = json.loads((bundle / MANIFEST_NAME).read_text())["builds"]
    return builds


def test_a_missing_component_is_refused(bundle: Path) -> None:
    _edit(bundle, builds=[build for build in _builds(bundle) if build["component"] != "denoiser"])
    with pytest.raises(BundleFormatError, match="the components of a checkpoint"):
        load_manifest(bundle)


@pytest.mark.parametrize("names", [[], ["text_encoder", "vae"], ["text_encoder_2"]])
def test_tokenizers_that_do_not_belong_to_the_text_encoders_are_refused(
    bundle: Path, names: list[str]
) -> None:
    tokenizers = json.loads((bundle / MANIFEST_NAME).read_bytes())["tokenizers"]
    _edit(bundle, tokenizers=dict.fromkeys(names, tokenizers["text_encoder"]))
    with pytest.raises(BundleFormatError, match=r"tokenizer|components"):
        load_manifest(bundle)


def test_a_component_that_was_exported_twice_is_refused(bundle: Path) -> None:
    builds = _builds(bundle)
    _edit(bundle, builds=[*builds, builds[0]])
    with pytest.raises(BundleFormatError, match=r"received: .*text_encoder, text_encoder"):
        load_manifest(bundle)


def test_a_build_of_an_unknown_component_is_refused(bundle: Path) -> None:
    builds = _builds(bundle)
    _edit(bundle, builds=[*builds, {**builds[0], "component": "safety", "network_sha256": "0"}])
    with pytest.raises(BundleFormatError, match=r"received: .*safety"):
        load_manifest(bundle)


@pytest.mark.parametrize("change", [{}, {"backend": "tensorrt", "network_sha256": "0"}])
def test_a_build_without_files_is_refused(bundle: Path, change: dict[str, object]) -> None:
    builds = _builds(bundle)
    empty = {**builds[0], "files": [], **change}
    _edit(bundle, builds=[*builds, empty] if change else [empty, *builds[1:]])
    with pytest.raises(BundleFormatError, match=r"no file of its text_encoder"):
        load_manifest(bundle)


def test_a_file_that_is_not_listed_is_refused(bundle: Path) -> None:
    files = json.loads((bundle / MANIFEST_NAME).read_text())["files"]
    _edit(bundle, files=[entry for entry in files if entry["path"] != "denoiser.onnx"])
    with pytest.raises(BundleFormatError, match=r"denoiser\.onnx"):
        load_manifest(bundle)


def test_a_changed_byte_is_found(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    (bundle / "denoiser.onnx").write_bytes(b"denoiseR")
    with pytest.raises(BundleIntegrityError, match=r"(?s)denoiser\.onnx.*sha256"):
        verify_files(manifest, bundle)
    verify_files(manifest, bundle, hashes=False)


def test_another_size_is_found_without_hashing(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    (bundle / "denoiser.onnx").write_bytes(b"")
    with pytest.raises(BundleIntegrityError, match="0 bytes"):
        verify_files(manifest, bundle, hashes=False)


def test_a_missing_file_is_found(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    (bundle / "denoiser.onnx").unlink()
    with pytest.raises(BundleIntegrityError, match="missing"):
        verify_files(manifest, bundle)


def test_a_path_out_of_the_bundle_is_refused(bundle: Path) -> None:
    files = json.loads((bundle / MANIFEST_NAME).read_text())["files"]
    (bundle.parent / "outside").write_bytes(b"")
    _edit(bundle, files=[*files, {"path": "../outside", "size": 0, "sha256": ""}])
    with pytest.raises(BundleIntegrityError, match="outside the bundle"):
        verify_files(load_manifest(bundle), bundle)


def _plan(manifest: Manifest, **changes: object) -> Build:
    plan = msgspec.structs.replace(
        manifest.exported["denoiser"],
        backend="tensorrt-rtx",
        library="1.7.1",
        targets=("sm89",),
        profiles=({"sample": (1, 3)}, {"sample": (2, 3)}),
        network_sha256=network_digest(manifest, "denoiser"),
        key="0" * 64,
        files=("denoiser.plan",),
    )
    return msgspec.structs.replace(plan, **changes)


def _variant(manifest: Manifest) -> Build:
    return msgspec.structs.replace(
        manifest.exported["denoiser"],
        files=("onnxruntime-cuda.onnx", "onnxruntime-cuda.onnx.data"),
        backend="onnxruntime-cuda",
        network_sha256=network_digest(manifest, "denoiser"),
        revision=1,
        fused={"MultiHeadAttention": 2},
    )


def _conversion(manifest: Manifest) -> Build:
    return msgspec.structs.replace(
        manifest.exported["vae_decoder"],
        precision="fp16",
        files=(),
        network_sha256=network_digest(manifest, "vae_decoder"),
        revision=1,
        accepted=False,
    )


def _add(bundle: Path, build: Build) -> Build:
    for file in build.files:
        (bundle / file).write_bytes(file.encode())
    add_builds(bundle, build)
    return build


def test_builds_come_back_as_they_were_written(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    made = [make(manifest) for make in (_plan, _variant, _conversion)]
    for build in made:
        _add(bundle, build)
    changed = load_manifest(bundle)
    assert changed.builds == (*manifest.builds, *made)
    assert changed.exported == manifest.exported
    verify_files(changed, bundle)
    assert network_digest(changed, "denoiser") == network_digest(manifest, "denoiser")


@pytest.mark.parametrize("make", [_plan, _variant])
def test_a_build_whose_file_is_not_listed_is_refused(bundle: Path, make: Callable[[Manifest], Build]) -> None:
    manifest = load_manifest(bundle)
    build = make(manifest)
    save_manifest(msgspec.structs.replace(manifest, builds=(*manifest.builds, build)), bundle)
    with pytest.raises(BundleFormatError, match=build.file):
        load_manifest(bundle)


def test_a_build_replaces_that_of_the_same_purpose(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    _add(bundle, _plan(manifest))
    other = _plan(manifest, targets=("sm120",), files=("other.plan",))
    others = [_add(bundle, build) for build in (other, _variant(manifest))]
    new = _add(bundle, _plan(manifest, library="1.8", files=("new.plan",)))
    changed = load_manifest(bundle)
    assert changed.builds == (*manifest.builds, *others, new)
    assert not (bundle / "denoiser.plan").exists()
    verify_files(changed, bundle)


def test_a_dropped_build_leaves_nothing(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    before = sorted(path.name for path in bundle.iterdir())
    drop_builds(bundle, [_add(bundle, _variant(manifest))])
    left = load_manifest(bundle)
    assert left.builds == manifest.builds
    assert set(left.files) == set(manifest.files)
    assert sorted(path.name for path in bundle.iterdir()) == before


def test_a_build_of_another_network_is_not_added(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    with pytest.raises(BundleIntegrityError, match=r"(?s)changed.*inpaintrt build"):
        _add(bundle, msgspec.structs.replace(_variant(manifest), network_sha256="0" * 64))
    assert load_manifest(bundle) == manifest


def test_a_checked_conversion_is_no_build_that_a_backend_runs(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    _add(bundle, _conversion(manifest))
    assert choose_builds(load_manifest(bundle), "onnxruntime") == manifest.exported


def test_the_digest_of_a_network_covers_its_weights(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    weights = FileEntry(path="denoiser.onnx.data", size=1, sha256="1" * 64)
    beside = msgspec.structs.replace(manifest, files=(*manifest.files, weights))
    denoiser = manifest.exported["denoiser"]
    external = msgspec.structs.replace(denoiser, files=(*denoiser.files, weights.path))
    builds = tuple(external if build == denoiser else build for build in manifest.builds)
    digests = [
        network_digest(some, "denoiser")
        for some in (manifest, beside, msgspec.structs.replace(beside, builds=builds))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_precisions_are_an_open_set(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    variant = _add(bundle, msgspec.structs.replace(_variant(manifest), precision="int4"))
    assert choose_builds(load_manifest(bundle), "onnxruntime-cuda")["denoiser"] == variant


def test_an_unknown_precision_is_refused_where_its_meaning_is_needed() -> None:
    with pytest.raises(ParameterError) as caught:
        number_format("int4")
    assert (caught.value.received, caught.value.expected) == ("int4", "fp32 or fp16")
