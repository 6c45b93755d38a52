"""The search for the minimum of a sum of squares: it knows sums over points, never a point."""
