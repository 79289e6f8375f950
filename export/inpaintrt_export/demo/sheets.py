"""Contact sheets: what was masked, and what became of it."""

from PIL import Image

from inpaintrt_export.demo.cases import Case, evaluation_cases
from inpaintrt_export.demo.evaluation import STEPS, jobs_of
from inpaintrt_export.demo.painters import Painter

COLUMNS = 8
GAP = 2
GREY = (128, 128, 128)


def sample_sheet(painter: Painter, count: int, guidance: float) -> Image.Image:
    """Return masked pictures, each above its result, in rows of eight."""
    cases = evaluation_cases(count)
    results = painter.paint(jobs_of(cases), guidance, STEPS)
    return sheet([(masked_picture(case), result) for case, result in zip(cases, results, strict=True)])


def masked_picture(case: Case) -> Image.Image:
    """Return the picture with its masked place in grey."""
    return Image.composite(Image.new("RGB", case.picture.size, GREY), case.picture, case.mask)


def sheet(pairs: list[tuple[Image.Image, Image.Image]]) -> Image.Image:
    """Return pairs of pictures, one above the other, in rows of eight pairs."""
    width, height = (side + GAP for side in pairs[0][0].size)
    rows = -(-len(pairs) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * width, rows * 2 * height))
    for index, pair in enumerate(pairs):
        row, column = divmod(index, COLUMNS)
        for half, picture in enumerate(pair):
            whole.paste(picture, (column * width, (2 * row + half) * height))
    return whole
