"""The stages of training at work: what each learns from, and by which loss."""
