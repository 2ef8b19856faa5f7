"""What every room may use around its work: commands, flags, processes, lines of JSON."""
