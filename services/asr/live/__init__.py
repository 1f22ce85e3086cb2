"""Speech while it is spoken: places, endpoints, results that may change and final ones."""
