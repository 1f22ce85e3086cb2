"""The processes of one machine: what runs, where, how it is watched, and in which order it stops."""
