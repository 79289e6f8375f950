import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from inpaintrt.errors import ImageError, MaskError
from inpaintrt_server.apis.openai.transparency import EditImages, read_images
from runtime.image_tools import disc_mask, gradient, largest_difference
from server.uploads import opened, png_of

SIZE = (48, 32)
IMAGE = gradient(*SIZE)
HOLE = Image.eval(disc_mask(*SIZE), lambda value: 255 - value)


def with_alpha(image: Image.Image, alpha: Image.Image) -> Image.Image:
    layered = image.copy()
    layered.putalpha(alpha)
    return layered


def read(
    image: bytes, mask: bytes | None = None, *, opaque: bool = False, mask_needed: bool = True
) -> EditImages:
    return read_images(image, mask, opaque=opaque, mask_needed=mask_needed, max_pixels=10_000)


def mask_of(images: EditImages) -> Image.Image:
    assert images.mask is not None
    return opened(images.mask)


def test_transparent_is_painted_and_the_file_of_an_opaque_image_stays() -> None:
    file = png_of(IMAGE)
    images = read(file, png_of(with_alpha(IMAGE, HOLE)))
    assert images.image == file
    assert images.size == SIZE
    assert mask_of(images).mode == "L"
    assert largest_difference(mask_of(images), disc_mask(*SIZE)) == 0


def test_the_images_own_transparency_is_a_mask_and_the_result_is_opaque() -> None:
    soft = Image.eval(disc_mask(*SIZE, blur=3), lambda value: 255 - value)
    images = read(png_of(with_alpha(IMAGE, soft)))
    assert opened(images.image).mode == "RGB"
    assert largest_difference(opened(images.image), IMAGE) == 0
    assert largest_difference(mask_of(images), disc_mask(*SIZE, blur=3)) == 0


def test_what_is_painted_becomes_opaque_and_the_rest_stays_transparent() -> None:
    faint = Image.new("L", SIZE, 100)
    image, _, _ = read(png_of(with_alpha(IMAGE, faint)), png_of(with_alpha(IMAGE, HOLE)))
    alpha = np.asarray(opened(image).getchannel("A"))
    painted = np.asarray(disc_mask(*SIZE)) == 255
    assert set(alpha[painted]) == {255}
    assert set(alpha[~painted]) == {100}


def test_an_opaque_background_drops_transparency() -> None:
    faint = Image.new("L", SIZE, 100)
    image, _, _ = read(png_of(with_alpha(IMAGE, faint)), png_of(with_alpha(IMAGE, HOLE)), opaque=True)
    assert opened(image).mode == "RGB"


def test_a_palette_with_a_transparent_color_is_a_mask() -> None:
    colors = Image.new("P", SIZE, 0)
    colors.putpalette([0, 0, 0, 255, 0, 0])
    colors.paste(1, (8, 8, 24, 24))
    file = io.BytesIO()
    colors.save(file, "PNG", transparency=1)
    images = read(png_of(IMAGE), file.getvalue())
    painted = np.asarray(mask_of(images)) == 255
    assert painted[8:24, 8:24].all()
    assert painted.sum() == 16 * 16


def test_the_size_is_that_of_the_upright_image_and_its_profile_stays() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lying = with_alpha(IMAGE, HOLE)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    lying.save(file, "PNG", exif=exif, icc_profile=profile)
    images = read(file.getvalue())
    assert images.size == (32, 48)
    assert opened(images.image).size == mask_of(images).size == (32, 48)
    assert opened(images.image).info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (None, "there is no mask"),
        (IMAGE, "no transparency"),
        (with_alpha(IMAGE, Image.new("L", SIZE, 255)), "not transparent anywhere"),
        (with_alpha(IMAGE, Image.new("L", SIZE, 129)), "not transparent anywhere"),
    ],
)
def test_a_mask_that_paints_nothing_is_refused(mask: Image.Image | None, said: str) -> None:
    with pytest.raises(MaskError, match=said):
        read(png_of(IMAGE), None if mask is None else png_of(mask))


@pytest.mark.parametrize("alpha", [None, 255, 200])
def test_where_no_mask_is_needed_an_image_that_shows_everywhere_has_none(alpha: int | None) -> None:
    image = IMAGE if alpha is None else with_alpha(IMAGE, Image.new("L", SIZE, alpha))
    with pytest.raises(MaskError, match="there is no mask") as caught:
        read(png_of(image))
    assert "--edits-without-mask" in str(caught.value.hint)
    images = read(png_of(image), mask_needed=False)
    assert images.mask is None
    assert images.size == SIZE
    assert opened(images.image).mode == ("RGBA" if alpha == 200 else "RGB")
    assert largest_difference(opened(images.image), IMAGE) == 0
    assert opened(read(png_of(image), mask_needed=False, opaque=True).image).mode == "RGB"


def test_where_no_mask_is_needed_transparency_still_says_where() -> None:
    images = read(png_of(with_alpha(IMAGE, HOLE)), mask_needed=False)
    assert largest_difference(mask_of(images), disc_mask(*SIZE)) == 0
    with pytest.raises(MaskError, match="not transparent anywhere"):
        read(png_of(IMAGE), png_of(with_alpha(IMAGE, Image.new("L", SIZE, 255))), mask_needed=False)


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(MaskError) as caught:
        read(png_of(IMAGE), png_of(with_alpha(IMAGE, HOLE).resize((24, 16))))
    assert caught.value.received == "mask 24 x 16, image 48 x 32"


def test_damaged_files_are_refused_by_what_they_are() -> None:
    file = png_of(with_alpha(gradient(40, 40), Image.new("L", (40, 40), 0)))
    with pytest.raises(ImageError):
        read(file[: len(file) // 2])
    with pytest.raises(MaskError, match="the mask: the file is damaged"):
        read(png_of(gradient(40, 40)), file[: len(file) // 2])
    with pytest.raises(MaskError, match="too many pixels"):
        read(png_of(IMAGE), png_of(Image.new("RGBA", (200, 200))))
