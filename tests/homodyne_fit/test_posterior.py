"""The posterior against closed forms of dense matrices, least squares, and simulations."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.fit import fit
from homodyne_fit.fitting.options import AntiDegeneracy, MultiStart, SearchOptions
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC
from homodyne_fit.model.scaling import LEAST_MEAN, TYPICAL_SPREAD
from homodyne_fit.posterior.bounds import Bounds, parameters_of
from homodyne_fit.posterior.consensus import combined, shards_of
from homodyne_fit.posterior.gaussian import at_mode
from homodyne_fit.posterior.importance import PER_UNKNOWN, draw_by_importance, resampled
from homodyne_fit.posterior.nuts import run_nuts
from homodyne_fit.posterior.sampling import _Run, sample_posterior
from homodyne_fit.posterior.settings import PosteriorSettings, Prior, SamplingOptions
from homodyne_fit.posterior.statistics import smoothed
from homodyne_fit.simulation.measurement import Measurement, from_first_principles

pytestmark = pytest.mark.numerics

N, Q, DT = 40, 0.0054, 0.1
TRUTH = {"D0": 2e4, "alpha": -0.2, "D_offset": 0.0}
NOISE = 0.02


def static_data(contrast=(0.28, 0.3, 0.32), noise=NOISE, seed=1):
    phi = (0.0, 60.0, 120.0)
    return hf.simulate(
        TRUTH, phi=phi, q=Q, dt=DT, n_frames=N, contrast=contrast, noise=noise, seed=seed
    )


def settings(mode, **given):
    search = SearchOptions(
        anti_degeneracy=AntiDegeneracy(per_angle_mode=mode),
        multi_start=MultiStart(enable=False),
        uncertainty=given.pop("uncertainty", "white"),
        threads=1,
    )
    fixed = {"D_offset": 0.0}
    return FitSettings(model=STATIC, fixed=fixed, search=search, **given)


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def data():
    return static_data()


def target_of(data, result, threads, **given):
    run = _Run(data, result, PosteriorSettings(**given), threads, 1, None, lambda text: None)
    return run._target()


def decays(d0, alpha):
    """f of the points t1 < t2, the same for all angles, in plain NumPy."""
    t = np.arange(N) * DT
    j = d0 * np.maximum(t, DT / 2) ** alpha
    s = np.concatenate([[0.0], np.cumsum((j[1:] + j[:-1]) / 2 * DT)])
    i, k = np.triu_indices(N, 1)
    return np.exp(-(Q**2) * (s[k] - s[i]))


def dense_log_likelihood(data, d0, alpha, sigma, precision, pull):
    """Of the points, contrast and offset integrated against exp(−½ zᵀ Λ z + ηᵀ z) by dense algebra.

    y ~ N(X μ, σ² + X Λ⁻¹ Xᵀ), μ = Λ⁻¹ η, by the determinant and inverse of that covariance.
    """
    f, k = decays(d0, alpha), data.n_angles
    upper = np.triu_indices(N, 1)
    y = np.concatenate([data.c2[a][upper] for a in range(k)])
    design = np.hstack([np.kron(np.eye(k), f[:, None]), np.kron(np.eye(k), np.ones((len(f), 1)))])
    spread = np.linalg.inv(precision)
    residual = y - design @ (spread @ pull)
    covariance = sigma**2 * np.eye(len(y)) + design @ spread @ design.T
    _, log_det = np.linalg.slogdet(covariance)
    log_prior_norm = 0.5 * pull @ spread @ pull - 0.5 * np.linalg.slogdet(precision)[1]
    return -0.5 * residual @ np.linalg.solve(covariance, residual) - 0.5 * log_det + log_prior_norm


@pytest.mark.parametrize("mode", ["individual", "hierarchical"])
def test_the_density_is_that_of_dense_matrices(threads, mode):
    """Priors of contrast and offset, spreads and physics together, at points far from the mode."""
    data = static_data(noise=0.05)
    result = fit(data, settings(mode))
    mu, sigma = (0.29, 1.01), (0.05, 0.02)
    priors = {
        "contrast": Prior("Normal", mu[0], sigma[0]),
        "offset": Prior("TruncatedNormal", mu[1], sigma[1]),
    }
    target, start = target_of(data, result, threads, priors=priors)
    density = target.density
    rng = np.random.default_rng(0)
    xi = density.from_bounded(start) + 0.05 * rng.normal(size=(6, len(start)))
    found, expected = target.log_densities(xi), []
    with jax.enable_x64(True):
        volumes = [float(density.bounded(each)[1]) for each in xi]
    k, noise = data.n_angles, np.sqrt(density.adjustment.variance)
    bounded = target.bounded_values(xi)
    for each, (d0, alpha, _) in zip(bounded, parameters_of(target.space, bounded), strict=True):
        precision = np.kron(np.diag(1 / np.square(sigma)), np.eye(k))
        pull = np.repeat(np.array(mu) / np.square(sigma), k)
        log_prior = 0.0
        if mode == "hierarchical":
            tau, centre = each[-2:], np.eye(k) - 1 / k
            precision += np.kron(np.diag(1 / tau**2), centre)
            means = target.center.solution.scaling.reshape(2, k).mean(axis=1)
            typical = np.array(TYPICAL_SPREAD) * np.maximum(means, LEAST_MEAN)
            log_prior = -(k - 1) * np.log(tau).sum() - np.log1p((tau / typical) ** 2).sum()
        expected.append(dense_log_likelihood(data, d0, alpha, noise, precision, pull) + log_prior)
    found = found - volumes
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-6, atol=1e-6)


def test_programs_are_shared_by_fits_of_one_shape(data, threads, caplog):
    """Numbers are arguments: other data, bounds and priors need no other program."""

    def sample(data, mu):
        given = settings("individual", bounds={"D0": (mu / 5, 3 * mu)})
        result, priors = fit(data, given), {"D0": Prior("Normal", mu, mu)}
        options = SamplingOptions(num_samples=50, num_chains=2)
        with jax.log_compiles():
            caplog.clear()
            sample_posterior(data, result, PosteriorSettings(options, priors), threads=1)
            return [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]

    sample(data, 2.1e4)
    assert sample(static_data(contrast=(0.2, 0.22, 0.25), seed=2), 1.9e4) == []
    with jax.log_compiles():
        jax.jit(lambda x: x + len(caplog.records))(1.0)
    assert any("Compiling" in record.getMessage() for record in caplog.records)


def test_one_set_of_parameters_is_told_from_a_stack_of_one(data):
    """Their curves are kept from one evaluation to the next, and have other shapes."""
    result = fit(data, settings("averaged"))
    objective, full = result.objective, result.space.complete(result.coordinates)
    stack, one = objective.curves(full[None]), objective.curves(full)
    assert stack.transport.shape == (1, N)
    np.testing.assert_array_equal(one.transport, stack.transport[0])


def test_the_gradient_of_the_density(data, threads):
    priors = {"D0": Prior("LogNormal", np.log(2e4), 0.3), "alpha": Prior("Normal", -0.2, 0.1)}
    target, start = target_of(data, fit(data, settings("individual")), threads, priors=priors)
    xi = target.density.from_bounded(start) + np.array([0.01, 0.02])
    value, gradient = target.value_and_gradient(xi)
    assert value == pytest.approx(target.log_densities(xi[None])[0], rel=1e-12)
    for i, step in enumerate(1e-5 * np.eye(2)):
        up, down = target.log_densities(np.stack([xi + step, xi - step]))
        assert (up - down) / 2e-5 == pytest.approx(gradient[i], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "mu", "sigma"),
    [("Normal", 2e4, 3e3), ("LogNormal", 9.9, 0.2), ("BetaScaled", 2e4, 3e3), ("Uniform", 0, 1)],
)
def test_a_prior_is_that_of_the_parameters(data, threads, kind, mu, sigma):
    """Its density in the coordinates has the volume by which they differ, found by differences."""
    from scipy import stats

    lower, upper = 5e3, 6e4
    given = settings("averaged", bounds={"D0": (lower, upper)})
    priors = {"D0": Prior(kind, mu, sigma), "alpha": Prior("Normal", -0.1, 0.2)}
    target, start = target_of(data, fit(data, given), threads, priors=priors)
    density = target.density
    match kind:
        case "Normal":
            log_density = stats.norm(mu, sigma).logpdf
        case "LogNormal":
            log_density = stats.lognorm(sigma, scale=np.exp(mu)).logpdf
        case "BetaScaled":
            share = (mu - lower) / (upper - lower)
            total = share * (1 - share) * ((upper - lower) / sigma) ** 2 - 1
            shape = share * total, (1 - share) * total
            log_density = stats.beta(*shape, lower, upper - lower).logpdf
        case _:
            log_density = stats.uniform(lower, upper - lower).logpdf
    found, expected = [], []
    for factor in (0.9, 1.0, 1.15):
        y = np.array([factor * start[0], start[1] * factor])
        with jax.enable_x64(True):
            found.append(float(density.log_prior(y)))
        x = target.space.to_parameters(y)
        steps = 1e-5 * np.abs(y)
        jacobian = [
            (target.space.to_parameters(y + step) - target.space.to_parameters(y - step))[:2]
            for step in np.diag(steps)
        ]
        volume = np.log(np.abs(np.linalg.det(np.array(jacobian) / (2 * steps[:, None]))))
        expected.append(log_density(x[0]) + stats.norm(-0.1, 0.2).logpdf(x[1]) + volume)
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["averaged", "individual"])
def test_where_all_is_normal_it_is_least_squares(threads, mode):
    """Means within 5 % of a standard error, and standard deviations within 5 %."""
    data = static_data(contrast=0.3, noise=0.002)
    result = fit(data, settings(mode))
    posterior = sample_posterior(data, result, PosteriorSettings(), threads=1)
    summary = posterior.summary
    assert summary.success
    assert summary.diagnostics.sampler == "importance"
    estimates = {name: result.parameters[name] for name in ("D0", "alpha")}
    estimates |= {f"contrast[{k}]": e for k, e in enumerate(result.contrast)}
    estimates |= {f"offset[{k}]": e for k, e in enumerate(result.offset)}
    for name, estimate in estimates.items():
        found = summary.quantities[name]
        # Three standard errors of the draws, and 2 % for what is not normal.
        least = 3 / np.sqrt(found.ess) + 0.02
        assert least < 0.08
        assert abs(found.mean - estimate.value) < least * estimate.stderr, name
        assert found.sd == pytest.approx(estimate.stderr, rel=least), name


@pytest.mark.parametrize("mode", ["averaged", "individual"])
def test_where_all_is_normal_it_has_the_covariance_of_correlated_points(mode):
    """H⁻¹VH⁻¹ of the fit, of speckles that outlive a frame; contrasts and offsets included.

    That covariance is compared with matrices of all pairs of points in `test_speckle_covariance`.
    """
    truth = Measurement({**TRUTH, "D0": 8e3}, Q, (0.0, 60.0, 120.0), 2e6, DT, N)
    detector = {"pixels": 20_000, "modes": 3, "mean_counts": 5.0, "particles": None}
    c2 = from_first_principles(truth, seed=3, workers=1, **detector)
    data = hf.TwoTimeData(c2, np.array(truth.phi), np.full(3, Q), DT)
    given = settings(mode, uncertainty="speckle")
    result = fit(data, given)
    posterior = sample_posterior(data, result, PosteriorSettings(), threads=1)
    assert np.nanmax(result.uncertainty.widening) > 2
    names, draws = [], []
    for name, values in posterior.values.items():
        if name in ("D0", "alpha"):
            names.append(name)
            draws.append(values.ravel())
        elif name in ("contrast", "offset"):
            for k in range(1 if mode == "averaged" else 3):
                names.append(f"{name}[{k}]")
                draws.append(values[:, :, k].ravel())
    root = result.root[[result.names.index(name) for name in names]]
    errors = np.linalg.norm(root, axis=1)
    correlation = root @ root.T / np.outer(errors, errors)
    found = np.cov(np.array(draws) / errors[:, None])
    # In directions in which that of the fit is 1; of n draws of p numbers, ± 2 √(p/n).
    inward = np.linalg.inv(np.linalg.cholesky(correlation))
    eigenvalues = np.linalg.eigvalsh(inward @ found @ inward.T)
    scatter = 2 * np.sqrt(len(names) / posterior.summary.quantities["D0"].ess)
    assert np.all(np.abs(eigenvalues - 1) < scatter + 0.08), eigenvalues
    np.testing.assert_allclose(np.sqrt(np.diag(found)), 1, atol=0.07)


def test_no_more_draws_than_are_needed(data, threads):
    """Of draws that are worth 90 % of as many with equal weights."""
    result = fit(data, settings("individual"))
    target, start = target_of(data, result, threads)
    within = Bounds(target, result.objective.scaling)
    gaussian, rng = at_mode(target, start), np.random.default_rng(0)
    few = draw_by_importance(target, gaussian, 500, within, rng)
    assert len(few.xi) == PER_UNKNOWN * 2
    many = draw_by_importance(target, gaussian, 4000, within, rng)
    assert 4000 <= many.effective <= len(many.xi) < 6000
    assert np.exp(many.log_weights).sum() == pytest.approx(1)


def test_errors_of_contrasts_with_a_learned_spread_are_those_of_the_posterior():
    """No spread is found, and it is an unknown of both."""
    data = static_data(contrast=0.3, noise=0.05, seed=5)
    result = fit(data, settings("hierarchical"))
    assert result.info.layers["regularization"]["spread"]["contrast"] < 1e-3
    options = SamplingOptions(num_samples=2000)
    values = sample_posterior(data, result, PosteriorSettings(options), threads=1).values
    for name, estimates in (("contrast", result.contrast), ("offset", result.offset)):
        draws = values[name].reshape(-1, 3)
        mean_square = np.mean((draws - [each.value for each in estimates]) ** 2, axis=0)
        # The model is not linear, and of so many draws a mean square is known to 3 %.
        np.testing.assert_allclose(
            [each.stderr for each in estimates], np.sqrt(mean_square), rtol=0.08
        )


def test_nuts_and_importance_agree(data, threads):
    result = fit(data, settings("individual"))
    options = SamplingOptions(num_samples=1000)
    by_weights = sample_posterior(data, result, PosteriorSettings(options), threads=1).summary
    target, start = target_of(data, result, threads)
    gaussian = at_mode(target, start)
    starts = gaussian.from_standard(np.random.default_rng(0).standard_normal((4, 2)))
    found = run_nuts(target, gaussian, starts, 200, 300, seed=0)
    assert found.xi.shape == (4, 300, 2)
    assert not found.diverging.any()
    flat = target.bounded_values(found.xi.reshape(-1, 2))
    x = parameters_of(target.space, flat)
    for i, name in enumerate(("D0", "alpha")):
        q = by_weights.quantities[name]
        # NUTS draws of such a target are about independent: 1200 of them.
        assert abs(x[:, i].mean() - q.mean) < 5 * q.sd / np.sqrt(600)
        assert x[:, i].std() == pytest.approx(q.sd, rel=5 / np.sqrt(1200))


def test_bounds_cut_the_posterior(threads):
    """A contrast beside its bound: the draws are those of the normal one that are within."""
    data = static_data(contrast=0.3, noise=0.02)
    plain = fit(data, settings("averaged"))
    estimate = plain.contrast[0]
    bound = estimate.value + 0.3 * estimate.stderr
    given = settings("averaged", bounds={"contrast": (0.0, bound)})
    free, cut = (
        sample_posterior(data, fit(data, each), PosteriorSettings(), threads=1)
        for each in (settings("averaged"), given)
    )
    assert cut.values["contrast"].max() <= bound * (1 + 1e-9)
    inside = free.values["contrast"][:, :, 0] <= bound
    expected = free.values["contrast"][:, :, 0][inside]
    found = cut.summary.quantities["contrast[0]"]
    assert found.mean == pytest.approx(expected.mean(), abs=0.1 * estimate.stderr)
    assert found.sd == pytest.approx(expected.std(), rel=0.1)
    share = cut.summary.diagnostics.discarded
    assert share == pytest.approx(1 - inside.mean(), abs=0.05)


def test_weights_that_cannot_be_trusted_lead_to_nuts(monkeypatch, data):
    result = fit(data, settings("averaged"))
    monkeypatch.setattr("homodyne_fit.posterior.sampling.PARETO_K", -10.0)
    options = SamplingOptions(num_samples=150, num_warmup=150, num_chains=2)
    summary = sample_posterior(data, result, PosteriorSettings(options), threads=1).summary
    assert summary.diagnostics.sampler == "nuts"
    assert (summary.diagnostics.chains, summary.diagnostics.draws) == (2, 150)


def test_resampling_keeps_the_weights():
    rng = np.random.default_rng(0)
    log_weights = rng.normal(size=50)
    log_weights -= np.log(np.exp(log_weights).sum())
    draws = dataclasses.make_dataclass("D", ["log_weights"])(log_weights)
    counts = np.bincount(resampled(draws, 1000, rng), minlength=50)
    np.testing.assert_allclose(counts, 1000 * np.exp(log_weights), atol=1.0)


def test_pareto_k_tells_heavy_tails():
    """Of log ratios of a normal distribution to a narrower proposal k = 1 − (narrow/wide)²."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000)
    wide = 2.0
    _, k = smoothed(-0.5 * (x / wide) ** 2 + 0.5 * x**2)
    assert k == pytest.approx(1 - 1 / wide**2, abs=0.15)
    _, k = smoothed(0.1 * x)
    assert k < 0.3
    assert smoothed(np.full(100, -np.inf))[1] == np.inf


