"""What is fitted: parameters, rates, the coordinates of the search, contrast and offset."""
