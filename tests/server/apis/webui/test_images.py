import numpy as np
import pytest
from PIL import Image

from inpaintrt.errors import MaskError
from inpaintrt_server.apis.webui.images import read_mask
from runtime.image_tools import disc_mask, gradient
from server.uploads import opened, png_of

SIZE = (48, 32)


def test_a_mask_without_transparency_stays_as_it_is() -> None:
    for mask in (disc_mask(*SIZE, blur=2), gradient(*SIZE)):
        assert read_mask(png_of(mask), max_pixels=10_000) == png_of(mask)
    opaque = gradient(*SIZE)
    opaque.putalpha(255)
    assert read_mask(png_of(opaque), max_pixels=10_000) == png_of(opaque)


def test_whatever_is_drawn_on_a_transparent_ground_is_painted() -> None:
    drawn = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    drawn.paste((0, 0, 0, 255), (4, 4, 12, 12))
    drawn.paste((255, 255, 255, 128), (20, 4, 28, 12))
    drawn.paste((255, 255, 255, 129), (36, 4, 44, 12))
    mask = np.asarray(opened(read_mask(png_of(drawn), max_pixels=10_000)))
    assert set(np.unique(mask)) == {0, 255}
    assert mask[4:12, 4:12].all()
    assert not mask[4:12, 20:28].any()
    assert mask[4:12, 36:44].all()
    assert (mask > 0).sum() == 2 * 64


def test_a_damaged_mask_is_refused_as_a_mask() -> None:
    with pytest.raises(MaskError, match="the mask:"):
        read_mask(b"no image", max_pixels=10_000)