def test_consensus_of_normal_draws_is_their_product():
    """Mean and covariance of a product of normal densities in closed form."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 2, 2)) + 2 * np.eye(2)
    means = rng.normal(size=(3, 2))
    draws = [m + rng.standard_normal((40_000, 2)) @ r.T for m, r in zip(means, roots, strict=True)]
    precisions = [np.linalg.inv(r @ r.T) for r in roots]
    covariance = np.linalg.inv(sum(precisions))
    mean = covariance @ sum(q @ m for q, m in zip(precisions, means, strict=True))
    found = combined(draws)
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(found.T), covariance, rtol=0.05, atol=0.01)


def test_shards_have_angles_all_around():
    phi = np.array([90.0, 0.0, 30.0, 60.0, 120.0])
    shards = shards_of(phi, 2)
    assert [phi[angles].tolist() for angles in shards] == [[0.0, 60.0, 120.0], [90.0, 30.0]]


@pytest.mark.parametrize("mode", ["averaged", "individual"])
def test_shards_of_angles_agree_with_all_data(mode):
    data = static_data(contrast=0.3, noise=0.005)
    result = fit(data, settings(mode))
    options = SamplingOptions(shards=3)
    posterior = sample_posterior(data, result, PosteriorSettings(options), threads=1)
    found = posterior.summary.consensus
    assert (found["shards"], found["angles"]) == (3, [[0.0], [60.0], [120.0]])
    assert found["largest_shift"] < 0.1
    assert found["largest_sd_error"] < 0.1
    assert posterior.consensus["D0"].shape == (4000,)


class TestMistakes:
    @pytest.mark.parametrize(
        ("kind", "mu", "sigma", "message"),
        [
            ("Gamma", 1.0, 1.0, "type: must be Uniform, .* \\(got 'Gamma'\\)"),
            ("LogNormal", None, 1.0, "prior_mu is missing"),
            ("LogNormal", 1.0, None, "prior_sigma is missing"),
            ("Normal", 1.0, 0.0, "prior_sigma: must be greater than 0"),
            ("BetaScaled", 1.0, 9.0, "cannot have the mean 1 and the standard deviation 9"),
            ("LogNormal", 1.0, 1.0, "lower bound, -2, must not be below 0"),
        ],
    )
    def test_priors(self, kind, mu, sigma, message):
        with pytest.raises(ValueError, match=message):
            Prior.from_keys(kind, mu, sigma, (-2.0, 2.0))

    def test_what_a_prior_leaves_out_is_that_of_homodyne(self):
        """Its templates give contrast and offset a type alone."""
        for kind in ("TruncatedNormal", "Normal", "BetaScaled"):
            assert Prior.from_keys(kind, None, None, (0.5, 1.5)) == Prior(kind, 1.0, 0.25)
        assert Prior.from_keys(None, 0.8, None, (0.5, 1.5)) == Prior("TruncatedNormal", 0.8, 0.25)

    def test_of_contrast(self, data):
        priors = {"contrast": Prior("LogNormal", 0.1, 0.1)}
        with pytest.raises(InputError, match="LogNormal is not possible: contrast is integrated"):
            sample_posterior(
                data, fit(data, settings("averaged")), PosteriorSettings(priors=priors)
            )

    def test_shards_of_too_few_angles_for_a_flow(self, measure):
        m = measure(n=30, phi=(0.0, 40.0, 90.0, 130.0))
        start = dict(zip(LAMINAR_FLOW.parameters, m.params, strict=True))
        result = hf.fit(m.data, gap=m.gap, initial=start, multi_start=False, threads=1)
        options = PosteriorSettings(SamplingOptions(shards=2))
        with pytest.raises(InputError, match="shard would have 2 angles.*all data"):
            sample_posterior(m.data, result, options)

    def test_shards_of_time(self):
        with pytest.raises(ValueError, match="speckles live longer than a frame"):
            SamplingOptions.model_validate({"shard_by": "time"})

    def test_a_fit_that_failed(self, data):
        result = fit(data, settings("averaged"))
        failed = dataclasses.replace(
            result, info=dataclasses.replace(result.info, success=False, message="no decay")
        )
        with pytest.raises(InputError, match="no posterior of a fit that failed: no decay"):
            sample_posterior(data, failed, PosteriorSettings())
