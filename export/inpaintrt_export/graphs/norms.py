"""Group normalisation as one node, `com.microsoft.GroupNorm`, with the SiLU that follows it.

Source of the operator: ONNX Runtime's contrib operators. Its CUDA kernel works on channels-last images, two
channels at a time, with float32 weights and at most 512 channels a group. The transpositions around it meet
those that the provider puts around its channels-last convolutions (`prefer_nhwc`), and cancel.

The kernel adds up with atomic operations, so that the last bits of its results change from run to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import RewriteRuleClassBase, RewriteRuleSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fuse_norms"]

_CONTRIB = "com.microsoft"
_WIDEST_GROUP = 512


def fuse_norms(model: ir.Model) -> int:
    """Put a node in the place of every group normalisation that the CUDA kernel can compute, in place.

    Returns:
        The number of normalisations.
    """
    # The longer pattern is the first to be tried.
    fused = [RewriteRuleSet([_Norm.rule(silu=silu)]).apply_to_model(model) for silu in (True, False)]
    return sum(fused)


class _Norm(RewriteRuleClassBase):  # type: ignore[misc]
    """PyTorch's group normalisation, which its exporter writes as instance normalisation at opset 18."""

    def __init__(self, *, silu: bool) -> None:
        # The image's shape is read, too; what is left over is removed at the end.
        super().__init__("group normalisation", remove_nodes=False)
        self._silu = silu

    def pattern(
        self,
        op: ir.tape.Builder,
        x: ir.Value,
        grouped_shape: ir.Value,
        ones: ir.Value,
        zeros: ir.Value,
        gamma: ir.Value,
        beta: ir.Value,
    ) -> ir.Value:
        """Group by group, then back to the image's shape, then scaled and shifted channel by channel."""
        groups = op.InstanceNormalization(op.Reshape(x, grouped_shape), ones, zeros, _outputs=["normed"])
        result = op.Add(op.Mul(op.Reshape(groups, op.Shape(x)), gamma), beta)
        return op.Mul(result, op.Sigmoid(result)) if self._silu else result

    def check(
        self,
        context: object,  # noqa: ARG002
        ones: ir.Value,
        zeros: ir.Value,
        gamma: ir.Value,
        beta: ir.Value,
        **_: object,
    ) -> bool:
        """Whether the weights are known, and the kernel can take the channels of a group."""
        if any(value.const_value is None for value in (ones, zeros, gamma, beta)):
            return False
        plain = bool((_numbers(ones) == 1).all() and (_numbers(zeros) == 0).all())
        by_channel = all(value.const_value.shape == (value.const_value.size, 1, 1) for value in (gamma, beta))
        width, rest = divmod(gamma.const_value.size, ones.const_value.size)
        return plain and by_channel and rest == 0 and width % 2 == 0 and width <= _WIDEST_GROUP

    def rewrite(
        self,
        op: ir.tape.Builder,
        x: ir.Value,
        ones: ir.Value,
        gamma: ir.Value,
        beta: ir.Value,
        normed: ir.Value,
        **_: object,
    ) -> ir.Value:
        """One node between two transpositions."""
        weights = [
            op.initializer(ir.tensor(_numbers(value).ravel().astype(np.float32)), name=f"{x.name}/{name}")
            for name, value in (("gamma", gamma), ("beta", beta))
        ]
        result = op.GroupNorm(
            op.Transpose(x, perm=[0, 2, 3, 1]),
            *weights,
            activation=int(self._silu),
            channels_last=1,
            epsilon=normed.producer().attributes["epsilon"].as_float(),
            groups=int(ones.const_value.size),
            _domain=_CONTRIB,
        )
        return op.Transpose(result, perm=[0, 3, 1, 2])


def _numbers(value: ir.Value) -> NDArray[np.floating]:
    numbers: NDArray[np.floating] = value.const_value.numpy()
    return numbers
