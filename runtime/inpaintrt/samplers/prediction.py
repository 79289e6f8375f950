"""What the UNet's output means: the only place that knows of prediction types."""

from __future__ import annotations

from inpaintrt.errors import SchedulerError
from inpaintrt.samplers.solver import NoiseLevel

__all__ = ["denoised_weights", "raw_weights"]


def denoised_weights(prediction_type: str, level: NoiseLevel) -> tuple[float, float]:
    """How the denoised estimate is made of x and the UNet's output: denoised = a * x + b * output.

    Args:
        prediction_type: "epsilon", "v_prediction" (arXiv:2202.00512, appendix D) or "sample".
        level: Level of x.

    Returns:
        a and b.

    Raises:
        SchedulerError: The UNet predicts noise where x holds nothing else.
    """
    if prediction_type == "sample":
        return 0.0, 1.0
    if prediction_type == "v_prediction":
        return level.alpha, -level.sigma
    if level.alpha == 0.0:
        raise SchedulerError(
            "a UNet that predicts noise cannot begin from noise without any image in it",
            received={"prediction_type": prediction_type, "rescale_betas_zero_snr": True},
            expected="prediction_type v_prediction or sample",
            hint='choose a sampler such as euler, or timestep_spacing "leading"',
        )
    return 1.0 / level.alpha, -level.sigma / level.alpha


def raw_weights(prediction_type: str, level: NoiseLevel) -> tuple[float, float]:
    """How the UNet's output is got back: output = a * x + b * denoised.

    Args:
        prediction_type: "epsilon" or "v_prediction".
        level: Level of x.

    Returns:
        a and b.
    """
    if prediction_type == "v_prediction":
        return level.alpha / level.sigma, -1.0 / level.sigma
    return 1.0 / level.sigma, -level.alpha / level.sigma
