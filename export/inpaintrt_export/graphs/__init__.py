"""ONNX graphs: their files, example inputs, and nodes that are fused for a backend."""
