"""`com.microsoft.GroupNorm` in ONNX's own operators, for a CPU, where ONNX Runtime does not have it."""

import onnx

__all__ = ["spell_out_norms"]

# As ONNX Runtime documents the operator: over the pixels and channels of a group, channels last.
_FUNCTION = """
<domain: "spelled", opset_import: ["" : 18]>
GroupNorm <groups, epsilon, activation, channels_last> (x, gamma, beta) => (y)
{
    whole = Cast <to = 1> (x)
    shape = Shape (x)
    images = Shape <start = 0, end = 1> (x)
    count = Constant <value_int: int = @groups> ()
    rest = Constant <value_ints = [-1]> ()
    group_count = Reshape (count, rest)
    channels = Shape (gamma)
    width = Div (channels, group_count)
    grouped_shape = Concat <axis = 0> (images, rest, group_count, width)
    grouped = Reshape (whole, grouped_shape)
    axes = Constant <value_ints = [1, 3]> ()
    mean = ReduceMean (grouped, axes)
    centred = Sub (grouped, mean)
    squares = Mul (centred, centred)
    variance = ReduceMean (squares, axes)
    small = Constant <value_float: float = @epsilon> ()
    positive = Add (variance, small)
    deviation = Sqrt (positive)
    divided = Div (centred, deviation)
    normed = Reshape (divided, shape)
    stretched = Mul (normed, gamma)
    scaled = Add (stretched, beta)
    sigmoid = Sigmoid (scaled)
    silu = Mul (scaled, sigmoid)
    choice = Constant <value_int: int = @activation> ()
    wanted = Cast <to = 9> (choice)
    result = Where (wanted, silu, scaled)
    y = CastLike (result, x)
}
"""


def spell_out_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model whose every `GroupNorm` is replaced."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "GroupNorm":
            assert onnx.helper.get_node_attr_value(node, "channels_last") == 1
            node.domain = "spelled"
    copy.functions.append(onnx.parser.parse_function(_FUNCTION))
    copy.opset_import.append(onnx.helper.make_opsetid("spelled", 1))
    return copy
