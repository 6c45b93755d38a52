"""Tests for ``chunks=``: exact fits by sums over chunks that the caller made.

SciPy's answer for all points at once is the reference throughout; what a fit may be off is a
fraction of its standard errors.
"""

from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import nlsq
import numpy as np
import pytest
from nlsq import Chunks, LargeDatasetFitter, curve_fit_large, fit_large_dataset
from scipy.optimize import curve_fit as scipy_curve_fit

START = [1.0, 0.5, 1.0, 1.0, 1.0]


def model(x, rate, amplitude, *offsets):
    """A decay in common, and an offset for each group."""
    return jnp.stack(offsets)[x[:, 1].astype(int)] + amplitude * jnp.exp(-rate * x[:, 0])


def model_numpy(x, rate, amplitude, *offsets):
    """The same for SciPy."""
    return np.array(offsets)[x[:, 1].astype(int)] + amplitude * np.exp(-rate * x[:, 0])


@pytest.fixture(scope="module")
def data():
    """Two large groups and one of 30 points, ordered by group."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], [3000, 3000, 30])
    t = rng.uniform(0, 5, len(group))
    x = np.column_stack([t, group])
    y = model_numpy(x, 0.5, 0.3, 1.0, 1.2, 1.5) + rng.normal(0, 0.05, len(t))
    return x, y, group


@pytest.fixture(scope="module")
def exact(data):
    """SciPy's parameters and covariance."""
    x, y, _ = data
    return scipy_curve_fit(model_numpy, x, y, START)


def assert_exact(result, exact, fraction=1e-3):
    """Parameters within a fraction of the standard error, covariance within one percent."""
    popt, pcov = result
    errors = np.sqrt(np.diag(exact[1]))
    np.testing.assert_array_less(np.abs(popt - exact[0]), fraction * errors)
    np.testing.assert_allclose(np.sqrt(np.diag(pcov)), errors, rtol=1e-2)


class TestAnyChunking:
    """The answer does not depend on the chunks."""

    @pytest.mark.parametrize("chunks", ["auto", 6030, 500, 67])
    def test_sizes(self, data, exact, chunks):
        """Consecutive runs, none of which holds every group but the whole."""
        x, y, _ = data
        assert_exact(curve_fit_large(model, x, y, START, chunks=chunks), exact)

    def test_one_chunk_a_group(self, data, exact):
        """No chunk determines all parameters; their sum does."""
        x, y, group = data
        result = curve_fit_large(model, x, y, START, chunks=Chunks.by_group(group))
        assert_exact(result, exact)
        assert result.chunk_sizes == (3000, 3000, 30)

    @pytest.mark.parametrize("progressive", [False, True])
    def test_stratified(self, data, exact, progressive):
        """Every chunk holds every group."""
        x, y, group = data
        chunks = Chunks.stratified(group, 600, seed=1)
        assert chunks.report(group).coverage == 1.0
        assert_exact(
            curve_fit_large(model, x, y, START, chunks=chunks, progressive=progressive), exact
        )

    def test_random_partition(self, data, exact):
        """Chunks given by the indices of their points."""
        x, y, _ = data
        parts = np.array_split(np.random.default_rng(2).permutation(len(y)), 5)
        assert_exact(curve_fit_large(model, x, y, START, chunks=Chunks.from_indices(parts)), exact)

    def test_chunks_with_their_own_data(self, data, exact):
        """A sequence of (x, y) replaces xdata and ydata."""
        x, y, group = data
        cut = [(x[part], y[part]) for part in Chunks.by_group(group)]
        assert_exact(curve_fit_large(model, p0=START, chunks=cut), exact)

    def test_executor_gives_the_same_bits(self, data):
        """The sums are added in the order of the chunks."""
        x, y, _ = data
        alone = curve_fit_large(model, x, y, START, chunks=500)
        with ThreadPoolExecutor(2) as pool:
            threaded = curve_fit_large(model, x, y, START, chunks=500, executor=pool)
        np.testing.assert_array_equal(alone.popt, threaded.popt)
        np.testing.assert_array_equal(alone.pcov, threaded.pcov)

    def test_model_sees_the_chunks_as_they_are(self, data):
        """No shuffle, no padding, no split, no merge."""
        x, y, _ = data
        lengths = set()

        def recording(x, a, b):
            lengths.add(x.shape)
            return a + b * x[:, 0]

        curve_fit_large(recording, x, y, [1.0, 0.0], chunks=Chunks([1000, 5000, 30]))
        assert lengths == {(1000, 2), (5000, 2), (30, 2)}


