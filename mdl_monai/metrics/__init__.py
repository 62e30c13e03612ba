"""Metrics by case, and their summary over cases with intervals over subjects."""
