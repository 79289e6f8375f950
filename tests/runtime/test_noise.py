"""The noise is PyTorch's, value by value."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from inpaintrt.errors import ParameterError
from inpaintrt.noise import Generator, NoiseSource, StepNoise

SHAPES = [
    (1, 4, 64, 64),
    (3, 4, 16, 16),
    (2, 4, 5, 7),
    (1, 4, 1, 1),
    (1, 4, 1, 3),
    (17,),
    (15,),
    (16,),
    (31,),
    (1,),
]


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**32 - 1, 2**32 + 5, 2**63, 2**64 - 1, -1, -(2**63)])
def test_draws_equal_torch_in_any_order_of_shapes(seed: int) -> None:
    ours = Generator(seed)
    theirs = torch.Generator("cpu").manual_seed(seed)
    for shape in [*SHAPES, *reversed(SHAPES)]:
        expected = torch.randn(shape, generator=theirs).numpy()
        np.testing.assert_allclose(ours.randn(shape), expected, rtol=0, atol=1e-6)


def test_half_precision_noise_is_the_rounded_single_precision_noise() -> None:
    expected = torch.randn(
        (2, 4, 16, 16), generator=torch.Generator().manual_seed(7), dtype=torch.float16
    ).numpy()
    ours = Generator(7).randn((2, 4, 16, 16)).astype(np.float16)
    assert np.mean(ours == expected) > 0.999


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, "7", True, None])
def test_a_seed_that_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(ParameterError, match="seed"):
        Generator(seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", [3, [3, 9], [9, 3]])
def test_source_draws_as_randn_tensor_does(seeds: int | Sequence[int]) -> None:
    from diffusers.utils.torch_utils import randn_tensor

    shape = (2, 4, 6, 6)
    generators = (
        torch.Generator().manual_seed(seeds)
        if isinstance(seeds, int)
        else [torch.Generator().manual_seed(seed) for seed in seeds]
    )
    source = NoiseSource(seeds)
    for _ in range(2):
        expected = randn_tensor(shape, generator=generators).numpy()
        np.testing.assert_allclose(source.draw(2, shape[1:]), expected, rtol=0, atol=1e-6)


def test_step_noise_is_drawn_once_a_row_whoever_asks_first() -> None:
    reference = NoiseSource(5)
    rows = [reference.draw(2, (4, 2, 2)) for _ in range(2)]
    noise = StepNoise(NoiseSource(5), 2, (4, 2, 2))
    asked = [(1, 0), (0, 0), (0, 3), (1, 3)]
    drawn = {(image, row): noise.draw(image, row) for image, row in asked}
    for image, row in asked:
        np.testing.assert_array_equal(drawn[image, row], rows[0 if row == 0 else 1][image])
