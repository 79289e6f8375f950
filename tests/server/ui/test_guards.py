"""What a hand-made request can do to the page: nothing."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio
import httpx
import pytest
from fastapi import FastAPI
from gradio.data_classes import FileData
from PIL import Image

from inpaintrt.errors import ImageError, MaskError, ParameterError
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import ServerSettings
from inpaintrt_server.ui import PATH, mount_page
from inpaintrt_server.ui.guards import guard_editor
from inpaintrt_server.ui.painting import read_drawing
from server.uploads import SCENE, png_of

MOST_PIXELS = 200 * 200


@pytest.fixture
def editor() -> gradio.ImageEditor:
    made = gradio.ImageEditor(type="pil", image_mode="RGBA")
    guard_editor(made, MOST_PIXELS)
    return made


@pytest.fixture
def trap() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that nobody should ask, and who did."""
    visitors: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                try:
                    visitor, address = listener.accept()
                except TimeoutError:
                    continue
                visitors.append(str(address))
                visitor.close()

        watcher = threading.Thread(target=watch)
        watcher.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.png", visitors
        over.set()
        watcher.join()


def _fields(**changed: Any) -> list[Any]:
    """What the page sends when the button is pressed, in the order of its fields."""
    fields = {
        "editor": None,
        "prompt": "a cloud",
        "negative": "",
        "steps": 1,
        "guidance": 7.5,
        "strength": 1,
        "sampler": "ddim",
        "seed": 0,
        "history": None,
    }
    return list({**fields, **changed}.values())


def _ask(address: str, data: list[Any]) -> str:
    """Press the button without a browser; what came of it."""
    with httpx.Client(base_url=f"{address}{PATH}/gradio_api", timeout=60) as client:
        body = {"data": data, "fn_index": 0, "session_hash": "somebody", "trigger_id": None}
        joined = client.post("/queue/join", json=body)
        if joined.status_code != 200:
            return joined.text
        with client.stream("GET", "/queue/data", params={"session_hash": "somebody"}) as events:
            for line in events.iter_lines():
                if "process_completed" in line:
                    return line
    return ""


@pytest.mark.parametrize("field", ["editor", "prompt", "seed"])
def test_no_address_is_fetched_whatever_field_it_is_in(
    page_server: str, service: BatchingService, trap: tuple[str, list[str]], field: str
) -> None:
    address, visitors = trap
    file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
    value = {"background": file, "layers": [file], "composite": None} if field == "editor" else file
    answer = _ask(page_server, _fields(**{field: value}))
    assert "web addresses are not opened" in answer
    assert visitors == []
    assert service.snapshot.outstanding == 0


def test_files_of_the_server_cannot_be_named(page_server: str) -> None:
    file = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}
    answer = _ask(page_server, _fields(editor={"background": file, "layers": [], "composite": None}))
    assert '"success":false' in answer.replace(" ", "")
    assert httpx.get(f"{page_server}{PATH}/gradio_api/file=/etc/hostname").status_code in (403, 404)


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(editor: gradio.ImageEditor) -> None:
    large = png_of(Image.new("1", (300, 300)))
    with pytest.raises(gradio.Error, match="too many pixels"):
        editor.convert_and_format_image(large)


def test_what_is_no_picture_is_refused(editor: gradio.ImageEditor) -> None:
    with pytest.raises(gradio.Error):
        editor.convert_and_format_image(b"<svg/>")


def test_a_picture_comes_through(editor: gradio.ImageEditor, tmp_path: Any) -> None:
    path = tmp_path / "scene.png"
    SCENE.image.save(path)
    for source in (png_of(SCENE.image), FileData(path=str(path))):
        image = editor.convert_and_format_image(source, flatten_on_white=True)
        assert isinstance(image, Image.Image)
        assert image.convert("RGB").tobytes() == SCENE.image.tobytes()
    assert editor.convert_and_format_image(None) is None


def _blobs(name: str, index: object = None) -> Any:
    data = {"type": "layer" if index else "background", "index": index, "id": name}
    return SimpleNamespace(data=data, files=[("file", png_of(SCENE.image))])


def test_uploads_that_nobody_asks_for_make_room_for_new_ones(editor: gradio.ImageEditor) -> None:
    for number in range(100):
        editor.accept_blobs(_blobs(str(number)))
    assert len(editor.blob_storage) == 64
    assert "99" in editor.blob_storage


def test_a_layer_of_a_large_number_is_refused(editor: gradio.ImageEditor) -> None:
    with pytest.raises(gradio.Error, match="one layer"):
        editor.accept_blobs(_blobs("a", "1000000000"))
    assert not editor.blob_storage


def test_what_was_painted_over_is_the_mask() -> None:
    picture = SCENE.image.convert("RGBA")
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    layer.paste((255, 255, 255, 255), (10, 20, 30, 40))
    image, mask = read_drawing({"background": picture, "layers": [layer], "composite": None})
    assert image.tobytes() == picture.tobytes()
    assert mask.getbbox() == (10, 20, 30, 40)


def test_a_picture_and_paint_are_needed() -> None:
    picture = SCENE.image.convert("RGBA")
    clear = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    with pytest.raises(ImageError, match="no picture"):
        read_drawing(None)
    with pytest.raises(ImageError, match="no picture"):
        read_drawing({"background": None, "layers": [], "composite": None})
    with pytest.raises(MaskError, match="nothing is painted"):
        read_drawing({"background": picture, "layers": [clear], "composite": None})


def test_without_gradio_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, service: BatchingService, settings: ServerSettings
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ParameterError, match=r"inpaintrt\[ui\]"):
        mount_page(make_application(service, settings), service, settings)


def test_the_page_loads_nothing_from_elsewhere(page_application: FastAPI, page_server: str) -> None:
    page = httpx.get(f"{page_server}{PATH}/")
    assert page.status_code == 200
    config = httpx.get(f"{page_server}{PATH}/config").json()
    assert config["analytics_enabled"] is False
    assert "fonts.googleapis" not in page.text + httpx.get(f"{page_server}{PATH}/theme.css").text
    assert "googleapis" not in json.dumps(config["stylesheets"])
