"""What a person runs: start, stop, check, prepare, measure."""
