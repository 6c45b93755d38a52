import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.kernel import resident
from homodyne_fit.kernel.moments import AngleFactors, _kernel, chunk_moments, compile_kernel
from homodyne_fit.kernel.resident import points_of
from homodyne_fit.kernel.tiles import TileChunk, tile_chunks
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC, curves

pytestmark = pytest.mark.numerics

GAP = 2e6


# A step into the complex plane: the derivative is the imaginary part over it, to the last digits.
STEP = 1e-30


def sinc(x):
    """sin(x) / x of complex numbers, with a series where the quotient would lose digits."""
    small = np.abs(x) < 0.1
    large = np.where(small, 1.0, x)
    series = 1 - x**2 / 6 * (1 - x**2 / 20 * (1 - x**2 / 42 * (1 - x**2 / 72)))
    return np.where(small, series, np.sin(large) / large)


def dense_moments(params, data, reference, power=2):
    """Moment matrices of the plain formula in NumPy, point by point."""
    n, dt = data.n_frames, data.dt
    i, j = np.triu_indices(n, 1)
    t = np.maximum(np.arange(n) * dt, dt / 2)

    def integral(p):
        rate = p[0] * t ** p[1] + p[2]
        rate = np.where(rate.real > 1e-10, rate, 1e-10)
        return np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * dt)])

    def f(p, k):
        s = integral(p[:3])
        value = np.exp(-(data.q[k] ** 2) * (s[j] - s[i]))
        if len(p) == 7:
            g = integral(p[3:6])
            direction = np.cos((p[6] - data.phi[k]) * np.pi / 180)
            value = value * sinc(0.5 * data.q[k] * GAP * direction * (g[j] - g[i])) ** power
        return value

    steps = params + STEP * 1j * np.eye(len(params))
    result = []
    for k in range(data.n_angles):
        c = data.c2[k][i, j] - reference[k]
        derivatives = [f(p, k).imag / STEP for p in steps]
        columns = np.stack([*derivatives, f(params + 0j, k).real, np.ones_like(c), c])
        columns = columns[:, np.isfinite(c)]
        result.append(columns @ columns.T)
    return np.stack(result)


def kernel_moments(params, data, reference, per_chunk=None, **options):
    model = LAMINAR_FLOW if params.shape[-1] == 7 else STATIC
    shear = direction = np.zeros((*params.shape[:-1], data.n_angles))
    if params.shape[-1] == 7:
        angle = np.deg2rad(params[..., 6, None] - data.phi)
        shear = 0.5 * data.q * GAP * np.cos(angle)
        direction = -0.5 * data.q * GAP * np.sin(angle) * np.pi / 180
    factors = AngleFactors(data.q**2, shear, direction, reference)
    integrals = curves(model, params, data.dt, data.n_frames)
    chunks = tile_chunks(data, per_chunk)
    return sum(chunk_moments(integrals, factors, chunk, **options) for chunk in chunks)


