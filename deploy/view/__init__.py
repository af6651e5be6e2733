"""Pages to look at a dataset, a flight, a world model, a controller or a robot: one HTML file, no network."""
