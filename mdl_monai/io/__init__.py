"""Files: records, checks of the input, atomic writing."""
