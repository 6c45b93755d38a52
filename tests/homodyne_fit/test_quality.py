"""What is said of a matrix, against matrices that were made so."""

import numpy as np
import pytest

from homodyne_fit.data.estimates import levels_at_the_ends
from homodyne_fit.data.quality import (
    assess,
    baseline_drift,
    dead_frames,
    duplicates,
    finite_fraction,
    frame_levels,
    noise_by_lag,
    odd_frames,
    repeated_frames,
)
from homodyne_fit.report.quality_figure import quality_plot

N = 120
T = np.arange(N)
LAG = np.abs(T[:, None] - T)
AGE = (T[:, None] + T) / 2
CONTRAST, OFFSET, NOISE = 0.3, 1.02, 0.02
CLEAN = OFFSET + CONTRAST * np.exp(-LAG / 8)


def noisy(clean=CLEAN, noise=NOISE, seed=0):
    white = np.triu(np.random.default_rng(seed).normal(0, noise, clean.shape), 1)
    return clean + white + white.T


def with_frame(number, values, c2=None):
    """The matrix with another row and column; frames are counted from 1."""
    c2 = noisy() if c2 is None else c2.copy()
    c2[number - 1, :] = c2[:, number - 1] = values
    return c2


def added_to_frame(number, value, c2=None):
    c2 = noisy() if c2 is None else c2.copy()
    c2[number - 1, :] += value
    c2[:, number - 1] += value
    return c2


def repeated(number):
    """The matrix of a detector that hands out a frame twice: also its noise is the same."""
    source = T.copy()
    source[number - 1] = source[number - 2]
    return noisy()[np.ix_(source, source)]


# A good matrix


@pytest.mark.parametrize("half", [np.triu, np.tril, np.asarray])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_good_matrix(half, dtype):
    found = assess(half(noisy().astype(dtype)))
    assert (found.finite, found.asymmetric) == (1.0, 0.0)
    assert [len(frames) for frames in (found.dead, found.odd, found.repeated)] == [0, 0, 0]
    # A median over 24 lags and 300 points; a decay of 8 frames is down to 0.7 at the 4 lags.
    assert found.offset == pytest.approx(OFFSET, abs=5 * 1.25 * NOISE / np.sqrt(276))
    assert found.contrast == pytest.approx(CONTRAST * np.exp(-2.5 / 8), rel=0.05)
    assert abs(found.drift) < 5 * found.drift_error
    assert found.noise == pytest.approx(np.full(len(found.noise), NOISE), rel=0.35)


@pytest.mark.parametrize(
    ("half", "part"), [(np.triu, "upper"), (np.tril, "lower"), (np.asarray, "all"), (np.diag, "")]
)
def test_what_is_stored(half, part):
    stored = np.diag(np.diag(CLEAN)) if half is np.diag else half(CLEAN)
    for expected in ("", "all", "upper", "lower"):
        found = assess(stored, expected)
        assert (found.stored, found.expected) == (part, expected)
        assert found.unexpectedly_full == (part == "all" and expected in ("upper", "lower"))


def test_what_a_file_left_out_is_added():
    found, whole = assess(np.triu(noisy() - 1), shift=1.0), assess(noisy())
    assert found.offset == pytest.approx(whole.offset, rel=1e-12)
    assert found.contrast == pytest.approx(whole.contrast, rel=1e-12)


# Symmetry and missing points


def test_share_of_the_entries_that_are_not_symmetric():
    c2 = noisy()
    c2[2, 10], c2[30, 7] = 1.5, np.nan
    found = assess(c2)
    assert found.asymmetric == pytest.approx(4 / (N * (N - 1)), rel=1e-12)
    # The upper half counts, and there all points are finite.
    assert found.finite == 1.0


def test_rounding_is_not_asymmetry_nor_is_the_diagonal():
    c2 = noisy().astype(np.float32)
    c2 = np.triu(c2) + np.tril(c2, -1) * np.float32(1 + 3e-7) + 50 * np.eye(N, dtype=np.float32)
    assert assess(c2).asymmetric == 0.0


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_share_of_finite_points(missing):
    c2 = noisy()
    for i, j in ((0, 1), (5, 90), (7, 8)):
        c2[i, j] = c2[j, i] = missing
    c2[4, 4] = missing
    expected = 1 - 3 / (N * (N - 1) / 2)
    assert finite_fraction(c2) == pytest.approx(expected, rel=1e-12)
    assert assess(c2).finite == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_small_and_empty_matrices_are_assessed_too(n, value):
    found = assess(np.full((n, n), value))
    usable = value == 1.0 and n > 1
    assert found.finite == (1.0 if usable else 0.0)
    assert np.isnan(found.offset) != usable
    assert found.dead.tolist() == list(range(1, n + 1))
    assert len(found.levels) == n


# Frames


@pytest.mark.parametrize("values", [np.nan, 0.0, 1.0])
@pytest.mark.parametrize("number", [1, 50, N])
def test_a_frame_without_a_signal(number, values):
    c2 = with_frame(number, values)
    assert dead_frames(c2).tolist() == [number]
    found = assess(c2)
    assert found.dead.tolist() == [number]
    assert (found.odd.tolist(), found.repeated.tolist()) == ([], [])


@pytest.mark.parametrize("value", [0.1, -0.1])
@pytest.mark.parametrize("number", [1, 2, 60, N])
def test_a_frame_unlike_those_around_it(number, value):
    found = assess(added_to_frame(number, value))
    assert found.odd.tolist() == [number]
    assert found.levels[number - 1] == pytest.approx(value, abs=0.02)
    assert found.dead.tolist() == []


