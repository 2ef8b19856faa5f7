"""The scores of each benchmark."""
