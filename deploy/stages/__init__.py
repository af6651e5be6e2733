"""Thin mains of deployment: export, run, evaluate, demo."""
