"""From a runner of the catalogue to its process: its environment, its variables, its command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import inpaintrt_bench
from inpaintrt.store import cache_folder
from inpaintrt_bench.processes import KEEP_BYTE_CODE
from inpaintrt_bench.runners.catalogue import Environment, RunnerSpec
from inpaintrt_bench.runners.process import RunnerError, RunnerProcess
from inpaintrt_bench.workers.messages import Source

__all__ = ["Launcher", "copy_workers", "environments_folder", "make_environment"]

_DONE = "complete"


def environments_folder() -> Path:
    """The folder of the user's cache that holds environments."""
    return cache_folder() / "benchmark-environments"


def make_environment(
    environment: Environment, folder: Path, progress: Callable[[str], None] = lambda _: None
) -> Path:
    """Make an environment, unless it is there.

    Args:
        environment: What is in it.
        folder: Where environments are kept.
        progress: Called when packages are being installed.

    Returns:
        Its interpreter.

    Raises:
        RunnerError: pip failed; nothing is left behind then.
    """
    home = folder / environment.key
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (home / _DONE).is_file():
        return python
    shutil.rmtree(home, ignore_errors=True)
    progress(f"{environment.name}: installing {' '.join(environment.requirements)}")
    venv.create(home, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *environment.requirements]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shutil.rmtree(home, ignore_errors=True)
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise RunnerError(
            f"pip could not install {' '.join(environment.requirements)}",
            received=" ".join(errors) or result.stderr.strip(),
            hint="check the network and pip's settings",
        )
    if environment.on_top:
        _lay_on_top(python)
    (home / _DONE).touch()
    return python


def _lay_on_top(python: Path) -> None:
    """Let an environment see this one's packages after its own; `addsitedir` follows .pth files as well."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    beneath = sysconfig.get_path("purelib")
    line = f"import site; site.addsitedir({beneath!r})\n"
    (Path(result.stdout.strip()) / "beneath.pth").write_text(line)


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Starts runners that all load the same.

    Attributes:
        checkpoint: A diffusers folder, or None.
        bundle: A bundle's folder, or None.
        threads: Threads on the CPU; None for each library's own choice.
        work: A folder for what runners make, print and paint.
        timeout: Seconds that an order may take.
        progress: Called with what is being done.
    """

    checkpoint: Path | None
    bundle: Path | None
    threads: int | None
    work: Path
    timeout: float
    progress: Callable[[str], None] = lambda _: None

    def prepare(self, spec: RunnerSpec) -> None:
        """Make a runner's environment and what it needs beside the checkpoint, in a process of its own.

        Raises:
            RunnerError: It cannot run here; the message says why.
        """
        if (self.bundle if spec.needs == "bundle" else self.checkpoint) is None:
            raise RunnerError(f"there is no {spec.needs}: name one with --{spec.needs}")
        if spec.prepares is not None:
            self.progress(f"{spec.name}: preparing")
            source = self.source(spec)
            Path(source.work).mkdir(parents=True, exist_ok=True)
            with self.launch(spec) as process:
                process.prepare(source)

    def launch(self, spec: RunnerSpec) -> RunnerProcess:
        """Start a runner's process, which has loaded nothing yet.

        Raises:
            RunnerError: Its environment cannot be made.
        """
        folder = self.work / spec.name
        folder.mkdir(parents=True, exist_ok=True)
        python, variables = sys.executable, self._variables()
        if spec.environment is not None:
            python = str(make_environment(spec.environment, environments_folder(), self.progress))
            variables["PYTHONPATH"] = str(copy_workers(folder))
        # -P: the current folder's modules are not to be found by accident.
        command = [python, "-P", "-m", "inpaintrt_bench.workers", spec.module]
        return RunnerProcess(command, variables, folder, timeout=self.timeout)

    def source(self, spec: RunnerSpec) -> Source:
        """What a runner loads."""
        return Source(
            checkpoint=None if self.checkpoint is None else str(self.checkpoint),
            bundle=None if self.bundle is None else str(self.bundle),
            threads=self.threads,
            work=str(self.work / (spec.prepares or spec.name)),
            options=dict(spec.options),
        )

    def _variables(self) -> dict[str, str]:
        variables = {
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONWARNINGS": "ignore",
            **KEEP_BYTE_CODE,
        }
        if self.threads is not None:
            variables["OMP_NUM_THREADS"] = str(self.threads)
        return variables


def copy_workers(folder: Path) -> Path:
    """Make a folder of imports that has the workers and nothing else of ours.

    Args:
        folder: Where to make it; an older one is replaced.

    Returns:
        What belongs into PYTHONPATH.
    """
    package = folder / "imports" / "inpaintrt_bench"
    shutil.rmtree(package, ignore_errors=True)
    (source,) = inpaintrt_bench.__path__
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(source) / "workers", package / "workers", ignore=ignore)
    (package / "__init__.py").touch()
    return package.parent
