"""Where the search starts, what it evaluates, and the limits it meets."""
