"""Images of every kind that people send, and everything that is refused."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.array_like import ArrayLike
from inpaintrt.errors import ImageError, MaskError
from inpaintrt.images import ImageSource, image_size, load_image, load_mask
from runtime.arrays import HasDlpack

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _png_chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(b""))


def test_a_path_bytes_a_pillow_image_and_an_array_give_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    sources: list[ImageSource] = [
        path,
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        memoryview(path.read_bytes()),
        Image.fromarray(PIXELS),
        Image.open(path),
        PIXELS,
        PIXELS[::-1][::-1],
        np.asfortranarray(PIXELS),
    ]
    for source in sources:
        loaded = load_image(source)
        assert loaded.mode == "RGB"
        assert np.array_equal(np.asarray(loaded), PIXELS)


ORIENTATIONS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    upright = ORIENTATIONS[orientation](PIXELS)
    assert np.array_equal(np.asarray(load_image(content)), upright)
    assert np.array_equal(np.asarray(load_image(load_image(content))), upright)
    assert load_mask(content).size == (upright.shape[1], upright.shape[0])


def test_an_image_with_broken_exif_data_is_read_as_it_is_stored() -> None:
    content = _encoded(Image.fromarray(PIXELS), "PNG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00")
    assert np.array_equal(np.asarray(load_image(content)), PIXELS)


def test_transparency_is_kept() -> None:
    pixels = np.dstack([PIXELS, PIXELS[..., :1]])
    loaded = load_image(_encoded(Image.fromarray(pixels), "PNG"))
    assert loaded.mode == "RGBA"
    assert np.array_equal(np.asarray(loaded), pixels)


def test_a_grey_image_with_transparency_becomes_rgba() -> None:
    loaded = load_image(Image.fromarray(PIXELS[..., :2], mode=None).convert("LA"))
    assert loaded.mode == "RGBA"


def test_a_palette_with_a_transparent_color_becomes_rgba() -> None:
    image = Image.new("P", (4, 3))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    loaded = load_image(_encoded(image, "PNG", transparency=1))
    assert loaded.mode == "RGBA"
    assert loaded.getpixel((0, 0)) == (10, 20, 30, 255)
    assert loaded.getpixel((1, 1)) == (200, 100, 50, 0)


def test_a_palette_becomes_rgb() -> None:
    image = Image.new("P", (4, 3))
    image.putpalette([10, 20, 30])
    loaded = load_image(_encoded(image, "PNG"))
    assert loaded.mode == "RGB"
    assert loaded.getpixel((0, 0)) == (10, 20, 30)


def test_one_bit_and_grey_images_become_rgb() -> None:
    bits = Image.fromarray(PIXELS[..., 0] > 127)
    assert bits.mode == "1"
    assert np.array_equal(np.asarray(load_image(bits))[..., 1], (PIXELS[..., 0] > 127) * 255)
    assert np.array_equal(np.asarray(load_image(Image.fromarray(PIXELS[..., 0])))[..., 2], PIXELS[..., 0])


def test_cmyk_becomes_rgb() -> None:
    loaded = load_image(_encoded(Image.new("CMYK", (4, 3), (0, 255, 255, 0)), "TIFF"))
    assert loaded.mode == "RGB"
    assert loaded.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_and_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 12850, 40000, 65535]], dtype=np.uint16)
    content = _encoded(Image.fromarray(values), kind)
    expected = np.array([[0, 1, 50, 156, 255]], dtype=np.uint8)
    assert np.array_equal(np.asarray(load_image(content))[..., 0], expected)
    assert np.array_equal(np.asarray(load_mask(content)), expected)
    assert np.array_equal(np.asarray(load_image(values))[..., 0], expected)
    assert np.array_equal(np.asarray(load_image(Image.fromarray(values.astype(np.int32))))[..., 0], expected)


def test_a_float_image_is_scaled() -> None:
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert image.mode == "F"
    assert np.asarray(load_image(image))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_float_array_is_scaled(dtype: type[np.floating]) -> None:
    values = (PIXELS / 255).astype(dtype)
    difference = np.asarray(load_image(values)).astype(int) - PIXELS
    assert np.abs(difference).max() == 0


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays_may_have_these_channels(channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    loaded = load_image(np.full(shape, 9, np.uint8))
    assert loaded.size == (7, 5)
    assert loaded.mode == ("RGBA" if channels == 4 else "RGB")


@pytest.mark.parametrize("batch", [(), (1,)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, HasDlpack])
def test_channels_may_come_first(
    batch: tuple[int, ...], channels: int, convert: Callable[[NDArray[np.uint8]], ArrayLike]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), np.uint8)
    loaded = load_image(convert(pixels.reshape(*batch, channels, 5, 7)))
    expected = load_image(pixels.transpose(1, 2, 0))
    assert (loaded.mode, loaded.size) == (expected.mode, (7, 5))
    assert np.array_equal(np.asarray(loaded), np.asarray(expected))
    assert np.array_equal(np.asarray(load_image(pixels.transpose(1, 2, 0)[None])), np.asarray(expected))


def test_where_channels_may_be_at_both_ends_they_come_last() -> None:
    assert load_image(np.zeros((4, 7, 3), np.uint8)).size == (7, 4)
    assert load_image(np.zeros((1, 7, 3), np.uint8)).size == (7, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_tensor_of_floats_is_scaled(dtype: torch.dtype) -> None:
    tensor = (torch.from_numpy(PIXELS).permute(2, 0, 1)[None].to(torch.float64) / 255).to(dtype)
    assert np.array_equal(np.asarray(load_image(tensor)), PIXELS)
    mask = torch.tensor([[[[0.0, 0.25, 0.5, 0.75, 1.0]]]], dtype=dtype)
    assert np.asarray(load_mask(mask)).tolist() == [[0, 64, 128, 191, 255]]
    assert np.asarray(load_mask(mask[0, 0] > 0.5)).tolist() == [[0, 0, 0, 255, 255]]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 8, 8, requires_grad=True),
        torch.zeros(3, 8, 8, dtype=torch.bfloat16),
        torch.zeros(3, 8, 8, device="meta"),
    ],
)
def test_a_tensor_that_numpy_cannot_read_is_refused(tensor: torch.Tensor) -> None:
    _refused(tensor, r"(?s)cannot be read by NumPy.*Tensor: .*detach\(\)\.cpu\(\)")


def test_a_tensor_in_the_range_of_the_networks_is_refused() -> None:
    _refused(torch.full((1, 3, 8, 8), -1.0), r"(?s)out of range.*\[0, 1\]")


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 3), color) for color in ((255, 0, 0), (0, 255, 0))]
    content = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_image(content).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_a_mask_of_booleans_is_white_where_true() -> None:
    values = np.array([[True, False]])
    assert np.asarray(load_mask(values)).tolist() == [[255, 0]]
    assert load_mask(values).mode == "L"


def test_a_color_mask_counts_by_its_luminance() -> None:
    image = Image.fromarray(PIXELS)
    assert np.array_equal(np.asarray(load_mask(image)), np.asarray(image.convert("L")))


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    image = Image.fromarray(PIXELS)
    opaque = image.copy()
    opaque.putalpha(255)
    assert np.array_equal(np.asarray(load_mask(opaque)), np.asarray(image.convert("L")))


def test_white_strokes_on_a_transparent_ground_are_a_mask() -> None:
    image = Image.new("RGBA", (3, 1), (255, 255, 255, 0))
    image.putpixel((1, 0), (255, 255, 255, 255))
    image.putpixel((2, 0), (255, 255, 255, 100))
    assert np.asarray(load_mask(image)).tolist() == [[0, 255, 100]]


def _refused(source: object, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        load_image(source)  # type: ignore[arg-type]
    with pytest.raises(MaskError, match=match):
        load_mask(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [None, 3, [1, 2], {"path": "x"}, object()])
def test_another_type_is_refused(source: object) -> None:
    _refused(source, "not an image")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "absent.png", r"(?s)cannot be read.*absent\.png.*No such file")


def test_a_path_with_a_nul_is_refused() -> None:
    _refused("a\x00b.png", "cannot be read")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "cannot be read")


def test_an_address_on_the_web_is_not_fetched() -> None:
    _refused("https://example.org/image.png", "download the image first")


def test_a_text_named_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("These are notes.")
    _refused(path, r"not an image.*\n.*notes\.png")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", EPS])
def test_bytes_that_are_no_image_are_refused(content: bytes) -> None:
    _refused(content, f"{len(content)} bytes")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = _encoded(Image.fromarray(pixels), kind)
    _refused(content[: int(len(content) * share)], "damaged")


def test_a_lazy_pillow_image_of_a_truncated_file_is_refused() -> None:
    content = _encoded(Image.fromarray(PIXELS), "PNG")
    with pytest.raises(ImageError, match="Pillow image"):
        load_image(Image.open(io.BytesIO(content[:-30])))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("exif", [False, True])
def test_a_file_damaged_anywhere_is_read_or_refused_but_never_crashes(kind: str, exif: bool) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6
    options = {"exif": orientation} if exif and kind not in ("BMP", "GIF", "PPM") else {}
    content = _encoded(Image.fromarray(PIXELS), kind, **options)
    generator = np.random.default_rng(3)
    outcomes = set()
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[generator.integers(0, len(damaged), 4)] = generator.integers(0, 256, 4)
        try:
            outcomes.add(load_image(damaged[: generator.integers(1, len(damaged) + 1)].tobytes()).mode)
        except ImageError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert outcomes <= {"RGB", "RGBA", "refused"}


def test_a_damaged_png_is_refused() -> None:
    content = bytearray(_encoded(Image.fromarray(PIXELS), "PNG"))
    content[60] ^= 0xFF
    _refused(bytes(content), "damaged")


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    _refused(_png_header(100_000, 100_000), "too large to be decoded safely")


def test_a_header_over_the_limit_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageError, match=r"(?s)9000 x 9000.*80000000"):
        load_image(_png_header(9_000, 9_000), max_pixels=80_000_000)


def test_the_size_is_told_by_the_header_alone() -> None:
    assert image_size(_png_header(9_000, 8_000)) == (9_000, 8_000)
    with pytest.raises(ImageError, match="too large to be decoded safely"):
        image_size(_png_header(100_000, 100_000))
    with pytest.raises(MaskError, match="not an image"):
        image_size(b"/etc/hostname", refusal=MaskError)


def test_the_limit_holds_for_arrays_and_pillow_images() -> None:
    assert load_image(PIXELS, max_pixels=54).size == (9, 6)
    for source in (PIXELS, Image.fromarray(PIXELS)):
        with pytest.raises(ImageError, match="too many pixels"):
            load_image(source, max_pixels=53)
    with pytest.raises(MaskError, match="too many pixels"):
        load_mask(PIXELS, max_pixels=53)


@pytest.mark.parametrize(
    "shape",
    [(4,), (2, 3, 8, 8), (1, 1, 3, 8, 8), (2, 8, 8), (8, 8, 2), (8, 8, 5), (0, 8), (8, 0, 3), (3, 0, 8)],
)
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    _refused(np.zeros(shape, np.uint8), "shape")


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.complex64, np.str_, object])
def test_an_array_of_another_dtype_is_refused(dtype: type) -> None:
    _refused(np.zeros((8, 8), dtype), "dtype")


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan"), float("inf")])
def test_floats_out_of_range_are_refused(value: float) -> None:
    values = np.zeros((8, 8, 3), np.float32)
    values[3, 4, 1] = value
    _refused(values, "out of range")


def test_an_empty_pillow_image_is_refused() -> None:
    _refused(Image.new("RGB", (0, 4)), "empty")


def test_samples_of_32_bits_are_refused() -> None:
    _refused(Image.fromarray(np.array([[0, 65536]], dtype=np.int32)), "32 bits")


def test_a_color_space_that_pillow_cannot_convert_is_refused() -> None:
    _refused(Image.new("La", (4, 4)), r"(?s)color space.*La")