class TestProblem:
    """Weights, bounds, losses."""

    @pytest.mark.parametrize("absolute_sigma", [False, True])
    def test_sigma(self, data, absolute_sigma):
        """Weighted as SciPy weights."""
        x, y, group = data
        sigma = np.random.default_rng(3).uniform(0.02, 0.2, len(y))
        options = {"sigma": sigma, "absolute_sigma": absolute_sigma}
        exact = scipy_curve_fit(model_numpy, x, y, START, **options)
        result = curve_fit_large(model, x, y, START, chunks=Chunks.by_group(group), **options)
        assert_exact(result, exact)

    def test_bound(self, data):
        """A parameter lands on its bound and has no finite variance."""
        x, y, _ = data
        bounds = ([0, 0, 0, 0, 0], [0.4, 9, 9, 9, 9])
        result = curve_fit_large(model, x, y, [0.2, *START[1:]], chunks=500, bounds=bounds)
        reference, _ = scipy_curve_fit(model_numpy, x, y, [0.2, *START[1:]], bounds=bounds)
        assert result.popt[0] == 0.4
        assert np.isinf(result.pcov[0, 0])
        np.testing.assert_allclose(result.popt, reference, atol=1e-4)

    def test_robust_loss(self, data, exact):
        """Outliers do not carry the fit away."""
        x, y, _ = data
        y = y.copy()
        y[::50] += 5.0
        sigma = np.full(len(y), 0.05)
        result = curve_fit_large(model, x, y, START, sigma=sigma, chunks=500, loss="soft_l1")
        reference, _ = scipy_curve_fit(
            model_numpy, x, y, START, sigma=sigma, method="trf", loss="soft_l1"
        )
        errors = np.sqrt(np.diag(exact[1]))
        np.testing.assert_array_less(np.abs(result.popt - reference), 1e-2 * errors)


class TestOutcomes:
    """A fit says how it ended."""

    def test_stopped_early(self, data):
        """No success and no covariance."""
        x, y, _ = data
        result = curve_fit_large(model, x, y, START, chunks=500, max_nfev=2)
        assert not result.success
        assert np.all(np.isinf(result.pcov))

    def test_dead_parameter_is_named(self, data):
        """A parameter on which no point depends is an error."""
        x, y, _ = data
        with pytest.raises(ValueError, match="no point depends on parameter b"):
            curve_fit_large(lambda x, a, b: a * x[:, 0], x, y, [1.0, 1.0], chunks=500)

    def test_points_twice(self):
        """Every point is in exactly one chunk."""
        with pytest.raises(ValueError, match="occurs 2 times"):
            Chunks.from_indices([[0, 1], [1, 2], [4]])

    @pytest.mark.parametrize("options", [{"unheard_of": 1}, {"return_eval": True}])
    def test_unsupported_arguments(self, data, options):
        """What there is not is refused."""
        x, y, _ = data
        with pytest.raises(TypeError, match="not supported together with chunks"):
            curve_fit_large(model, x, y, START, chunks=500, **options)

    def test_arguments_without_effect(self, data):
        """What steers other algorithms is ignored, with one warning."""
        x, y, _ = data
        options = {"stability": "auto", "rescale_data": False, "tr_solver": "lsmr"}
        with pytest.warns(UserWarning, match="rescale_data, stability, tr_solver"):
            result = curve_fit_large(model, x, y, START, chunks=500, **options)
        assert result.success

    def test_a_tuple_too(self, data):
        """By position as by name."""
        x, y, _ = data
        result = curve_fit_large(model, x, y, START, chunks=500)
        popt, pcov = result
        assert result[0] is popt
        assert result[-1] is pcov
        assert len(result) == 2

    def test_arguments_that_need_chunks(self, data):
        """And the other way round."""
        x, y, _ = data
        with pytest.raises(TypeError, match="need chunks"):
            curve_fit_large(model, x, y, START, progressive=True)
        with pytest.raises(TypeError, match="needed without chunks"):
            curve_fit_large(model)


class TestOtherEntryPoints:
    """The fitter and the convenience function."""

    @pytest.mark.parametrize("method", ["fit", "fit_with_progress"])
    def test_fitter(self, data, exact, method):
        """Both methods take chunks."""
        x, y, group = data
        fit = getattr(LargeDatasetFitter(), method)
        assert_exact(fit(model, x, y, p0=START, chunks=Chunks.by_group(group)), exact)

    def test_fit_large_dataset(self, data, exact):
        """Passes chunks on."""
        x, y, _ = data
        assert_exact(fit_large_dataset(model, x, y, p0=START, chunks=500), exact)

    def test_names(self):
        """Exported from the package."""
        assert {"ChunkReport", "Chunks"} <= set(nlsq.__all__)
