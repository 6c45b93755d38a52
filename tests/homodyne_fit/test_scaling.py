import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from homodyne_fit.scaling import eliminate, scaling_map

P, K, N = 3, 4, 60
WIDE = (-10.0, 10.0)


def a_map(mode, contrast=WIDE, offset=WIDE, **given):
    return scaling_map(
        mode, phi=np.arange(K) * 180.0 / K, contrast=contrast, offset=offset, **given
    )


def columns(seed):
    """[∂f/∂θ, f, 1, c2] of K angles at N points: (K, N, P + 3)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(K, N, P + 3))
    x[..., P] = rng.uniform(0, 1, (K, N))
    x[..., P + 1] = 1.0
    contrast, offset = rng.uniform(0.2, 0.4, (K, 1)), rng.uniform(0.9, 1.1, (K, 1))
    x[..., P + 2] = offset + contrast * x[..., P] + 0.05 * rng.normal(size=(K, N))
    return x


def moments_of(x, reference):
    y = x.copy()
    y[..., P + 2] -= reference[:, None]
    return np.einsum("kni,knj->kij", y, y)


def design(x, scaling):
    """Dense design matrix of z: (K·N, m)."""
    rows = np.zeros((K, N, 2 * K))
    for k in range(K):
        rows[k, :, k], rows[k, :, K + k] = x[k, :, P], 1.0
    return rows.reshape(K * N, -1) @ scaling.matrix


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**30),
    st.sampled_from(["individual", "averaged"]),
    st.floats(0.15, 0.5),
    st.floats(0.95, 1.2),
    st.floats(-1, 2),
)
def test_elimination_is_the_bounded_least_squares_of_all_points(seed, mode, top, ceiling, shift):
    x, reference = columns(seed), np.full(K, shift)
    scaling = a_map(mode, (0.0, top), (0.5, ceiling))
    joint = eliminate(moments_of(x, reference), reference, scaling)
    a, c = design(x, scaling), x[..., P + 2].ravel()
    half = len(scaling.matrix) // a.shape[1]
    box = scaling.lower[::half], scaling.upper[::half]
    expected = lsq_linear(a, c, box, method="bvls", tol=1e-14)
    np.testing.assert_allclose(joint.z, expected.x, rtol=1e-7, atol=1e-9)
    assert joint.equations.cost == pytest.approx(expected.cost, rel=1e-9)
    np.testing.assert_array_equal(joint.limits[::half], expected.active_mask)

    residual = a @ joint.z - c
    contrast = (scaling.matrix @ joint.z)[:K]
    jacobian = np.hstack([(x[..., :P] * contrast[:, None, None]).reshape(-1, P), a])
    np.testing.assert_allclose(joint.equations.gradient, jacobian.T @ residual, atol=1e-9)
    np.testing.assert_allclose(joint.equations.hessian, jacobian.T @ jacobian, atol=1e-9)
    assert joint.equations.n_points == K * N


def test_reduced_hessian_is_that_of_the_projected_jacobian():
    x = columns(7)
    scaling = a_map("individual")
    joint = eliminate(moments_of(x, np.ones(K)), np.ones(K), scaling)
    a = design(x, scaling)
    j = (x[..., :P] * joint.z[:K, None, None]).reshape(-1, P)
    projected = j - a @ np.linalg.lstsq(a, j)[0]
    np.testing.assert_allclose(joint.reduced().hessian, projected.T @ projected, rtol=1e-9)


def test_scaling_held_at_a_limit_is_a_constant_in_the_reduced_hessian():
    x = columns(8)
    scaling = a_map("individual", (0.0, 1e-3))
    joint = eliminate(moments_of(x, np.ones(K)), np.ones(K), scaling)
    assert np.all(joint.limits[:K] == 1)
    a = design(x, scaling)[:, K:]
    j = (x[..., :P] * 1e-3).reshape(-1, P)
    projected = j - a @ np.linalg.lstsq(a, j)[0]
    np.testing.assert_allclose(joint.reduced().hessian, projected.T @ projected, rtol=1e-9)


def test_reference_only_moves_the_origin():
    x = columns(9)
    scaling = a_map("averaged")
    near, far = (
        eliminate(moments_of(x, np.full(K, r)), np.full(K, r), scaling) for r in (1.0, 0.0)
    )
    np.testing.assert_allclose(near.z, far.z, rtol=1e-10)
    assert near.equations.cost == pytest.approx(far.equations.cost, rel=1e-9)


def test_a_decay_that_is_gone_leaves_the_contrast_undetermined_but_finite():
    x = columns(10)
    x[..., P] = 0.0
    joint = eliminate(moments_of(x, np.ones(K)), np.ones(K), a_map("individual"))
    assert np.all(np.isfinite(joint.z))
    np.testing.assert_allclose(joint.z[K:], x[..., P + 2].mean(axis=1))


def test_moments_that_are_not_finite_give_a_cost_that_is_not():
    moments = moments_of(columns(11), np.ones(K))
    moments[1] = np.nan
    joint = eliminate(moments, np.ones(K), a_map("individual"))
    assert not joint.reduced().finite
