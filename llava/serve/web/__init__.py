"""The web page: ``python -m llava.serve.web``."""
