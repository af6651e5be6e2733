"""What is learned: encoder, labeler, dynamics, heads, adapter, and the world model that holds them."""
