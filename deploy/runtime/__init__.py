"""What a robot runs: numpy, ONNX Runtime and the contracts. Never torch, a simulator or a configuration library."""
