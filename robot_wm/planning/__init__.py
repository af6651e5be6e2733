"""The search: samplers, objectives, and the planner that becomes one ONNX graph."""
