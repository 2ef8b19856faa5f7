"""How the page bears many visitors, and bad ones: ``python -m tests.load``."""
