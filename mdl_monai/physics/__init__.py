"""Forward operators, sampling masks and coil maps; knows torch alone."""
