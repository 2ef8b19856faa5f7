"""The server with OpenAI's interface: ``python -m llava.serve.openai``."""
