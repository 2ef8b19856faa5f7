"""Ways for people to try the method."""
