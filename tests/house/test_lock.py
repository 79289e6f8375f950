"""`requirements.lock`: what the test command installs, on every Python that the project supports."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = ("cpu", "export", "bench", "serve", "test")
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
}
VERSIONS = ("3.11", "3.12", "3.13")


def _environment(version: str, system: str) -> Mapping[str, str]:
    given = {"python_version": version, "python_full_version": f"{version}.9", "extra": ""}
    return {**default_environment(), **SYSTEMS[system], **given}  # type: ignore[dict-item]


def _locked(environment: Mapping[str, str]) -> dict[str, str]:
    """Versions by name, each of one that `==` names exactly."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found: dict[str, str] = {}
    for requirement in (Requirement(line) for line in lines if line and not line.startswith("#")):
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            assert requirement.name not in found, f"{requirement.name} is locked twice"
            found[requirement.name] = pin.version
    return found


def _demanded() -> Iterator[Requirement]:
    project = PROJECT["project"]
    yield from map(Requirement, project["dependencies"])
    for extra in EXTRAS:
        yield from map(Requirement, project["optional-dependencies"][extra])


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_requirement_has_a_fitting_version(version: str, system: str) -> None:
    environment = _environment(version, system)
    locked = _locked(environment)
    for requirement in _demanded():
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            name = requirement.name.lower()
            assert name in locked, f"{name} is not locked: run .ci/lock"
            assert requirement.specifier.contains(locked[name]), f"{requirement}: run .ci/lock"


def test_the_versions_are_those_that_the_project_supports() -> None:
    assert PROJECT["project"]["requires-python"] == f">={VERSIONS[0]}"
    classifiers = PROJECT["project"]["classifiers"]
    assert [c.rpartition(" ")[2] for c in classifiers if ":: Python :: 3" in c] == list(VERSIONS)


def test_the_build_backend_is_the_one_that_is_locked() -> None:
    (backend,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert str(backend.specifier) == f"=={_locked(_environment('3.11', 'linux'))[backend.name]}"


def test_the_commands_use_the_lock() -> None:
    (command,) = (line for line in (ROOT / "README.md").read_text().splitlines() if "-m pytest" in line)
    extras = ",".join(EXTRAS)
    assert f".venv/bin/pip install -c requirements.lock -e '.[{extras}]'" in command
    script = (ROOT / ".ci" / "lock").read_text()
    assert all(f"--extra {extra} " in script for extra in EXTRAS)


def test_a_weekly_check_runs_without_the_lock() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "newest.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == list(VERSIONS)
    assert job["steps"][-1]["run"] == ".ci/run --newest"
    assert "command=${command/-c requirements.lock /}" in (ROOT / ".ci" / "run").read_text()
