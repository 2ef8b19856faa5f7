"""The questions of each benchmark."""
