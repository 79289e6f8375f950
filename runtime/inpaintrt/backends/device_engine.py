"""Engines on a device: inputs go there, a network runs at fixed addresses, outputs come back.

The network's library (TensorRT, TensorRT-RTX, ONNX Runtime) stands behind `Network`; what is done with it is
the same for all: fit shapes to what it was built for, keep one buffer for each tensor, replay what was
recorded, and keep the state of a denoiser in place from step to step.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Protocol

import numpy as np

from inpaintrt.backends.device import Device, GrowingMemory, Staging
from inpaintrt.backends.device_state import DeviceState
from inpaintrt.backends.engine import Array, Engine, RowKey, StepState, check_inputs
from inpaintrt.backends.shapes import Shapes, axis_sizes, pad, resolve
from inpaintrt.bundle import CACHED_FEATURE, TensorSpec
from inpaintrt.conditioning import carried
from inpaintrt.errors import EngineRunError

__all__ = ["DeviceEngine", "Network"]


class Network(Protocol):
    """A network in its library, on a device."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Inputs by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Outputs by name."""
        ...

    @property
    def records(self) -> bool:
        """Whether runs are to be recorded by us; a library that records by itself says no."""
        ...

    @property
    def profiles(self) -> Sequence[Shapes]:
        """All shapes that the network was built for; empty if it takes any."""
        ...

    def fit(self, shapes: Shapes) -> Shapes:
        """The shapes of all inputs to run at, none smaller than those given.

        Raises:
            EngineInputError: The network was built for other sizes.
        """
        ...

    def prepare(self) -> int:
        """Have the network on the device; a number that changes when earlier bindings no longer hold."""
        ...

    def bind(self, shapes: Shapes, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Fix shapes of inputs and addresses of all tensors; the result enqueues a run on the stream.

        Raises:
            EngineRunError: The library refuses.
        """
        ...

    def close(self) -> None:
        """Release the network."""
        ...


class DeviceEngine:
    """An engine whose network runs on a device.

    Attributes:
        inputs: Inputs by name.
        outputs: Outputs by name.
        profiles: All shapes of inputs that the network was built for; empty if it takes any.
        device: Where it runs.

    Args:
        network: The network in its library.
        device: Where it runs; engines of one bundle share it.
        staging: The way there and back, shared as well.
    """

    def __init__(self, network: Network, device: Device, staging: Staging) -> None:
        self._network = network
        self.inputs, self.outputs = network.inputs, network.outputs
        self.profiles = network.profiles
        self.device, self._staging = device, staging
        self._memory: dict[str, GrowingMemory] = {}
        self._runs: dict[object, _Run] = {}
        self._resident: weakref.ref[DeviceState] | None = None
        # Called at the latest when Python exits: a library that outlives the device's context may crash.
        self._release = weakref.finalize(self, _release, network, device, self._runs, self._memory)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once, from host to host.

        Raises:
            EngineInputError: The inputs do not fit.
            EngineRunError: The library failed, or the engine is closed.
        """
        check_inputs(self.inputs, inputs)
        with self.device.use():
            self._make_room_for(None)
            given = {name: array.shape for name, array in inputs.items()}
            shapes = self.fit(given)
            addresses = self._reserve(shapes)
            for name, array in inputs.items():
                self._staging.upload(pad(array, shapes[name]), addresses[name])
            self._launch(shapes, addresses)
            return self._fetch(given, shapes, addresses)

    def _fetch(self, given: Shapes, shapes: Shapes, addresses: Mapping[str, int]) -> dict[str, Array]:
        outputs = {}
        for name, spec in self.outputs.items():
            whole = np.empty(resolve(spec, axis_sizes(self.inputs, shapes)), spec.dtype)
            self._staging.download(addresses[name], whole)
            wanted = resolve(spec, axis_sizes(self.inputs, given))
            outputs[name] = whole[tuple(slice(size) for size in wanted)]
        return outputs

    def open_state(self, slots: int, height: int, width: int, shallow: Engine | None = None) -> StepState:
        """State that stays on the device.

        Raises:
            EngineInputError: The network has fewer slots, or was built for other sizes.
            EngineRunError: The engine is closed.
        """
        return DeviceState(self, slots, height, width, shallow if isinstance(shallow, DeviceEngine) else None)

    def close(self) -> None:
        """Release the network and its memory on the device."""
        self._release()

    def fit(self, shapes: Shapes) -> Shapes:
        """What `Network.fit` says."""
        return self._open_network().fit(shapes)

    def advance(
        self,
        state: DeviceState,
        inputs: Mapping[str, Array],
        *,
        keep: Mapping[RowKey, int],
        take: Sequence[RowKey],
    ) -> None:
        """A step of a state, whose tensors are or come into the network's own buffers."""
        given = {name: array.shape for name, array in inputs.items()}
        shapes = self.fit(state.shapes | given | state.feature_shapes(len(take)))
        self._staging.synchronise()  # the step before is done; planning this one ran meanwhile
        addresses = self._reserve(shapes)
        self._make_room_for(state)
        self.settle(state)
        for name, array in state.changed(inputs, shapes, addresses).items():
            cast = array.astype(self.inputs[name].dtype, copy=False)
            self._staging.upload(pad(cast, shapes[name]), addresses[name])
        if take:
            state.features.take(addresses[CACHED_FEATURE], take)
        self._launch(shapes, addresses)
        if keep:
            state.features.keep(addresses[CACHED_FEATURE], keep)
        state.ahead = True

    def settle(self, state: DeviceState) -> None:
        """Make the next values of a resident state its values."""
        if state.ahead:
            for name, output in carried(self.outputs).items():
                self.device.copy(self._memory[name].address, self._memory[output].address, state.nbytes(name))
            state.ahead = False

    def upload(self, array: Array, address: int) -> None:
        """Send an array to an address of the device."""
        self._staging.upload(array, address)

    def download(self, address: int, array: Array) -> None:
        """Wait, and fetch an array from an address of the device."""
        self._staging.download(address, array)

    def reside(self, state: DeviceState) -> dict[str, int]:
        """Bring a state into the network's buffers; the addresses of its newest values by name."""
        self._reserve_profiles()
        for name, shape in state.shapes.items():
            self._buffer(name, shape, self.inputs[name])
        self._make_room_for(state)
        newest = carried(self.outputs) if state.ahead else {}
        return {name: self._memory[newest.get(name, name)].address for name in state.shapes}

    def release(self, state: DeviceState) -> None:
        """Have a state move to memory of its own, if it is in the network's buffers."""
        if self._resident is not None and self._resident() is state:
            self._make_room_for(None)

    def _make_room_for(self, state: DeviceState | None) -> None:
        """The network's state buffers hold one state at a time: the one before goes to memory of its own."""
        resident_state = self._resident() if self._resident is not None else None
        if resident_state is state and resident_state is not None:
            return
        if resident_state is not None:
            self.settle(resident_state)
            resident_state.move_out({name: self._memory[name].address for name in resident_state.shapes})
        self._resident = None
        if state is not None:
            state.move_in({name: self._memory[name].address for name in state.shapes})
            self._resident = weakref.ref(state)

    def _reserve(self, shapes: Shapes) -> dict[str, int]:
        self._reserve_profiles()
        self._reserve_for(shapes)
        return {name: memory.address for name, memory in self._memory.items()}

    def _reserve_profiles(self) -> None:
        """Room for the largest of all profiles at once, so that no address ever changes."""
        if not self._memory:
            for profile in self._open_network().profiles:
                self._reserve_for(profile)

    def _reserve_for(self, shapes: Shapes) -> None:
        sizes = axis_sizes(self.inputs, shapes)
        outputs = {name: resolve(spec, sizes) for name, spec in self.outputs.items()}
        specs = {**self.inputs, **self.outputs}
        for name, shape in {**shapes, **outputs}.items():
            self._buffer(name, shape, specs[name])

    def _buffer(self, name: str, shape: tuple[int, ...], spec: TensorSpec) -> None:
        memory = self._memory.setdefault(name, GrowingMemory(self.device))
        nbytes = prod(shape) * np.dtype(spec.dtype).itemsize
        if (spec.kind == "resident" or name in self.outputs) and nbytes > memory.nbytes > 0:
            self._make_room_for(None)
        memory.reserve(nbytes)

    def _launch(self, shapes: Shapes, addresses: Mapping[str, int]) -> None:
        network = self._open_network()
        epoch = network.prepare()
        key = (epoch, tuple(shapes.items()), tuple(addresses.items()))
        if key not in self._runs:
            # What was bound to buffers or to a load that are no more.
            for old in [old for old, run in self._runs.items() if not run.holds(epoch, addresses)]:
                del self._runs[old]
            self._runs[key] = _Run(network.bind(shapes, addresses), epoch, addresses)
        self._runs[key](self.device if network.records else None)

    def _open_network(self) -> Network:
        if not self._release.alive:
            raise EngineRunError("the engine is closed", hint="open the bundle again")
        return self._network


def _release(
    network: Network, device: Device, runs: dict[object, _Run], memory: dict[str, GrowingMemory]
) -> None:
    with device.use():
        try:
            device.synchronise()
        finally:
            runs.clear()
            memory.clear()
            network.close()


class _Run:
    """A bound run: the first time as it is, to warm up; then recorded, and replayed ever after."""

    def __init__(self, enqueue: Callable[[], None], epoch: int, addresses: Mapping[str, int]) -> None:
        self._enqueue = enqueue
        self._replay: Callable[[], None] | None = None
        self._warm = False
        self._bound = (epoch, dict(addresses))

    def holds(self, epoch: int, addresses: Mapping[str, int]) -> bool:
        return self._bound == (epoch, dict(addresses))

    def __call__(self, recorder: Device | None) -> None:
        if recorder is not None and self._warm and self._replay is None:
            self._replay = recorder.capture(self._enqueue)
        (self._replay or self._enqueue)()
        self._warm = True
