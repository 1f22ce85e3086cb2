"""Benchmarks: the floor, the stack and peers, measured side by side in one run."""
