"""Defences against degeneracy, one class each, behind a thin controller."""
