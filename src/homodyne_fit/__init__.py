"""Laminar-flow analysis of XPCS two-time correlations, for all angles at once."""
