"""Getting the data right: ``python -m llava.benchmarks download|verify NAME...|all``."""
