from pathlib import Path

from inpaintrt.bundle import COMPONENT_NAMES, load_manifest, verify_files


def test_manifest_describes_the_four_components(tiny_bundle: Path) -> None:
    manifest = load_manifest(tiny_bundle)
    verify_files(manifest, tiny_bundle)
    assert tuple(manifest.components) == COMPONENT_NAMES
