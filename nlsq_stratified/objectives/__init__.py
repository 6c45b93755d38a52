"""Costs to minimise: of curves, of correlated errors, with local parameters, with robust losses."""
