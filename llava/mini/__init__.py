"""A small drawn world: scenes, texts about them, and benchmarks made of them."""
