"""Choosing the visual tokens to keep: pure functions on attention, features and distances."""
