"""Attention as one node, `com.microsoft.MultiHeadAttention`, in the place of ten.

Source of the operator: ONNX Runtime's contrib operators. Its CUDA provider computes it with flash attention
for float16 on compute capability 8.0 and above where heads are at most 256 wide, a multiple of 8, and nothing
is masked; else with CUTLASS's memory-efficient kernel. Stable Diffusion's heads are 40, 64, 80 and 160 wide.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnxscript.rewriter.pattern import ANY_VALUE, RewriteRuleClassBase, RewriteRuleSet

from inpaintrt.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fuse_attention"]

_CONTRIB = "com.microsoft"
_ROUNDING = 2e-3  # of a scale that is stored in float16


def fuse_attention(model: ir.Model) -> int:
    """Put a node in the place of every attention layer of a UNet, in place.

    Returns:
        The number of layers.

    Raises:
        ExportError: A layer is not of the form that `inpaintrt export` gives it.
    """
    layers = sum(node.op_type == "Softmax" for node in model.graph)
    fused: int = RewriteRuleSet([_Attention.rule()]).apply_to_model(model)
    if not 0 < fused == layers:
        raise ExportError(
            "the network's attention is not of the form that can be fused",
            received=f"{fused} of {layers} layers",
            hint="export the checkpoint with `inpaintrt export`",
        )
    return fused


class _Attention(RewriteRuleClassBase):  # type: ignore[misc]
    """PyTorch's scaled dot-product attention, as its exporter writes it at opset 18."""

    def __init__(self) -> None:
        # The shape of the transposed key is read, too; what is left over is removed at the end.
        super().__init__("attention", remove_nodes=False)

    def pattern(
        self,
        op: ir.tape.Builder,
        query: ir.Value,
        key: ir.Value,
        value: ir.Value,
        query_shape: ir.Value,
        key_shape: ir.Value,
        value_shape: ir.Value,
        query_scale: ir.Value,
        key_scale: ir.Value,
    ) -> ir.Value:
        """Softmax(scaled query @ scaled key) @ value, with its heads split and joined."""
        query_heads = op.Transpose(op.Reshape(query, query_shape), perm=[0, 2, 1, 3])
        key_heads = op.Transpose(op.Reshape(key, key_shape), perm=[0, 2, 1, 3])
        value_heads = op.Transpose(op.Reshape(value, value_shape), perm=[0, 2, 1, 3])
        flat = op.Transpose(op.Reshape(key_heads, ANY_VALUE), perm=[0, 2, 1])
        transposed = op.Reshape(flat, ANY_VALUE)
        logits = op.MatMul(op.Mul(query_heads, query_scale), op.Mul(transposed, key_scale))
        mixed = op.MatMul(op.Softmax(logits, axis=-1), value_heads)
        return op.Reshape(op.Transpose(mixed, perm=[0, 2, 1, 3]), ANY_VALUE)

    def check(
        self,
        context: object,  # noqa: ARG002
        query_shape: ir.Value,
        key_shape: ir.Value,
        value_shape: ir.Value,
        query_scale: ir.Value,
        key_scale: ir.Value,
        **_: object,
    ) -> bool:
        """Whether the heads are known and alike, and the scale is the usual one."""
        heads, width = _entry(query_shape, 2), _entry(query_shape, 3)
        if heads is None or width is None:
            return False
        alike = all(_entry(shape, 2) == heads for shape in (key_shape, value_shape))
        scale = _number(query_scale) * _number(key_scale)
        return alike and math.isclose(scale, width**-0.5, rel_tol=_ROUNDING)

    def rewrite(
        self,
        op: ir.tape.Builder,
        query: ir.Value,
        key: ir.Value,
        value: ir.Value,
        query_shape: ir.Value,
        **_: object,
    ) -> ir.Value:
        """One node; its scale is 1 / sqrt(width of a head) where none is given."""
        heads = _entry(query_shape, 2)
        return op.MultiHeadAttention(query, key, value, num_heads=heads, _domain=_CONTRIB)


def _entry(shape: ir.Value, index: int) -> int | None:
    """One number of a shape that is a constant, or put together of numbers."""
    node = shape.producer()
    if node is None or node.op_type != "Concat":
        return None if shape.const_value is None else int(shape.const_value.numpy()[index])
    parts = node.inputs
    part = parts[index] if len(parts) > index else None
    return None if part is None or part.const_value is None else int(part.const_value.numpy().item())


def _number(value: ir.Value) -> float:
    """A constant of one number; NaN, which is close to nothing, where the value is none."""
    constant = value.const_value
    return math.nan if constant is None or constant.size != 1 else float(constant.numpy().item())
