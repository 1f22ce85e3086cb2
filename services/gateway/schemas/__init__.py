"""The public JSON bodies, one file per resource."""
