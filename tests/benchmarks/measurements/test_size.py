"""The size of an installation: what is counted, and what a failure says."""

from pathlib import Path

from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt_bench.measurements.size import Installation, measure_installation, package_sizes


def _install(packages: Path, name: str, size: int) -> None:
    """Write a package of a file of so many bytes, as an installer records it."""
    (packages / name).mkdir(parents=True)
    (packages / name / "file").write_bytes(bytes(size))
    information = packages / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "RECORD").write_text(f"{name}/file,,\n{name}/gone,,\n")


def test_sizes_are_those_of_the_recorded_files_and_pip_is_left_out(tmp_path: Path) -> None:
    for name, size in (("rich", 1_000), ("numpy", 3_000_000), ("pip", 9_000_000)):
        _install(tmp_path, name, size)
    (tmp_path / "stray").write_bytes(bytes(5_000))
    sizes = package_sizes(tmp_path)
    assert sizes == {"numpy": 3_000_000, "rich": 1_000}
    assert list(sizes) == ["numpy", "rich"]


def test_an_installation_is_measured_in_an_environment_of_its_own(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "grain").mkdir(parents=True)
    (project / "grain" / "__init__.py").write_text('"""Sand."""\n')
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "grain"\nversion = "2.0"\n'
    )
    row = measure_installation(Installation("sand", (str(project),), "of the test"))
    assert row.status == "ok"
    assert row.versions == {"grain": "2.0"}
    assert row.values["bytes"] == row.values["package/grain"]
    assert 10 < int(str(row.values["bytes"])) < 20_000


def test_what_cannot_be_installed_is_a_row_with_pips_reason(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    row = measure_installation(Installation("nothing", (str(absent),), ""))
    assert row.status == "failed"
    assert row.reason is not None
    assert "absent" in row.reason
    assert row.values == {}


def test_an_unknown_installation_is_named() -> None:
    result = CliRunner().invoke(app, ["bench", "size", "--only", "abacus"])
    assert result.exit_code == 2
    assert "abacus is none of inpaintrt, diffusers" in result.output
