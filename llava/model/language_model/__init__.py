"""The LLM: prompts, decoding, sampling, and reading it layer by layer."""
