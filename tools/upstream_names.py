"""Pytest plugin for NLSQ's own tests: NLSQ's large-data names become ours."""

import types

import pytest


def pytest_configure() -> None:
    """Replace the names after NLSQ's conftest has set JAX up, before a test imports them."""
    import nlsq
    from nlsq import streaming
    from nlsq.streaming import large_dataset

    import nlsq_stratified
    from nlsq_stratified import curve_fit

    # Our function hands fits without chunks to the original, which would now be itself.
    original = types.SimpleNamespace(curve_fit_large=nlsq.curve_fit_large)
    pytest.MonkeyPatch().setattr(curve_fit, "nlsq", original)
    ours = {
        "curve_fit_large": nlsq_stratified.curve_fit_large,
        "LargeDatasetFitter": nlsq_stratified.StratifiedLargeDatasetFitter,
        "fit_large_dataset": nlsq_stratified.fit_large_dataset,
    }
    for module in (nlsq, streaming, large_dataset):
        for name, value in ours.items():
            if hasattr(module, name):
                setattr(module, name, value)
