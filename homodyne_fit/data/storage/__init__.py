"""Matrices that do not fit into memory."""
