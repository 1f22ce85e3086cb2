"""The embedding service: text to vectors, and ranking by them."""
