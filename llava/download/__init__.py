"""Fetches files from the network for checkpoints and benchmarks; no other room does."""
