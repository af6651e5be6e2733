"""PyTorch to a controller bundle: graphs without control flow, numeric parity as a gate."""
