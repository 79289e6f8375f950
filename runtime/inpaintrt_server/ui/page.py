"""The page: its parts, and what its buttons do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import gradio
from gradio.components.image_editor import Brush, LayerOptions
from PIL import Image

from inpaintrt.errors import InpaintError
from inpaintrt.request import Options
from inpaintrt.samplers import sampler_names
from inpaintrt_server.batching.jobs import Finished, Started, Stepped
from inpaintrt_server.http.errors import problem_of
from inpaintrt_server.ui.guards import guard_editor, guard_files
from inpaintrt_server.ui.painting import Drawing, Form, paint, read_drawing

if TYPE_CHECKING:
    from inpaintrt_server.batching.service import BatchingService
    from inpaintrt_server.settings import ServerSettings

__all__ = ["THEME", "make_page"]

THEME = gradio.themes.Default(
    # Fonts of the system: others would be fetched from elsewhere.
    font=("system-ui", "sans-serif"),
    font_mono=("ui-monospace", "monospace"),
)

_OWN_SAMPLER = "the checkpoint's own"
_LONGEST_HISTORY = 24
_SECONDS_KEPT = 3600
_SECONDS_BETWEEN_CLEANINGS = 600
_MOST_STEPS = 100
_ANY_SEED = -1

History: TypeAlias = list[tuple[Image.Image, str]]
Update: TypeAlias = dict[Any, Any]


@dataclass(frozen=True)
class _Fields:
    """What people fill in, in the order in which Gradio hands it over."""

    editor: gradio.ImageEditor
    prompt: gradio.Textbox
    negative_prompt: gradio.Textbox
    steps: gradio.Slider
    guidance: gradio.Slider
    strength: gradio.Slider
    sampler: gradio.Dropdown
    seed: gradio.Number

    def all(self) -> list[Any]:
        """Every field."""
        return list(vars(self).values())


@dataclass(frozen=True)
class _Display:
    """What people look at."""

    status: gradio.HTML
    original: gradio.Image
    result: gradio.Image
    gallery: gradio.Gallery
    history: gradio.State

    def all(self) -> list[Any]:
        """Every part."""
        return list(vars(self).values())


def make_page(service: BatchingService, settings: ServerSettings) -> gradio.Blocks:
    """The page.

    Args:
        service: Runs what the page asks for.
        settings: The server's limits.
    """
    with gradio.Blocks(
        analytics_enabled=False,
        title="inpaintrt",
        fill_width=True,
        delete_cache=(_SECONDS_BETWEEN_CLEANINGS, _SECONDS_KEPT),
    ) as page:
        gradio.Markdown(f"# inpaintrt\nThe checkpoint is **{service.stages.manifest.name}**.")
        with gradio.Row():
            with gradio.Column():
                fields, start, stop = _make_fields(settings)
            with gradio.Column():
                display = _make_display()
        _connect(_Painter(service, settings, display), fields, start, stop)
    guard_files(page)
    # How many may run at a time is the service's to say.
    page.queue(default_concurrency_limit=None)
    return cast("gradio.Blocks", page)


def _make_fields(settings: ServerSettings) -> tuple[_Fields, gradio.Button, gradio.Button]:
    editor = _make_editor(settings.max_pixels)
    prompt = gradio.Textbox(label="What to paint there", max_length=settings.max_prompt, elem_id="prompt")
    with gradio.Row():
        start = gradio.Button("Paint", variant="primary", elem_id="paint")
        stop = gradio.Button("Stop", elem_id="stop")
    with gradio.Accordion("Options", open=True):
        negative = gradio.Textbox(
            label="What not to paint", max_length=settings.max_prompt, elem_id="negative-prompt"
        )
        most = min(settings.max_steps, _MOST_STEPS)
        steps = gradio.Slider(1, most, min(20, most), step=1, label="Steps", elem_id="steps")
        guidance = gradio.Slider(0, 20, 7.5, step=0.5, label="Guidance", elem_id="guidance")
        strength = gradio.Slider(
            0.05, 1, 1, step=0.05, label="Strength: how much is forgotten", elem_id="strength"
        )
        sampler = gradio.Dropdown([_OWN_SAMPLER, *sampler_names()], label="Sampler", elem_id="sampler")
        seed = gradio.Number(
            _ANY_SEED, label="Seed: -1 for any", precision=0, minimum=_ANY_SEED, elem_id="seed"
        )
    return _Fields(editor, prompt, negative, steps, guidance, strength, sampler, seed), start, stop


def _make_editor(max_pixels: int) -> gradio.ImageEditor:
    """An editor for one layer of one colour."""
    editor = gradio.ImageEditor(
        type="pil",
        format="png",
        image_mode="RGBA",
        sources=["upload", "clipboard"],
        label="Picture: load it, then paint over what is to change",
        elem_id="editor",
        brush=Brush(colors=["#ffffff"], color_mode="fixed"),
        layers=LayerOptions(allow_additional_layers=False, disabled=True),
        transforms=[],
        height=520,
    )
    guard_editor(editor, max_pixels)
    return editor


def _make_display() -> _Display:
    status = gradio.HTML(elem_id="status")
    with gradio.Row():
        original = _make_picture("Before", "original")
        result = _make_picture("After", "result")
    gallery = gradio.Gallery(
        label="This session", format="png", columns=4, interactive=False, elem_id="history"
    )
    return _Display(status, original, result, gallery, gradio.State([], time_to_live=_SECONDS_KEPT))


def _make_picture(label: str, name: str) -> gradio.Image:
    return gradio.Image(
        label=label, format="png", interactive=False, buttons=["download", "fullscreen"], elem_id=name
    )


def _connect(painter: _Painter, fields: _Fields, start: gradio.Button, stop: gradio.Button) -> None:
    display = painter.display
    painting = gradio.on(
        [start.click, fields.prompt.submit],
        painter.run,
        inputs=[*fields.all(), display.history],
        outputs=display.all(),
        show_progress="hidden",
        concurrency_limit=None,
        api_visibility="private",
    )
    # In two events, so that a step that is under way does not write over the word.
    stopping = stop.click(None, cancels=[painting], api_visibility="private")
    stopping.then(lambda: "Stopped.", outputs=display.status, api_visibility="private")


class _Painter:
    """Does what the button says."""

    def __init__(self, service: BatchingService, settings: ServerSettings, display: _Display) -> None:
        self.display = display
        self._service = service
        self._settings = settings

    async def run(self, *values: Any) -> AsyncGenerator[Update, None]:  # noqa: ANN401  what Gradio hands over
        """Paint, and show how it goes."""
        *filled_in, history = values
        try:
            form = _read_form(*filled_in)
            yield {
                self.display.status: "Waiting for a place ...",
                self.display.original: form.image,
                self.display.result: None,
            }
            async with contextlib.aclosing(paint(self._service, self._settings, form)) as events:
                async for event in events:
                    yield self._show(event, form, history)
        except InpaintError as error:
            yield {self.display.status: ""}
            raise gradio.Error(_explain(error), print_exception=False) from error

    def _show(self, event: Started | Stepped | Finished, form: Form, history: History) -> Update:
        match event:
            case Started():
                return {self.display.status: _progress(0, event.total)}
            case Stepped():
                shown: Update = {self.display.status: _progress(event.index, event.total)}
                return {**shown, self.display.result: event.previews[0]} if event.previews else shown
            case Finished():
                caption = f"{form.prompt} (seed {event.seeds[0]})"
                longer = [(event.images[0], caption), *history][:_LONGEST_HISTORY]
                return {
                    self.display.status: _summary(event),
                    self.display.result: event.images[0],
                    self.display.gallery: longer,
                    self.display.history: longer,
                }


def _read_form(
    drawing: Drawing | None,
    prompt: str | None,
    negative_prompt: str | None,
    steps: float,
    guidance: float,
    strength: float,
    sampler: str,
    seed: float,
) -> Form:
    image, mask = read_drawing(drawing)
    options: Options = {
        "negative_prompt": negative_prompt or None,
        "num_inference_steps": int(steps),
        "guidance_scale": guidance,
        "strength": strength,
        "scheduler": None if sampler == _OWN_SAMPLER else sampler,
        "seed": None if seed == _ANY_SEED else int(seed),
    }
    return Form(image, mask, prompt or "", options)


def _progress(done: int, total: int) -> str:
    return f'<progress value="{done}" max="{total}" style="width: 100%"></progress> Step {done} of {total}'


def _summary(finished: Finished) -> str:
    timings = finished.timings
    text = f"Seed {finished.seeds[0]}, {timings.steps} steps, {timings.total:.2f} s."
    return "<br>".join([text, *(escape(warning) for warning in finished.warnings)])


def _explain(error: InpaintError) -> str:
    problem = problem_of(error)
    parts = (
        problem.message,
        problem.received and f"received: {problem.received}",
        problem.expected and f"expected: {problem.expected}",
        problem.what_to_do and f"what to do: {problem.what_to_do}",
    )
    return "<br>".join(escape(part) for part in parts if part)