def test_three_odd_frames_in_a_row():
    c2 = noisy()
    for number in (40, 41, 42):
        c2 = added_to_frame(number, 0.15, c2)
    assert assess(c2).odd.tolist() == [40, 41, 42]


def test_a_small_step_is_not_odd():
    levels = np.zeros(50)
    levels[7], levels[30] = 0.02, 0.2
    assert odd_frames(levels, contrast=0.3).tolist() == [31]
    # Nor is anything within eight times the scatter.
    scattered = np.where(T % 2, 0.05, -0.05)
    scattered[60] = 0.3
    assert odd_frames(scattered, contrast=0.3).tolist() == []


def test_the_level_of_a_frame_is_a_median_over_its_row():
    c2 = noisy()
    medians = [np.median(np.delete(c2[i], i)) for i in range(N)]
    expected = [medians[i] - np.median(medians[i - 3 : i + 4]) for i in range(3, N - 3)]
    np.testing.assert_allclose(frame_levels(c2)[3:-3], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("number", [2, 70, N])
def test_a_frame_that_repeats_the_one_before(number):
    assert repeated_frames(repeated(number)).tolist() == [number]
    assert assess(repeated(number)).repeated.tolist() == [number]


def test_equal_missing_points_do_not_hide_a_repetition():
    c2 = repeated(70)
    c2[20, :] = c2[:, 20] = np.nan
    found = assess(c2)
    assert (found.repeated.tolist(), found.dead.tolist()) == ([70], [21])


# Scaling, noise, drift


def test_scaling_of_a_decay_that_ends_in_between():
    c2 = np.where(LAG < 30, OFFSET + CONTRAST, OFFSET)
    assert levels_at_the_ends(c2) == pytest.approx((CONTRAST, OFFSET), rel=1e-12)


def test_noise_that_grows_with_the_lag():
    n = 600
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    true = 0.01 * (1 + lag / 100)
    white = np.triu(np.random.default_rng(3).normal(size=(n, n)), 1)
    c2 = 1 + 0.3 * np.exp(-lag / 20) + true * (white + white.T)
    lags, noise = noise_by_lag(c2)
    assert lags[0] == 1
    assert np.all(np.diff(lags) > 0)
    assert lags[-1] <= 0.8 * n
    # Of a median of 4 (n − l) correlated differences: 1.17 / √(2 (n − l)), some three times.
    np.testing.assert_allclose(noise, 0.01 * (1 + (lags + 1.5) / 100), rtol=0.2)


def test_a_baseline_that_drifts():
    drift = 0.2
    c2 = noisy(CLEAN + drift * AGE / (N - 1))
    found, error = baseline_drift(c2)
    assert found == pytest.approx(drift, abs=5 * error)
    assert error < 0.05 * drift
    assert baseline_drift(CLEAN + drift * AGE / (N - 1))[0] == pytest.approx(drift, rel=1e-9)


def test_the_error_of_the_drift_is_its_scatter():
    found = np.array([baseline_drift(noisy(seed=seed)) for seed in range(200)])
    # A standard deviation of 200 values is known to 5 %, the noise in each to some more.
    assert found[:, 0].std() == pytest.approx(np.sqrt(np.mean(found[:, 1] ** 2)), rel=0.2)
    assert abs(found[:, 0].mean()) < 4 * found[:, 0].std() / np.sqrt(200)


def test_missing_points_do_not_change_the_drift():
    c2 = CLEAN + 0.2 * AGE / (N - 1)
    c2[N - 20 :, :40] = c2[:40, N - 20 :] = np.nan
    assert baseline_drift(c2)[0] == pytest.approx(0.2, rel=1e-9)


# Between matrices


def test_equal_matrices_are_found_however_they_are_stored():
    a, b = noisy(seed=1), noisy(seed=2)
    spiked = a + np.eye(N)
    found = [assess(each) for each in (a, b, np.triu(a), np.tril(spiked), b + 1e-12)]
    assert duplicates(found) == [(0, 2), (0, 3)]


def test_empty_matrices_are_not_duplicates():
    assert duplicates([assess(np.zeros((5, 5)))] * 2) == []


# Figure


@pytest.mark.parametrize("dt", [None, 0.1])
def test_the_figure_shows_what_was_found(dt):
    matrices = [assess(added_to_frame(9, 0.2)), assess(with_frame(30, np.nan))]
    figure = quality_plot(matrices, [0.0, 90.0], dt, "a title")
    figure.draw_without_rendering()
    scaling, noise, drift, frames = figure.axes
    np.testing.assert_array_equal(
        scaling.lines[0].get_ydata(), [matrix.contrast for matrix in matrices]
    )
    np.testing.assert_allclose(noise.lines[0].get_xdata(), matrices[0].lags * (dt or 1))
    assert noise.get_xlabel() == ("lag (s)" if dt else "lag (frames)")
    assert len(drift.containers) == 1
    marks = [line.get_xdata().tolist() for line in frames.lines if line.get_marker() == "o"]
    assert marks == [[9], []]
    assert figure.get_suptitle() == "a title"


def test_a_figure_of_nothing():
    empty = assess(np.zeros((5, 5)))
    quality_plot([empty], [0.0], None, "").draw_without_rendering()


def test_the_figure_shows_matrices_too():
    figure = quality_plot([assess(noisy())], [30.0], 0.1, "a title", {30.0: CLEAN})
    (axes,) = [axes for axes in figure.axes if axes.images]
    assert axes.get_title() == "30°"
    np.testing.assert_array_equal(axes.images[0].get_array(), CLEAN)
    figure.draw_without_rendering()
