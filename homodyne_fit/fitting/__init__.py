"""From a start to a result."""
