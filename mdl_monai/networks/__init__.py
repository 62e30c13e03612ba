"""Networks and layers, one a file; knows physics, never files."""
