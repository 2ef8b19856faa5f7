"""The projector between tower and LLM."""
