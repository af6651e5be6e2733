"""Measurements: rows with intervals and targets, and what is needed to measure them again."""
