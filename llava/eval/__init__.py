"""Answering, scoring, reports and timing."""
