"""The process that is measured: what it imports is its own, and what it times adds up."""

import subprocess
import sys
import time
from pathlib import Path

import inpaintrt_bench
from benchmarks.odd import demo_launcher, odd
from inpaintrt_bench.runners.launching import copy_workers
from inpaintrt_bench.workers.clocks import HostClock, StageWatch


def test_workers_need_nothing_of_ours(tmp_path: Path) -> None:
    folder = copy_workers(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import inpaintrt_bench.workers.__main__ as main, inpaintrt_bench.workers.clocks\n"
        "print(main.__file__)\n"
        "print([name for name in ('inpaintrt', 'msgspec', 'click', 'torch') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    place, found = result.stdout.splitlines()
    assert Path(place).is_relative_to(folder)
    assert found == "[]"


def test_an_older_copy_of_the_workers_is_replaced(tmp_path: Path) -> None:
    copied = copy_workers(tmp_path) / "inpaintrt_bench" / "workers" / "messages.py"
    copied.write_text("old")
    copy_workers(tmp_path)
    (source,) = inpaintrt_bench.__path__
    assert copied.read_text() == (Path(source) / "workers" / "messages.py").read_text()


class _Library:
    def outer(self) -> str:
        time.sleep(0.02)
        return self.inner()

    def inner(self) -> str:
        time.sleep(0.01)
        return "done"

    def loop(self) -> None: ...


def test_a_function_within_another_stage_belongs_to_that_stage() -> None:
    library, watch = _Library(), StageWatch(HostClock())
    watch.follow(library, "outer", "first")
    watch.follow(library, "inner", "second")
    watch.follow_loop(library, "loop")
    assert library.outer() == "done"
    assert set(watch.stages()) == {"first", "denoise"}
    library.inner()
    library.loop()
    watch.end_step()
    time.sleep(0.01)
    watch.end_step()
    stages = watch.stages()
    assert stages["first"] >= 0.03
    assert stages["second"] >= 0.01
    assert len(watch.steps()) == 2
    assert stages["denoise"] == sum(watch.steps()) >= 0.01
    watch.reset()
    assert watch.stages() == {"denoise": 0}


def test_a_process_that_is_not_needed_any_more_ends(tmp_path: Path) -> None:
    with demo_launcher(tmp_path).launch(odd("never asked")) as process:
        assert Path(f"/proc/{process.pid}").exists() or sys.platform != "linux"
    assert not Path(f"/proc/{process.pid}").exists()
