"""Tests, which mirror the rooms of llava; what they share is in `helpers`."""
