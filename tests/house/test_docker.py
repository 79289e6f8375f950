"""The images cannot be built here, so their files are linted, and what they name is looked up."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from dockerfile_parse import DockerfileParser

from inpaintrt.backends import DEFAULT_BACKEND, backend_names
from inpaintrt.bundle import MANIFEST_NAME
from inpaintrt.cli import app
from inpaintrt_server.settings import ENVIRONMENT_PREFIX, ServerSettings

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "Dockerfile.cuda"]
HADOLINT = Path(sys.executable).parent / "hadolint"

each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def _instructions(dockerfile: Path, name: str) -> list[str]:
    structure = DockerfileParser(fileobj=StringIO(dockerfile.read_text())).structure
    return [part["value"] for part in structure if part["instruction"] == name]


def _copied(dockerfile: Path) -> Iterator[Path]:
    """What an image takes from this folder."""
    for words in map(shlex.split, _instructions(dockerfile, "COPY")):
        if not words[0].startswith("--from="):
            yield from (ROOT / word for word in words[:-1])


def _command(dockerfile: Path) -> list[str]:
    entry, command = (_instructions(dockerfile, name)[-1] for name in ("ENTRYPOINT", "CMD"))
    return [*json.loads(entry), *json.loads(command)]


def _compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return content


@each_dockerfile
def test_the_linter_finds_nothing(dockerfile: Path) -> None:
    result = subprocess.run([HADOLINT, dockerfile], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nUSER root\n")
    result = subprocess.run([HADOLINT, bad], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "DL3006" in result.stdout
    assert "DL3002" in result.stdout


@each_dockerfile
def test_base_images_are_pinned_to_a_full_version(dockerfile: Path) -> None:
    bases = [value.split()[0] for value in _instructions(dockerfile, "FROM")]
    assert bases
    for base in bases:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.-]+", base), base


@each_dockerfile
def test_the_server_does_not_run_as_root(dockerfile: Path) -> None:
    user = _instructions(dockerfile, "USER")[-1]
    assert int(user) > 0
    assert any(f"--uid {user} " in line for line in _instructions(dockerfile, "RUN"))


@each_dockerfile
def test_the_extras_exist(dockerfile: Path) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", " ".join(_instructions(dockerfile, "RUN")))
    assert {"serve"} < set(extras.split(",")) <= set(known)


@each_dockerfile
def test_what_is_copied_exists_and_is_sent_to_the_builder(dockerfile: Path) -> None:
    sent = {
        (ROOT / line[1:]).resolve()
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for path in _copied(dockerfile):
        assert path.exists(), path
        assert path.resolve() in sent, path
    assert all(path.exists() for path in sent)


def test_what_is_copied_is_enough_to_install(tmp_path: Path) -> None:
    for path in _copied(DOCKERFILES[0]):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            copytree(path, target, ignore=ignore_patterns("__pycache__"))
        else:
            copy(path, target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist")]
    subprocess.run([*build, str(tmp_path)], check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"inpaintrt/engines/demo/{MANIFEST_NAME}", "inpaintrt_server/__init__.py"} <= names
    page = ROOT / "runtime" / "inpaintrt_server" / "ui" / "static"
    assert {f"inpaintrt_server/ui/static/{path.name}" for path in page.iterdir()} <= names


def test_both_images_are_made_of_the_same_files() -> None:
    assert list(_copied(DOCKERFILES[0])) == list(_copied(DOCKERFILES[1]))


@each_dockerfile
def test_the_command_is_one_that_the_server_knows(dockerfile: Path) -> None:
    program, subcommand, bundle, *options = _command(dockerfile)
    assert (program, subcommand, bundle) == ("inpaintrt", "serve", "demo")
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    for flag in options[::2]:
        assert re.search(rf"{flag}\b", shown.output), flag
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given.get("--backend", DEFAULT_BACKEND) in backend_names()
    assert given["--port"] == _instructions(dockerfile, "EXPOSE")[-1]
    assert f"127.0.0.1:{given['--port']}/healthz" in _instructions(dockerfile, "HEALTHCHECK")[-1]


@each_dockerfile
def test_the_environment_is_one_that_the_server_knows(dockerfile: Path) -> None:
    (environment,) = _instructions(dockerfile, "ENV")
    names = {word.partition("=")[0] for word in shlex.split(environment)} - {"PATH"}
    known = {f"{ENVIRONMENT_PREFIX}{field.upper()}" for field in ServerSettings.model_fields}
    assert names - {"INPAINTRT_ENGINES"} <= known


def test_compose_builds_both_and_hands_the_keys_over() -> None:
    compose = _compose()
    services = compose["services"]
    built = {
        "Dockerfile" if service["build"] == "." else service["build"]["dockerfile"]
        for service in services.values()
    }
    assert built == {path.name for path in DOCKERFILES}
    for service in services.values():
        assert service["secrets"] == list(compose["secrets"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for dockerfile in DOCKERFILES:
        command = _command(dockerfile)
        (secret,) = compose["secrets"]
        assert command[command.index("--api-key-file") + 1] == f"/run/secrets/{secret}"
