"""Files from the network, for checkpoints and benchmarks: no other room fetches anything."""
