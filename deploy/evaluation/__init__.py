"""Closed-loop evaluation: the same starts and goals for a controller and for the references that give it a scale."""
