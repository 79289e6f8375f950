"""How much memory the steps of all slots may take together."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod

from inpaintrt.backends import Engine, UsesHostMemory
from inpaintrt.bundle import TINY_VAE, VAE, Activations, Architecture
from inpaintrt.errors import ParameterError
from inpaintrt.request import Request

__all__ = ["MemoryBudget", "megabytes"]

# Of networks that were not measured: more than Stable Diffusion 1.5 takes with attention as matrices.
_UNMEASURED = {
    "vae_encoder": Activations(per_position=300_000, per_pair=16),
    "denoiser": Activations(per_position=100_000, per_pair=100),
    "vae_decoder": Activations(per_position=300_000, per_pair=16),
    "tiny_vae_encoder": Activations(per_position=300_000, per_pair=0),
    "tiny_vae_decoder": Activations(per_position=300_000, per_pair=0),
}
_ROWS_OF_A_RESULT = 2
_ARENA = 1.5  # ONNX Runtime asks for memory in blocks of doubling size
_MEBIBYTE = 2**20


class MemoryBudget:
    """Bytes that runs of the engines may take beside their weights; engines on a GPU take none of it.

    A result takes as much as its rows of a step. Networks of the VAE run between steps, for one image at a
    time, and count only where one of them alone takes more.

    Args:
        engines: The components by name.
        limit: Bytes; None for half of `available`.
        available: Bytes that the machine has; None where nobody can tell.
        architecture: Of the checkpoint; where `limit` is None, one guided result of its native size always
            fits.

    Raises:
        ParameterError: The limit does not even allow one result of the native size.

    Attributes:
        limit: Bytes; None where there is no limit.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        limit: int | None,
        *,
        available: int | None,
        architecture: Architecture,
    ) -> None:
        self._factor = architecture.vae_scale_factor
        self._activations = {
            name: engine.activations or _UNMEASURED[name]
            for name, engine in engines.items()
            if name in _UNMEASURED and isinstance(engine, UsesHostMemory)
        }
        minimum = ceil(self._alone(_ROWS_OF_A_RESULT, prod(architecture.native_resolution)))
        if limit is not None and limit < minimum:
            raise ParameterError(
                "the memory budget is too small for one result of the checkpoint's native size",
                received=f"{megabytes(limit)} for all slots",
                expected=f"at least {megabytes(minimum)}",
                hint="raise --memory-budget, or leave it out",
            )
        self.limit = limit
        if limit is None and available is not None and self._activations:
            self.limit = max(available // 2, minimum)

    def step(self, rows: int, pixels: int) -> float:
        """Bytes of a step of so many rows, each of an image of so many pixels."""
        return self._run("denoiser", rows, pixels)

    def _run(self, name: str, count: int, pixels: int) -> float:
        activations = self._activations.get(name)
        return 0.0 if activations is None else _ARENA * activations.total(count, pixels // self._factor**2)

    def _alone(self, rows: int, pixels: int) -> float:
        """Bytes of the largest run that a result needs."""
        return max(self.step(rows, pixels), *(self._run(name, 1, pixels) for name in (*VAE, *TINY_VAE)))

    def fits(self, needed: float) -> bool:
        """Whether steps that need so many bytes together may run."""
        return self.limit is None or needed <= self.limit

    def check(self, request: Request, pixels: int) -> None:
        """Check that a result of a request fits when nothing else runs.

        Args:
            request: What is asked for.
            pixels: Of the size that it runs at.

        Raises:
            ParameterError: It does not.
        """
        rows = request.guidance.weights(1, has_negative=request.negatives is not None).shape[1]
        needed = self._alone(rows, pixels)
        if self.limit is not None and needed > self.limit:
            raise ParameterError(
                "the size to run at needs more memory than this server gives",
                received=f"{pixels} pixels, which take about {megabytes(needed)}",
                expected=f"at most {megabytes(self.limit)}",
                hint="ask for a smaller height and width, or start the server with a larger --memory-budget",
                parameter="height",
            )


def megabytes(amount: float) -> str:
    """An amount of memory for people."""
    return f"{amount / _MEBIBYTE:.1f} MiB"
