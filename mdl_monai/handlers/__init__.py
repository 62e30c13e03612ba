"""Handlers: metric tables, pictures, checkpoints, run record."""
