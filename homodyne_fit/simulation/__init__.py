"""Simulated measurements: from the formula or from first principles, written as files."""
