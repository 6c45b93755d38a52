"""The noise of two-time matrices: what the statistics of speckles and photons do to a fit."""
