"""Audio as it comes, files and streams, to 16 kHz samples. Knows no models."""
