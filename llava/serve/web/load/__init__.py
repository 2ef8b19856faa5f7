"""How the page bears many visitors, and bad ones: ``python -m llava.serve.web.load``."""
