"""Engines: from the graph in the model store to the file that a profile executes, in stages that each work alone."""
