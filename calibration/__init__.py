"""Fitting a world model to one body from minutes of its own data."""
