"""World models for robots: pretrained on action-free video, calibrated to one body, exported to ONNX."""

__version__ = "0.1.0"
