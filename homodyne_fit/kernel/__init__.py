"""From points to sums, and from sums to normal equations."""
