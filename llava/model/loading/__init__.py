"""Finding checkpoints and reading them: places, configurations, weights."""
