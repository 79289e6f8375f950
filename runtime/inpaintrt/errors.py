"""Every error that inpaintrt raises on purpose.

InpaintError
├── InputError                  a request cannot be served as it stands
│   ├── ImageError              the image: type, mode, size, file
│   ├── MaskError               the mask: type, size, nothing to repaint
│   ├── PromptError             the prompt: type, length, number
│   ├── ParameterError          a number out of its range, options that exclude each other
│   ├── LatentsError            latents or noise that were handed in: shape, dtype, NaN
│   └── SchedulerError          an unknown sampler, or a scheduler configuration that no table can express
├── BundleError
│   ├── BundleNotFoundError     no bundle of that name or path
│   ├── BundleFormatError       a manifest that this version cannot read
│   └── BundleIntegrityError    a file is missing or is not the one that was exported
├── LoraError
│   ├── LoraFileError           a LoRA file that is missing, damaged, or of a kind that is not known
│   └── LoraMismatchError       a LoRA changes what the networks do not have, or cannot be applied there
├── EngineError
│   ├── EngineUnavailableError  the library or the device that a backend needs is not there
│   ├── PlanError               no plan that this library, GPU and network can run
│   ├── EngineInputError        tensors that do not fit an engine's inputs
│   └── EngineRunError          an engine failed while running
│       └── EngineMemoryError   the device has too little memory
└── ExportError
    ├── SourceError             a checkpoint that is missing, incomplete, or not an inpainting checkpoint
    ├── UnsafeWeightsError      pickled weights, which execute code when read
    ├── OutputFolderError       the output folder holds something else
    ├── DiskSpaceError          too little room for the export
    ├── ParityError             a component does not compute what PyTorch computes
    └── PlanBuildError          TensorRT or TensorRT-RTX cannot compile a network
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleNotFoundError",
    "DiskSpaceError",
    "EngineError",
    "EngineInputError",
    "EngineMemoryError",
    "EngineRunError",
    "EngineUnavailableError",
    "ExportError",
    "ImageError",
    "InpaintError",
    "InputError",
    "LatentsError",
    "LoraError",
    "LoraFileError",
    "LoraMismatchError",
    "MaskError",
    "OutputFolderError",
    "ParameterError",
    "ParityError",
    "PlanBuildError",
    "PlanError",
    "PromptError",
    "SchedulerError",
    "SourceError",
    "UnsafeWeightsError",
]


class InpaintError(Exception):
    """Base of the tree: says what is wrong, what was received, what was expected, and what to do.

    Args:
        what: One sentence that names the thing that is wrong.
        received: The offending value, as the user would recognise it.
        expected: What would have been right.
        hint: What to do about it.
    """

    def __init__(
        self, what: str, *, received: object = None, expected: object = None, hint: str | None = None
    ) -> None:
        self.what = what
        self.received = received
        self.expected = expected
        self.hint = hint
        details = [("received", received), ("expected", expected), ("what to do", hint)]
        super().__init__(
            "\n".join([what, *(f"  {name}: {text}" for name, text in details if text is not None)])
        )


class InputError(InpaintError, ValueError):
    """A request cannot be served as it stands.

    Args:
        what: One sentence that names the thing that is wrong.
        received: The offending value, as the user would recognise it.
        expected: What would have been right.
        hint: What to do about it.
        parameter: The pipeline's parameter that is to blame, where it is one.
    """

    def __init__(
        self,
        what: str,
        *,
        received: object = None,
        expected: object = None,
        hint: str | None = None,
        parameter: str | None = None,
    ) -> None:
        super().__init__(what, received=received, expected=expected, hint=hint)
        self.parameter = parameter


class ImageError(InputError):
    """An image has the wrong type, mode or size, or its file cannot be read."""


class MaskError(InputError):
    """A mask has the wrong type or size, or leaves nothing to repaint."""


class PromptError(InputError):
    """A prompt has the wrong type or length, or there are too many or too few."""


class ParameterError(InputError):
    """A parameter is out of its range, or two parameters exclude each other."""


class LatentsError(InputError):
    """Latents that were handed in have the wrong shape or dtype, or are not finite."""


class SchedulerError(InputError):
    """A sampler is unknown, or a scheduler configuration cannot be expressed as a table."""


class BundleError(InpaintError):
    """A bundle cannot be used."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle of that name or path."""


class BundleFormatError(BundleError):
    """A manifest cannot be read by this version."""


class BundleIntegrityError(BundleError):
    """A file of a bundle is missing, or is not the one that was exported."""


class LoraError(InpaintError, ValueError):
    """A LoRA cannot be applied."""


class LoraFileError(LoraError):
    """A LoRA file is missing or damaged, or holds factors of a kind that is not known."""


class LoraMismatchError(LoraError):
    """A LoRA changes weights that the networks do not have, or that cannot be changed where they are."""


class EngineError(InpaintError):
    """An engine cannot be used."""


class EngineUnavailableError(EngineError):
    """The library or the device that a backend needs is not there."""


class PlanError(EngineError):
    """There is no plan for a backend, or it is not for this library version, GPU or network."""


class EngineInputError(EngineError, ValueError):
    """Tensors do not fit the inputs of an engine."""


class EngineRunError(EngineError, RuntimeError):
    """An engine failed while running."""


class EngineMemoryError(EngineRunError):
    """A device has too little free memory."""


class ExportError(InpaintError):
    """A checkpoint cannot be exported."""


class SourceError(ExportError):
    """A checkpoint is missing, incomplete, or not an inpainting checkpoint."""


class UnsafeWeightsError(ExportError):
    """Weights are pickled, and reading a pickle executes code."""


class OutputFolderError(ExportError):
    """The output folder holds something that is not ours to replace."""


class DiskSpaceError(ExportError):
    """There is too little room on the disk for what is about to be written."""


class ParityError(ExportError):
    """An exported component does not compute what PyTorch computes."""


class PlanBuildError(ExportError):
    """TensorRT or TensorRT-RTX cannot compile a network."""
