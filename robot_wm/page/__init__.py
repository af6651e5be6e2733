"""Pages that open without a network: plots, style, policy."""
