"""The search for the minimum, from sums alone."""
