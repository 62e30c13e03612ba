"""The seeded head phantom, for the demo and the tests."""
