"""A small drawn world: scenes, what can be said about them, and benchmarks made of them."""
