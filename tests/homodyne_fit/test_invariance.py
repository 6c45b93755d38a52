"""What must not change a fit.

Turning the angles moves the origin of a Fourier series, but ``cos mφ`` and ``sin mφ`` span the
same functions, so the mode ``fourier`` is among those tested.
"""

import numpy as np
import pytest

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.fitting.fit import FitSettings, fit
from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions

NAMES = ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
MODES = ("individual", "averaged", "hierarchical", "auto", "fourier")
# The fit ends within 1e-4 standard errors of its minimum; learned spreads within 1e-2.
TOLERANCE = {"individual": 2e-3, "averaged": 2e-3, "fourier": 2e-3}


@pytest.fixture(scope="module")
def measurement(measure):
    return measure(n=61, phi=(0.0, 31.0, 66.0, 104.0, 151.0))


def fitted(m, data, mode, turn=0.0, factor=1.0):
    settings = FitSettings(
        gap=m.gap,
        initial={"phi0": turn},
        fixed={"D_offset": m.params[2], "gamma_dot_t_offset": m.params[5]},
        bounds={"phi0": (turn - 10.0, turn + 10.0), "contrast": (0.0, factor)},
        search=SearchOptions(
            constant_parts="free",
            multi_start=MultiStart(n_starts=32),
            anti_degeneracy=AntiDegeneracy(per_angle_mode=mode, fourier_order=1),
            threads=1,
            # Speckles of one mode have a contrast of 1 at most.
            uncertainty="white",
        ),
    )
    return fit(data, settings)


@pytest.fixture(scope="module")
def base(measurement):
    return {mode: fitted(measurement, measurement.data, mode) for mode in MODES}


def compare(result, base, mode, *, shift=0.0, factor=1.0, order=range(5)):
    """Values and standard errors, in standard errors of the base."""
    tolerance = TOLERANCE.get(mode, 2e-2)
    old = [*base.parameters.values()]
    old += [part[k] for part in (base.contrast, base.offset) for k in order]
    new = [*result.parameters.values(), *result.contrast, *result.offset]
    scale, offset = np.ones(17), np.zeros(17)
    scale[7:12], offset[6] = factor, shift
    for e, b, s, o in zip(new, old, scale, offset, strict=True):
        assert (e.fixed, e.at_bound) == (b.fixed, b.at_bound)
        if np.isfinite(b.stderr):
            assert abs(e.value - o - s * b.value) < tolerance * s * b.stderr
            assert e.stderr == pytest.approx(s * b.stderr, rel=tolerance)
    assert result.objective.scaling.mode == base.objective.scaling.mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_fit_follows_the_scale_of_the_contrast(measurement, base, mode, factor):
    """Of contrast and noise together, about an offset of 1."""
    m = measurement
    data = TwoTimeData(1.0 + factor * (m.data.c2 - 1.0), m.phi, m.q, m.dt, "scaled")
    result = fitted(m, data, mode, factor=factor)
    assert result.noise == pytest.approx(factor * base[mode].noise, rel=1e-4)
    rescaled = base[mode]
    # Offsets move about 1 likewise.
    for e, b in zip(result.offset, rescaled.offset, strict=True):
        if np.isfinite(b.stderr):
            expected = 1.0 + factor * (b.value - 1.0)
            assert abs(e.value - expected) < 2e-2 * factor * b.stderr
    for kind in ("parameters", "contrast"):
        new, old = getattr(result, kind), getattr(rescaled, kind)
        if kind == "parameters":
            new, old = new.values(), old.values()
        s = factor if kind == "contrast" else 1.0
        for e, b in zip(new, old, strict=True):
            if np.isfinite(b.stderr):
                assert abs(e.value - s * b.value) < TOLERANCE.get(mode, 2e-2) * s * b.stderr


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turn", [137.0])
def test_turning_all_angles_turns_the_flow_and_nothing_else(measurement, base, mode, turn):
    m = measurement
    data = TwoTimeData(m.data.c2, m.phi + turn, m.q, m.dt, "turned")
    compare(fitted(m, data, mode, turn), base[mode], mode, shift=turn)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [(2, 0, 3, 1, 4)])
def test_the_order_of_the_angles_changes_nothing(measurement, base, mode, order):
    m, order = measurement, list(order)
    data = TwoTimeData(m.data.c2[order], m.phi[order], m.q[order], m.dt, "permuted")
    compare(fitted(m, data, mode), base[mode], mode, order=order)
