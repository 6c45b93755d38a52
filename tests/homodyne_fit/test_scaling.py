import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, minimize, nnls

from homodyne_fit.errors import InputError
from homodyne_fit.kernel.elimination import eliminate, eliminate_each, reduce_each
from homodyne_fit.model.scaling import scaling_map

pytestmark = pytest.mark.numerics

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


@settings(max_examples=30)
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


# Angles without a symmetry, so that a series has no accidental zeros.
PHI = np.array([3.0, 37.0, 68.0, 101.0, 152.0, 170.0])


def columns_of(n_angles, seed):
    """As `columns`, for another number of angles."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_angles, N, P + 3))
    x[..., P] = rng.uniform(0, 1, (n_angles, N))
    x[..., P + 1] = 1.0
    contrast, offset = rng.uniform(0.15, 0.45, (n_angles, 1)), rng.uniform(0.9, 1.1, (n_angles, 1))
    x[..., P + 2] = offset + contrast * x[..., P] + 0.05 * rng.normal(size=(n_angles, N))
    return x


def series(phi, order, coefficients):
    """c0 + Σ a_m cos mφ + b_m sin mφ; the coefficients are c0, a_1.., b_1.."""
    total = np.full(len(phi), coefficients[0])
    for m in range(1, order + 1):
        total += coefficients[m] * np.cos(m * np.radians(phi))
        total += coefficients[order + m] * np.sin(m * np.radians(phi))
    return total


@pytest.mark.parametrize("order", [1, 2])
def test_fourier_values_are_a_cosine_and_sine_series_in_the_angle(order):
    scaling = scaling_map("fourier", phi=PHI, contrast=WIDE, offset=WIDE, order=order)
    z = np.random.default_rng(1).normal(size=2 * (1 + 2 * order))
    contrast, offset = np.split(scaling.values(z), 2)
    np.testing.assert_allclose(contrast, series(PHI, order, z[: 1 + 2 * order]), rtol=1e-12)
    np.testing.assert_allclose(offset, series(PHI, order, z[1 + 2 * order :]), rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_series_with_more_coefficients_than_angles_is_an_error(order):
    least = 1 + 2 * order
    phi = np.linspace(0.0, 150.0, least)
    assert scaling_map("fourier", phi=phi, contrast=WIDE, offset=WIDE, order=order).n_angles
    with pytest.raises(InputError, match=f"at least {least} angles, but {least - 1} are used"):
        scaling_map("fourier", phi=phi[:-1], contrast=WIDE, offset=WIDE, order=order)


def test_a_constant_map_leaves_the_physics_alone():
    x, held = columns(12), np.concatenate([np.linspace(0.2, 0.3, K), np.linspace(0.95, 1.05, K)])
    joint = eliminate(moments_of(x, np.ones(K)), np.ones(K), a_map("constant", held=held))
    assert len(joint.z) == 0
    np.testing.assert_array_equal(joint.scaling.values(joint.z), held)
    fitted = held[:K, None] * x[..., P] + held[K:, None]
    residual = (fitted - x[..., P + 2]).ravel()
    jacobian = (x[..., :P] * held[:K, None, None]).reshape(-1, P)
    reduced = joint.reduced()
    assert reduced.cost == pytest.approx(0.5 * residual @ residual, rel=1e-10)
    np.testing.assert_allclose(reduced.gradient, jacobian.T @ residual, rtol=1e-9)
    np.testing.assert_allclose(reduced.hessian, jacobian.T @ jacobian, rtol=1e-9)


@settings(max_examples=30)
@given(
    st.integers(0, 2**30),
    st.sampled_from(["individual", "averaged", "fourier"]),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_the_penalty_is_half_the_weighted_squares_about_the_mean(seed, mode, on_c, on_o):
    plain = scaling_map(mode, phi=PHI, contrast=WIDE, offset=WIDE)
    z = np.random.default_rng(seed).uniform(0, 1, plain.matrix.shape[1])
    contrast, offset = np.split(plain.matrix @ z, 2)
    expected = 0.5 * on_c * np.sum((contrast - contrast.mean()) ** 2)
    expected += 0.5 * on_o * np.sum((offset - offset.mean()) ** 2)
    penalty = plain.penalised(on_c, on_o).penalty
    rounding = 1e-14 * (on_c + on_o) * z @ z + 1e-300
    assert 0.5 * z @ penalty @ z == pytest.approx(expected, rel=1e-10, abs=rounding)
    again = plain.penalised(3.0, 7.0).penalised(on_c, on_o).penalty
    np.testing.assert_array_equal(again, penalty)


def dense_penalty_rows(scaling, on_contrast, on_offset):
    """Rows R with |R z|² the penalty, doubled: the residuals (v − v̄)·√λ."""
    k = scaling.n_angles
    contrast, offset = np.split(scaling.matrix, 2)
    rows = [
        np.sqrt(weight) * (part - part.mean(axis=0))
        for weight, part in ((on_contrast, contrast), (on_offset, offset))
    ]
    assert len(rows[0]) == k
    return np.vstack(rows)


def design_of(x, scaling):
    """As `design`, for any number of angles."""
    k = len(x)
    rows = np.zeros((k, N, 2 * k))
    for i in range(k):
        rows[i, :, i], rows[i, :, k + i] = x[i, :, P], 1.0
    return rows.reshape(k * N, -1) @ scaling.matrix


def karush_kuhn_tucker_residual(gradient, values, scaling):
    """What is left of the gradient after the pull of the limits that values lie on."""
    on_lower = np.abs(values - scaling.lower) < 1e-9
    on_upper = np.abs(values - scaling.upper) < 1e-9
    pulls = np.vstack([scaling.matrix[on_lower], -scaling.matrix[on_upper]])
    return nnls(pulls.T, gradient)[1] if len(pulls) else np.linalg.norm(gradient)


some_limits = {
    "seed": st.integers(0, 2**30),
    "mode": st.sampled_from(["individual", "averaged", "fourier"]),
    "contrast": st.tuples(st.floats(0.0, 0.35), st.floats(0.01, 0.3)),
    "offset": st.tuples(st.floats(0.85, 1.05), st.floats(0.01, 0.2)),
    "penalties": st.sampled_from([(0.0, 0.0), (30.0, 0.0), (1e3, 1e5), (1e8, 1e-3)]),
}


@settings(max_examples=80)
@given(**some_limits)
def test_limits_hold_contrast_and_offset_in_every_mode(seed, mode, contrast, offset, penalties):
    """The quadratic programme on all points: feasible, stationary up to what its limits bear."""
    x = columns_of(len(PHI), seed)
    boxes = [(low, low + width) for low, width in (contrast, offset)]
    scaling = scaling_map(mode, phi=PHI, contrast=boxes[0], offset=boxes[1]).penalised(*penalties)
    rng = np.random.default_rng(seed)
    weights, reference = rng.uniform(0.3, 2.0, len(PHI)), rng.uniform(0.9, 1.1, len(PHI))
    joint = eliminate(moments_of(x, reference), reference, scaling, weights)
    root = np.repeat(np.sqrt(weights), N)
    a = np.vstack([root[:, None] * design_of(x, scaling), dense_penalty_rows(scaling, *penalties)])
    c = np.concatenate([root * x[..., P + 2].ravel(), np.zeros(2 * len(PHI))])

    values = scaling.matrix @ joint.z
    assert np.all(values >= scaling.lower - 1e-9)
    assert np.all(values <= scaling.upper + 1e-9)
    residual = a @ joint.z - c
    assert joint.equations.cost == pytest.approx(0.5 * residual @ residual, rel=1e-9)
    terms = np.linalg.norm(a, axis=0) * np.linalg.norm(c)
    left = karush_kuhn_tucker_residual(a.T @ residual, values, scaling)
    assert left < 1e-7 * np.linalg.norm(terms)

    # The limits said to hold are limits that values lie on, and `free` leaves them alone.
    held = joint.limits != 0
    bound = np.where(joint.limits < 0, scaling.lower, scaling.upper)
    np.testing.assert_allclose(values[held], bound[held], rtol=0, atol=1e-12)
    np.testing.assert_allclose(joint.free.T @ joint.free, np.eye(joint.free.shape[1]), atol=1e-12)
    np.testing.assert_allclose(scaling.matrix[held] @ joint.free, 0, atol=1e-12)
    assert joint.free.shape[1] == len(joint.z) - np.linalg.matrix_rank(scaling.matrix[held])
    # With no limit but those, the minimum is the same.
    inner = a @ joint.free
    np.testing.assert_allclose(inner.T @ residual, 0, atol=1e-7 * np.linalg.norm(terms))


@pytest.mark.parametrize("penalties", [(0.0, 0.0), (30.0, 1e3)])
def test_elimination_of_many_is_that_of_each(penalties):
    """Some with limits that hold, some without, and one that is not finite."""
    box = {"contrast": (0.0, 0.38), "offset": (0.85, 1.09)}
    scaling = scaling_map("individual", phi=PHI, **box).penalised(*penalties)
    reference, weights = np.ones(6), np.linspace(0.5, 2.0, 6)
    moments = np.array([moments_of(columns_of(6, seed), reference) for seed in range(12)])
    moments[7, 2, 0, P] = np.nan
    joints = eliminate_each(moments, reference, scaling, weights)
    assert len({joint.free.shape[1] for joint in joints}) > 1
    for i, (joint, reduced) in enumerate(zip(joints, reduce_each(joints), strict=True)):
        alone = eliminate(moments[i], reference, scaling, weights)
        np.testing.assert_array_equal(joint.limits, alone.limits)
        for one, other in (
            (joint.z, alone.z),
            (joint.equations.gradient, alone.equations.gradient),
            (joint.equations.hessian, alone.equations.hessian),
            (reduced.hessian, alone.reduced().hessian),
        ):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.nanmax(np.abs(other)))
        assert reduced.finite == (i != 7)


@pytest.mark.parametrize("mode", ["individual", "averaged", "fourier"])
@pytest.mark.parametrize("penalties", [(0.0, 0.0), (20.0, 300.0)])
def test_limits_agree_with_a_general_minimiser(mode, penalties):
    x = columns_of(len(PHI), 20)
    box = {"contrast": (0.25, 0.32), "offset": (0.97, 1.01)}
    scaling = scaling_map(mode, phi=PHI, **box).penalised(*penalties)
    joint = eliminate(moments_of(x, np.ones(6)), np.ones(6), scaling)
    a = np.vstack([design_of(x, scaling), dense_penalty_rows(scaling, *penalties)])
    c = np.concatenate([x[..., P + 2].ravel(), np.zeros(12)])
    start = np.linalg.lstsq(scaling.matrix, np.repeat([0.3, 1.0], 6))[0]
    # Minimised for values in units of their limits, with the exact gradient.
    found = minimize(
        lambda z: (0.5 * np.sum((a @ z - c) ** 2), a.T @ (a @ z - c)),
        start,
        jac=True,
        method="SLSQP",
        constraints=[
            {
                "type": "ineq",
                "fun": lambda z: np.concatenate(
                    [scaling.matrix @ z - scaling.lower, scaling.upper - scaling.matrix @ z]
                ),
                "jac": lambda z: np.vstack([scaling.matrix, -scaling.matrix]),
            }
        ],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert np.any(joint.limits)
    assert joint.equations.cost == pytest.approx(found.fun, rel=1e-8)
    np.testing.assert_allclose(joint.scaling.values(joint.z), scaling.matrix @ found.x, atol=1e-5)


@pytest.mark.parametrize("mode", ["averaged", "fourier"])
def test_every_value_that_a_limit_leaves_no_freedom_counts_as_held(mode):
    """One number for all angles at its limit holds all angles, not one of them."""
    # The same angles twice, so that a series has the same value at two of them.
    phi = np.concatenate([PHI, PHI[:2]])
    x = columns_of(len(phi), 13)
    scaling = scaling_map(mode, phi=phi, contrast=(0.0, 0.2), offset=(0.5, 3.0))
    joint = eliminate(moments_of(x, np.ones(len(phi))), np.ones(len(phi)), scaling)
    assert np.any(joint.limits)
    still = np.linalg.norm(scaling.matrix @ joint.free, axis=1) < 1e-10
    np.testing.assert_array_equal(joint.limits != 0, still)


@settings(max_examples=20)
@given(st.integers(0, 2**30), st.sampled_from(["individual", "averaged", "fourier"]))
def test_weights_make_it_a_weighted_least_squares_problem(seed, mode):
    x, rng = columns_of(len(PHI), seed), np.random.default_rng(seed)
    scaling = scaling_map(mode, phi=PHI, contrast=WIDE, offset=WIDE)
    weights = rng.uniform(0.1, 3.0, len(PHI))
    joint = eliminate(moments_of(x, np.ones(6)), np.ones(6), scaling, weights)
    w, a, c = np.repeat(weights, N), design_of(x, scaling), x[..., P + 2].ravel()
    z = np.linalg.lstsq(np.sqrt(w)[:, None] * a, np.sqrt(w) * c)[0]
    np.testing.assert_allclose(joint.z, z, rtol=1e-7, atol=1e-9)
    residual = a @ z - c
    assert joint.equations.cost == pytest.approx(0.5 * w @ residual**2, rel=1e-9)
    assert joint.sum_of_squares == pytest.approx(residual @ residual, rel=1e-9)
    contrast = (scaling.matrix @ z)[: len(PHI)]
    jacobian = np.hstack([(x[..., :P] * contrast[:, None, None]).reshape(-1, P), a])
    weighted = w[:, None] * jacobian
    size = np.linalg.norm(jacobian, axis=0)
    atol = 1e-8 * np.outer(size, size)
    assert np.all(np.abs(joint.equations.gradient - weighted.T @ residual) < 1e-8 * size)
    assert np.all(np.abs(joint.equations.hessian - weighted.T @ jacobian) < atol)
    assert np.all(np.abs(joint.score_covariance - weighted.T @ weighted) < atol)


@settings(max_examples=40)
@given(**some_limits)
def test_reduced_hessian_projects_out_what_limits_and_penalty_leave_free(
    seed, mode, contrast, offset, penalties
):
    x, rng = columns_of(len(PHI), seed), np.random.default_rng(seed)
    boxes = [(low, low + width) for low, width in (contrast, offset)]
    scaling = scaling_map(mode, phi=PHI, contrast=boxes[0], offset=boxes[1]).penalised(*penalties)
    weights = rng.uniform(0.3, 2.0, len(PHI))
    joint = eliminate(moments_of(x, np.ones(6)), np.ones(6), scaling, weights)
    root = np.repeat(np.sqrt(weights), N)[:, None]
    values = scaling.matrix @ joint.z
    j = root * (x[..., :P] * values[:6, None, None]).reshape(-1, P)
    # The penalty as residuals that do not depend on the physics.
    j = np.vstack([j, np.zeros((12, P))])
    a = np.vstack([root * design_of(x, scaling), dense_penalty_rows(scaling, *penalties)])
    held = (np.abs(values - scaling.lower) < 1e-10) | (np.abs(values - scaling.upper) < 1e-10)
    rows = np.linalg.svd(np.vstack([scaling.matrix[held], np.zeros((1, len(joint.z)))]))
    a = a @ rows.Vh[np.count_nonzero(rows.S > 1e-10) :].T
    projected = j - a @ np.linalg.lstsq(a, j)[0]
    expected = projected.T @ projected
    np.testing.assert_allclose(
        joint.reduced().hessian, expected, atol=1e-7 * np.abs(expected).max()
    )


@pytest.mark.parametrize("mode", ["individual", "averaged", "constant", "fourier"])
def test_some_of_the_angles_have_the_values_they_had(mode):
    scaling = a_map(mode, held=np.linspace(0.1, 1.5, 2 * K), order=1)
    n, rng = scaling.n_angles, np.random.default_rng(0)
    angles = np.array([0, n - 1])
    z = rng.normal(size=scaling.matrix.shape[1])
    rows = np.concatenate([angles, n + angles])
    matters = np.any(scaling.matrix[rows], axis=0)
    part = scaling.select_angles(angles)
    expected = (scaling.constant + scaling.matrix @ z)[rows]
    np.testing.assert_allclose(part.constant + part.matrix @ z[matters], expected, rtol=1e-12)
    # The penalty is about the mean of those that are left.
    contrast = (part.matrix @ z[matters])[:2]
    penalised = part.penalised(3.0, 0.0)
    spread = np.sum((contrast - contrast.mean()) ** 2)
    assert z[matters] @ penalised.penalty @ z[matters] == pytest.approx(3.0 * spread, abs=1e-12)
