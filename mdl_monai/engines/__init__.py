"""Runs that ignite and MONAI lack; no network in here."""
