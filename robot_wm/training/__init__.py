"""How the world model is trained: losses, the loop with its health checks, checkpoints."""
