"""A result and its data in words and pictures."""
