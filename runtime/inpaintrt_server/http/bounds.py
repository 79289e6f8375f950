"""What a single request may ask for, whichever interface it comes through."""

from __future__ import annotations

from inpaintrt.errors import InputError, ParameterError, PromptError
from inpaintrt.options import Options, step_count
from inpaintrt.request import Request, make_request
from inpaintrt_server.http.context import Context
from inpaintrt_server.http.refusals import ImageTooLargeError
from inpaintrt_server.http.uploads import Upload
from inpaintrt_server.settings import ServerSettings

__all__ = ["make_bounded_request"]

_LONGEST_SIDE = 16384


def make_bounded_request(
    context: Context, prompt: str, options: Options, image: Upload | None = None, mask: bytes | None = None
) -> Request:
    """Make a request, and check prompts, steps, results and sizes against the server's limits.

    Args:
        context: Has the limits, of which memory is one.
        prompt: What to paint.
        options: All others of the pipeline.
        image: What to change; None for text-to-image.
        mask: The mask's file.

    Raises:
        InputError: `make_request` says so.
        PromptError: A prompt is too long.
        ParameterError: More steps, results, pixels or memory are asked for than the server gives.
        ImageTooLargeError: The image with its margins is too large.
    """
    stages = context.service.stages
    data = None if image is None else image.data
    request = make_request(prompt, data, mask, options, stages.family, stages.qualities)
    _check_bounds(request, image, context)
    return request


def _check_bounds(request: Request, upload: Upload | None, context: Context) -> None:
    settings = context.settings
    _check_prompts(request, settings)
    parameter, steps = step_count(request.options)
    _check("there are too many steps", steps, settings.max_steps, "steps", parameter)
    results = len(request.prompts)
    what = "too many results are asked for"
    _check(what, results, settings.max_results, "results", "num_images_per_prompt")
    if upload is not None:
        _check_canvas(request, upload, settings)
    _check_run(request, upload, context)


def _check_prompts(request: Request, settings: ServerSettings) -> None:
    given = {
        "prompt": request.prompts,
        "negative_prompt": request.negatives,
        "prompt_2": request.prompts_2,
        "negative_prompt_2": request.negatives_2,
    }
    for parameter, texts in given.items():
        longest = max(map(len, texts or ("",)))
        _check("the prompt is too long", longest, settings.max_prompt, "characters", parameter, PromptError)


def _check_canvas(request: Request, upload: Upload, settings: ServerSettings) -> None:
    left, top, right, bottom = request.options["margins"]
    # An image that lies on its side is turned later: its margins then go with the other sides.
    width, height = (
        max(upload.width, upload.height) + max(left + right, top + bottom)
        if any(request.options["margins"])
        else side
        for side in (upload.width, upload.height)
    )
    if max(width, height) > _LONGEST_SIDE or width * height > settings.max_pixels:
        raise ImageTooLargeError(
            "the image with its margins is too large",
            received=f"{upload.width} x {upload.height}, margins {left}, {top}, {right}, {bottom}",
            expected=f"at most {settings.max_pixels} pixels, and {_LONGEST_SIDE} a side",
            hint="make it smaller",
        )


def _check_run(request: Request, upload: Upload | None, context: Context) -> None:
    """Where only one side is given, the other follows the image's proportions, whichever way it lies.

    Without an image, it is the checkpoint's own.
    """
    height, width = request.options["height"], request.options["width"]
    if height is None and width is None:
        return
    given = height or width or 0
    if height and width:
        pixels = height * width
    elif upload is None:
        pixels = given * max(context.service.stages.manifest.architecture.native_resolution)
    else:
        pixels = int(given * given * max(upload.width, upload.height) / min(upload.width, upload.height))
    what, parameter = "the size to run at is too large", "height" if height else "width"
    _check(what, pixels, context.settings.max_run_pixels, "pixels", parameter)
    context.service.budget.check(request, pixels)


def _check(
    what: str,
    received: int,
    limit: int,
    unit: str,
    parameter: str,
    refusal: type[InputError] = ParameterError,
) -> None:
    if received > limit:
        raise refusal(what, received=f"{received} {unit}", expected=f"at most {limit}", parameter=parameter)
