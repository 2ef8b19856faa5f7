"""The stages of training that only the mini model needs: its CLIP, projector, LLM and LongCLIP."""
