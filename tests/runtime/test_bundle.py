"""The manifest: written, read back, and refused when it or its files are not what they should be."""

import json
from pathlib import Path

import msgspec
import pytest

from inpaintrt.bundle import (
    COMPONENT_NAMES,
    FORMAT_VERSION,
    MANIFEST_NAME,
    Architecture,
    AxisRange,
    Checkpoint,
    Component,
    Conversion,
    FileEntry,
    Manifest,
    Parity,
    Plan,
    TensorSpec,
    TokenizerSettings,
    Variant,
    describe_file,
    load_manifest,
    network_digest,
    save_manifest,
    verify_files,
)
from inpaintrt.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a manifest and files, which are not networks."""
    for name in COMPONENT_NAMES:
        (tmp_path / f"{name}.onnx").write_bytes(name.encode())
    (tmp_path / "tokenizer.json").write_text("{}")
    spec = TensorSpec(dtype="float32", shape=("batch", 3), ranges={"batch": AxisRange(min=1, max=8)})
    parity = (Parity(case="[1, 3]", max_absolute_error=1e-6, relative_error=1e-7),)
    components = {
        name: Component(
            file=f"{name}.onnx",
            precision="fp32",
            inputs={"sample": spec},
            outputs={"out": spec},
            form="step" if name == "denoiser" else None,
            parity=parity,
        )
        for name in COMPONENT_NAMES
    }
    paths = ["tokenizer.json", *(component.file for component in components.values())]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
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
        tokenizer=TokenizerSettings(
            file="tokenizer.json", max_length=77, start_token=0, end_token=1, pad_token=1
        ),
        components=components,
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


@pytest.mark.parametrize(("version", "hint"), [(FORMAT_VERSION + 1, "upgrade"), (0, "export")])
def test_another_format_is_refused_and_both_versions_named(bundle: Path, version: int, hint: str) -> None:
    _edit(bundle, format_version=version, a_field_of_the_future={})
    with pytest.raises(BundleFormatError, match=rf"(?s){version}.*{FORMAT_VERSION}.*{hint}"):
        load_manifest(bundle)


def test_an_unknown_field_is_refused(bundle: Path) -> None:
    _edit(bundle, surprise=1)
    with pytest.raises(BundleFormatError, match="surprise"):
        load_manifest(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": "one"}'])
def test_a_manifest_that_is_none_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(BundleFormatError, match="not a manifest"):
        load_manifest(bundle)


def test_a_missing_component_is_refused(bundle: Path) -> None:
    components = json.loads((bundle / MANIFEST_NAME).read_text())["components"]
    del components["denoiser"]
    _edit(bundle, components=components)
    with pytest.raises(BundleFormatError, match="four components"):
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


def _plan(manifest: Manifest, **changes: object) -> Plan:
    component = manifest.components["denoiser"]
    plan = Plan(
        component="denoiser",
        backend="tensorrt-rtx",
        library="1.7.1",
        precision="fp32",
        targets=("sm89",),
        profiles=({"sample": (1, 3)}, {"sample": (2, 3)}),
        inputs=component.inputs,
        outputs=component.outputs,
        network_sha256=network_digest(manifest, "denoiser"),
        key="0" * 64,
        file="denoiser.plan",
    )
    return msgspec.structs.replace(plan, **changes)


def test_plans_come_back_as_they_were_written(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    (bundle / "denoiser.plan").write_bytes(b"plan")
    files = (*manifest.files, describe_file(bundle, "denoiser.plan"))
    planned = msgspec.structs.replace(manifest, plans=(_plan(manifest),), files=files)
    save_manifest(planned, bundle)
    assert load_manifest(bundle) == planned
    verify_files(planned, bundle)


def test_a_plan_whose_file_is_not_listed_is_refused(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    save_manifest(msgspec.structs.replace(manifest, plans=(_plan(manifest),)), bundle)
    with pytest.raises(BundleFormatError, match=r"denoiser\.plan"):
        load_manifest(bundle)


def test_the_digest_of_a_network_covers_what_lies_beside_it(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    weights = [
        FileEntry(path="denoiser.onnx.data", size=1, sha256="1" * 64),
        FileEntry(path="elsewhere/denoiser.onnx.data", size=1, sha256="2" * 64),
    ]
    digests = [
        network_digest(msgspec.structs.replace(manifest, files=(*manifest.files, *extra)), "denoiser")
        for extra in ([], weights[:1], weights[1:])
    ]
    assert digests[0] == digests[2] != digests[1]


def _variant(manifest: Manifest) -> Variant:
    network = msgspec.structs.replace(manifest.components["denoiser"], file="onnxruntime-cuda.onnx")
    return Variant(
        component="denoiser",
        backend="onnxruntime-cuda",
        network=network,
        network_sha256=network_digest(manifest, "denoiser"),
        revision=1,
        fused={"MultiHeadAttention": 2},
    )


def test_variants_and_conversions_come_back_as_they_were_written(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    digest = network_digest(manifest, "denoiser")
    conversion = Conversion(
        component="vae_decoder",
        precision="fp32",
        network_sha256=network_digest(manifest, "vae_decoder"),
        revision=1,
        parity=manifest.components["vae_decoder"].parity,
    )
    for name in ("onnxruntime-cuda.onnx", "onnxruntime-cuda.onnx.data"):
        (bundle / name).write_bytes(b"variant")
    files = (
        *manifest.files,
        *(describe_file(bundle, path.name) for path in bundle.glob("onnxruntime-cuda*")),
    )
    added = msgspec.structs.replace(
        manifest, variants=(_variant(manifest),), conversions=(conversion,), files=files
    )
    save_manifest(added, bundle)
    assert load_manifest(bundle) == added
    assert network_digest(added, "denoiser") == digest  # plans that are there stay valid


def test_a_variant_whose_file_is_not_listed_is_refused(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    save_manifest(msgspec.structs.replace(manifest, variants=(_variant(manifest),)), bundle)
    with pytest.raises(BundleFormatError, match=r"onnxruntime-cuda\.onnx"):
        load_manifest(bundle)
