"""Stages of the learned part: ingest, pretrain, label."""
