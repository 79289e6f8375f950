"""LoRAs on the page: a choice, where the server has any."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from inpaintrt import InpaintPipeline
from inpaintrt.loading import LoadedBundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching import BatchingService, BatchingSettings
from inpaintrt_server.settings import ServerSettings
from server.conftest import serving
from server.loras import LoraPaths
from server.ui.conftest import Visit
from server.ui.person import fill_in, finish, pixels, saved

PROMPT = "a red balloon"


@pytest.fixture(scope="module")
def address(demo: LoadedBundle, lora_paths: LoraPaths) -> Iterator[str]:
    """The address of a server with LoRAs."""
    loras = {name: ((str(getattr(lora_paths, name)), 1.0),) for name in ("style", "words")}
    with (
        BatchingService(demo, BatchingSettings(), loras=loras) as service,
        serving(make_application(service, ServerSettings())) as address,
    ):
        yield address


def painted(page: Page, folder: Path) -> NDArray[np.int16]:
    fill_in(page, PROMPT, steps=4, seed=3)
    finish(page)
    return pixels(saved(page, "Download", folder))


def expected(*loras: Path) -> NDArray[np.int16]:
    with InpaintPipeline.from_bundle("demo", loras=loras, threads=1) as pipe:
        output = pipe(PROMPT, num_inference_steps=4, seed=[3])
    assert isinstance(output.images, list)
    return pixels(output.images[0])


def test_the_chosen_lora_is_used(visit: Visit, address: str, lora_paths: LoraPaths, tmp_path: Path) -> None:
    page = visit(address)
    choice = page.get_by_label("LoRA", exact=True)
    expect(page.locator("#lora-choice")).not_to_have_attribute("hidden", "")
    assert choice.locator("option").all_text_contents() == ["None", "style", "words"]
    plain = painted(page, tmp_path)
    assert np.abs(plain - expected()).max() <= 1
    choice.select_option("style")
    styled = painted(page, tmp_path)
    assert np.abs(styled - expected(lora_paths.style)).max() <= 1
    assert np.abs(styled - plain).max() > 10


def test_without_loras_there_is_no_choice(page: Page) -> None:
    expect(page.locator("#lora-choice")).to_have_attribute("hidden", "")
