"""From an ONNX file to a plan, with either library."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from inpaintrt.atomic import atomic_write
from inpaintrt.errors import PlanBuildError
from inpaintrt_export.builds.monitor import make_monitor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inpaintrt.backends.tensorrt_api import (
        Builder,
        IBuilderConfig,
        IBuilderConfigRtx,
        INetworkDefinition,
        OnnxParser,
        ParserError,
    )
    from inpaintrt.backends.tensorrt_library import PlanLibrary, Reports
    from inpaintrt_export.builds.monitor import BuildMonitor
    from inpaintrt_export.graphs.inputs import Shapes
    from inpaintrt_export.progress import Progress

__all__ = ["compile_plan", "parse_network"]

_MAX_ERRORS = 5
_TICK_SECONDS = 0.25


def compile_plan(
    library: PlanLibrary,
    path: Path,
    profiles: Sequence[Shapes],
    targets: Sequence[str],
    output: Path,
    progress: Progress,
    timing_cache: Path | None = None,
) -> None:
    """Compile a network, and write the plan to a file.

    The network is strongly typed: precision is what the ONNX graph says. An interrupt (Ctrl-C) cancels the
    build, and reaches the caller when the library has given up.

    Args:
        library: TensorRT or TensorRT-RTX.
        path: The ONNX file.
        profiles: Static shapes of all inputs.
        targets: Compute capabilities; empty for a portable plan, or for this machine's GPU.
        output: The plan's file, which is replaced.
        progress: Told the library's phase and how much of this build lies behind.
        timing_cache: Where TensorRT keeps what it measured; None for no cache. TensorRT-RTX measures nothing.

    Raises:
        PlanBuildError: The library cannot parse or build the network; the message names the nodes.
        OSError: The plan cannot be written.
    """
    monitor = make_monitor(library)
    with library.listen() as reports, concurrent.futures.ThreadPoolExecutor(1, "plan-builder") as pool:
        job = _Job(library, path, tuple(profiles), tuple(targets), output, timing_cache)
        future = pool.submit(job.run, monitor, reports)
        try:
            while not concurrent.futures.wait([future], _TICK_SECONDS).done:
                progress(monitor.phase, monitor.fraction)
        except BaseException:
            monitor.cancel()  # leaving the block waits for the library
            raise
        built = future.result()
    if not built:
        raise PlanBuildError(
            f"{library.backend} {library.version} cannot build a plan from {path}", received=str(reports)
        )


@dataclass(frozen=True)
class _Job:
    """A build in a thread of its own: an interrupt that arrives in one of the library's callbacks is lost."""

    library: PlanLibrary
    path: Path
    profiles: tuple[Shapes, ...]
    targets: tuple[str, ...]
    output: Path
    timing_cache: Path | None

    def run(self, monitor: BuildMonitor, reports: Reports) -> bool:
        builder = _make_builder(self.library, reports)
        network = parse_network(self.library, builder, self.path, reports)
        config = builder.create_builder_config()
        config.progress_monitor = monitor
        _add_profiles(builder, config, self.profiles)
        _add_targets(self.library, cast("IBuilderConfigRtx", config), self.targets)
        _load_timing_cache(config, self.timing_cache)
        with self.output.open("wb") as stream:
            writer = _make_writer(self.library, stream)
            built = builder.build_serialized_network_to_stream(network, config, writer)
        if writer.error is not None:
            raise writer.error
        if built and self.timing_cache is not None:
            _save_timing_cache(config, self.timing_cache)
        return built


class _PlanWriter:
    """Writes a plan as the library serializes it; in memory it would be as large as the weights.

    Attributes:
        error: Why it could not be written: the library's callbacks must not raise.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._stream = stream

    def write(self, data: bytes) -> int:
        """Write a part of the plan; how many bytes were written."""
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            return 0


def _make_writer(library: PlanLibrary, stream: BinaryIO) -> _PlanWriter:
    """A `_PlanWriter` that the library accepts as its IStreamWriter."""
    writer: _PlanWriter = type("PlanWriter", (_PlanWriter, library.module.IStreamWriter), {})(stream)
    return writer


def _make_builder(library: PlanLibrary, reports: Reports) -> Builder:
    builder: Builder | None
    try:
        builder = library.module.Builder(library.logger)
    except TypeError:  # how the binding says that the library returned nothing
        builder = None
    if builder is None:
        raise PlanBuildError(
            f"{library.backend} {library.version} cannot start to build",
            received=str(reports),
            hint="TensorRT builds on the machine's GPU and needs its driver; TensorRT-RTX needs no GPU",
        )
    return builder


def parse_network(library: PlanLibrary, builder: Builder, path: Path, reports: Reports) -> INetworkDefinition:
    """Parse an ONNX file, with its external weights, into a strongly typed network.

    Raises:
        PlanBuildError: The parser refuses the file; the message names the nodes.
    """
    module = library.module
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser: OnnxParser = module.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(path)):
        errors = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise PlanBuildError(
            f"{library.backend} {library.version} cannot read the network in {path}",
            received="\n".join(errors[:_MAX_ERRORS]) or str(reports),
            hint="export the checkpoint again, with `inpaintrt export`",
        )
    return network


def _describe(error: ParserError) -> str:
    place = f"node {error.node_name()} ({error.node_operator()}): " if error.node_operator() else ""
    return f"{place}{error.desc().strip()}"


def _add_profiles(builder: Builder, config: IBuilderConfig, profiles: Sequence[Shapes]) -> None:
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, shape in shapes.items():
            profile.set_shape(name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _add_targets(library: PlanLibrary, config: IBuilderConfigRtx, targets: Sequence[str]) -> None:
    """Name the compute capabilities to build for; TensorRT builds for the machine's GPU and names none."""
    if not library.names_targets or not targets:
        return
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(library.module.ComputeCapability, target.upper())
        if not config.set_compute_capability(capability, index):
            raise PlanBuildError(
                f"{library.backend} {library.version} does not build for this compute capability",
                received=target,
                expected="a GPU that the library supports",
                hint="leave the target out, or build it with the version of the library that knows it",
            )


def _load_timing_cache(config: IBuilderConfig, path: Path | None) -> None:
    if path is not None:
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)


def _save_timing_cache(config: IBuilderConfig, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_bytes(memoryview(config.get_timing_cache().serialize()))
