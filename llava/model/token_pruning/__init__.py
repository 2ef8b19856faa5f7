"""Choosing the visual tokens that stay: pure functions on attention and distances."""