def relative_difference(a, b):
    """Largest difference, relative to the norms of the two columns an entry belongs to."""
    norms = np.sqrt(np.einsum("kii->ki", b))
    return np.max(np.abs(a - b) / (norms[:, :, None] * norms[:, None, :]))


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def random_data(n, seed, q=0.0054, dt=0.1):
    rng = np.random.default_rng(seed)
    c2 = rng.normal(1.1, 0.1, (3, n, n))
    c2[0, 2, n // 2] = np.nan
    return TwoTimeData(c2, np.array([-20.0, 30.0, 85.0]), q * np.array([1, 1.01, 0.99]), dt, "x")


@pytest.mark.parametrize("shear_rate", [1e-5, 4e-4, 5e-3])
def test_single_precision_keeps_five_digits(shear_rate):
    params = np.array([1200.0, -0.4, 150.0, shear_rate, 0.25, 5e-5, 3.0])
    data, reference = random_data(130, 1), np.array([1.0, 1.125, 1.25])
    single = kernel_moments(params, data, reference, precision="single")
    difference = relative_difference(single, kernel_moments(params, data, reference))
    assert 1e-10 < difference < 1e-5


@pytest.mark.parametrize("model", [STATIC, LAMINAR_FLOW])
@pytest.mark.parametrize("precision", ["double", "single"])
def test_what_is_compiled_ahead_is_what_is_used(model, precision):
    data = random_data(70, 2)
    chunk = tile_chunks(data)[0]
    compile_kernel(model, chunk.room, data.c2.dtype, 2, precision)
    compiled = _kernel("cpu", 2, precision, None)._cache_size()
    params = (1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, 3.0)[: len(model.parameters)]
    kernel_moments(np.array(params), data, np.ones(3), precision=precision)
    assert _kernel("cpu", 2, precision, None)._cache_size() == compiled > 0


RATES = st.tuples(st.floats(100, 2e4), st.floats(-0.8, 0.8), st.floats(-50, 1000))
FLOWS = st.tuples(st.floats(1e-5, 1e-2), st.floats(-0.8, 0.8), st.floats(0, 1e-3))


@settings(max_examples=100)
@given(RATES, FLOWS, st.floats(-10, 10), st.sampled_from([5, 64, 65, 130]), st.integers(0, 2**30))
def test_agrees_with_the_formula_point_by_point(transport, flow, phi0, n, seed):
    params = np.array([*transport, *flow, phi0])
    data = random_data(n, seed)
    reference = np.array([1.0, 1.1, 1.2])
    expected = dense_moments(params, data, reference)
    assert relative_difference(kernel_moments(params, data, reference), expected) < 1e-9


@pytest.mark.parametrize(("model", "n_sets", "per_chunk"), [(STATIC, 3, 2), (LAMINAR_FLOW, 21, 3)])
def test_many_sets_of_parameters_at_once_give_the_moments_of_each(model, n_sets, per_chunk):
    rng, data, reference = np.random.default_rng(5), random_data(130, 3), np.ones(3)
    params = np.array([1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, 3.0])[: len(model.parameters)]
    params = params * rng.uniform(0.5, 1.5, (n_sets, len(params)))
    together = kernel_moments(params, data, reference, per_chunk)
    assert len(together) == n_sets
    for moments, one in zip(together, params, strict=True):
        assert relative_difference(moments, dense_moments(one, data, reference)) < 1e-9


def test_static_model_has_no_flow_columns():
    params, data = np.array([900.0, 0.3, 10.0]), random_data(100, 1)
    result = kernel_moments(params, data, np.ones(3))
    assert result.shape == (3, 6, 6)
    assert relative_difference(result, dense_moments(params, data, np.ones(3))) < 1e-12


def test_fourth_power():
    params, data = np.array([900.0, 0.3, 10.0, 1e-3, 0.1, 0.0, 4.0]), random_data(90, 2)
    result = kernel_moments(params, data, np.ones(3), sinc_power=4)
    assert relative_difference(result, dense_moments(params, data, np.ones(3), power=4)) < 1e-10


@pytest.mark.parametrize("d0", [1e9, 1e15])
def test_decays_faster_than_a_frame_do_not_overflow(d0):
    params, data = np.array([d0, 0.0, 0.0, 0.5, 2.0, 0.0, 0.0]), random_data(130, 3)
    result = kernel_moments(params, data, np.ones(3))
    assert np.all(np.isfinite(result))
    assert result[0, 7, 7] == pytest.approx(0.0, abs=1e-12)


def test_chunks_change_nothing_but_the_rounding():
    params, data = np.array([900.0, 0.3, 10.0, 1e-3, 0.1, 0.0, 4.0]), random_data(200, 4)
    whole = kernel_moments(params, data, np.ones(3), per_chunk=10)
    for per_chunk in (1, 4, 7):
        pieces = kernel_moments(params, data, np.ones(3), per_chunk=per_chunk)
        assert relative_difference(pieces, whole) < 1e-12


@pytest.mark.parametrize("per_chunk", [1, 4, 10])
def test_all_tiles_at_once_as_on_a_gpu(monkeypatch, per_chunk):
    params, data = np.array([900.0, 0.3, 10.0, 1e-3, 0.1, 0.0, 4.0]), random_data(200, 5)
    by_groups = kernel_moments(params, data, np.ones(3), per_chunk)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    at_once = kernel_moments(params, data, np.ones(3), per_chunk)
    assert relative_difference(at_once, by_groups) < 1e-12


def test_a_gpu_is_given_each_chunk_once(monkeypatch):
    data = random_data(70, 2)
    (chunk,) = tile_chunks(data, 4)
    assert points_of(chunk)[0] is chunk.c2
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    first, again = points_of(chunk)[0], points_of(chunk)[0]
    assert isinstance(first, jax.Array)
    assert first is again
    (other,) = tile_chunks(data, 4)
    monkeypatch.setattr(resident, "_has_room", lambda device, chunk: False)
    assert points_of(other)[0] is other.c2
    assert points_of(chunk)[0] is first


def test_late_short_lags_keep_their_digits():
    # Ten thousand frames on, the integrals are large and their differences are not.
    params = np.array([1000.0, 0.5, 0.0, 1e-3, 0.5, 0.0, 3.0])
    n, side = 20_000, 64
    integrals = curves(LAMINAR_FLOW, params, 0.1, n)
    frames = np.arange(n - side, n)
    rng = np.random.default_rng(0)
    c2 = np.where(np.triu(np.ones((side, side)), 1) > 0, rng.normal(1, 0.1, (side, side)), np.nan)
    angle = np.deg2rad(3.0)
    b = 0.5 * 0.0054 * GAP
    factors = AngleFactors(
        *(
            np.array([v])
            for v in (0.0054**2, b * np.cos(angle), -b * np.sin(angle) * np.pi / 180, 1.0)
        )
    )
    # With room for more, for which the kernel is compiled already.
    room = np.full((4, 3, side, side), np.nan)
    room[0, 0] = c2
    chunk = TileChunk(frames[None], frames[None], room, 1)
    result = chunk_moments(integrals, factors, chunk)[0]
    s, ds = (
        np.asarray(integrals.transport)[frames],
        np.asarray(integrals.transport_jacobian)[frames],
    )
    i, j = np.triu_indices(side, 1)
    g = np.asarray(integrals.shear)[frames]
    x = b * np.cos(angle) * (g[j] - g[i])
    f = np.exp(-(0.0054**2) * (s[j] - s[i])) * np.sinc(x / np.pi) ** 2
    columns = -(0.0054**2) * f[:, None] * (ds[j] - ds[i])
    expected = columns.T @ columns
    norms = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        np.asarray(result)[:3, :3] / np.outer(norms, norms),
        expected / np.outer(norms, norms),
        rtol=1e-9,
    )
