"""What the user asks of a file: q, angles, frames, time between frames."""

import numpy as np
import pytest

from homodyne_fit.data.angles import within_ranges
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.data.formats.pychx import write_pychx
from homodyne_fit.data.loading import load
from homodyne_fit.data.wave_vectors import nearest_q, q_groups
from homodyne_fit.errors import InputError

ANGLES = [0.0, 10.0, 90.0, 180.0, 270.0, 350.0]
DT = 0.1


def matrices(count, n=6):
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.stack(
        [1 + 0.1 * k + np.exp(-lag) + np.add.outer(lag[0], lag[0]) for k in range(count)]
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Two q, six angles each."""
    path = tmp_path_factory.mktemp("selection") / "a.h5"
    write_aps_u(path, matrices(12), [0.004, 0.006], ANGLES, np.arange(12), DT, stride=2)
    return path


@pytest.fixture(scope="module")
def one_q(tmp_path_factory):
    path = tmp_path_factory.mktemp("selection") / "one.h5"
    write_aps_u(path, matrices(6), [0.004], ANGLES, np.arange(6), DT)
    return path


# q


@pytest.mark.parametrize(
    ("wanted", "taken"), [(0.004, 0.004), (0.0048, 0.004), (0.0052, 0.006), (0.0069, 0.006)]
)
def test_the_nearest_q_is_taken(path, wanted, taken):
    data = load(path, q=wanted)
    assert data.q.tolist() == [taken] * 6
    assert data.phi.tolist() == ANGLES


@pytest.mark.parametrize("wanted", [0.0029, 0.0071, 0.06])
def test_a_q_that_is_not_in_the_file_is_refused(path, wanted):
    with pytest.raises(InputError, match=r"a\.h5: no matrix is near q = .*0\.004, 0\.006 Å⁻¹"):
        load(path, q=wanted)


@pytest.mark.parametrize("wanted", [0.00299, 0.00701])
def test_the_distance_is_shown_where_it_is_too_large(path, wanted):
    with pytest.raises(InputError, match=r"nearest is 0\.00101 Å⁻¹ away, and half a bin is 0\.001"):
        load(path, q=wanted)


@pytest.mark.parametrize(
    ("wanted", "notes"),
    [
        (0.004, ()),
        (0.0040000001, ()),
        (0.0048, ("the nearest q, 0.004 Å⁻¹, is 0.0008 Å⁻¹ from the wanted 0.0048 Å⁻¹",)),
        (0.0069, ("the nearest q, 0.006 Å⁻¹, is 0.0009 Å⁻¹ from the wanted 0.0069 Å⁻¹",)),
    ],
)
def test_the_distance_is_shown_where_it_is_allowed(path, wanted, notes):
    assert load(path, q=wanted).notes == notes


def test_several_q_need_a_choice(path):
    with pytest.raises(InputError, match=r"^q: .* q = 0\.004, 0\.006 Å⁻¹; choose one of them"):
        load(path)


@pytest.mark.parametrize("wanted", [None, 0.004, 0.0042])
def test_the_only_q(one_q, wanted):
    assert load(one_q, q=wanted).q.tolist() == [0.004] * 6


def test_the_only_q_is_not_any_q(one_q):
    with pytest.raises(InputError, match=r"q = 0\.0054 Å⁻¹, but the file has q = 0\.004 Å⁻¹"):
        load(one_q, q=0.0054)


def test_wave_vectors_of_one_ring_are_grouped():
    q = np.array([0.006, 0.00401, np.nan, 0.004, 0.00603, 0.00403])
    assert [group.tolist() for group in q_groups(q)] == [[1, 3, 5], [0, 4]]


def test_a_ring_does_not_creep_into_the_next():
    q = 0.004 * 1.008 ** np.arange(6)
    assert [group.tolist() for group in q_groups(q)] == [[0, 1], [2, 3], [4, 5]]


def test_half_of_the_wider_spacing_is_allowed():
    q = np.array([0.001, 0.002, 0.004])
    assert nearest_q(q, 0.0029, "file").tolist() == [1]
    assert nearest_q(q, 0.0005, "file").tolist() == [0]
    with pytest.raises(InputError):
        nearest_q(q, 0.00049, "file")


def test_no_finite_q():
    with pytest.raises(InputError, match="file: no matrix has a positive, finite q: 0, nan; mend"):
        nearest_q(np.array([np.nan, 0.0]), None, "file")


# Angles


@pytest.mark.parametrize(
    ("ranges", "kept"),
    [
        ([(-10, 10)], [0, 10, 350]),
        ([(350, 10)], [0, 10, 350]),
        ([(-10, 10), (170, 190)], [0, 10, 180, 350]),
        ([(-190, -170)], [180]),
        ([(80, 180)], [90, 180]),
        ([(10, 10)], [10]),
        ([(-90, 90)], [0, 10, 90, 270, 350]),
        ([(0, 360)], ANGLES),
        ([(-180, 180)], ANGLES),
        ([(360, 720)], ANGLES),
        ([(710, 730)], [0, 10, 350]),
    ],
)
def test_angle_ranges(path, ranges, kept):
    data = load(path, q=0.006, phi_ranges=ranges)
    assert data.phi.tolist() == kept
    np.testing.assert_array_equal(
        data.c2, load(path, q=0.006).c2[[ANGLES.index(angle) for angle in kept]]
    )


def test_stored_angles_may_be_negative_or_rounded():
    phi = np.array([-10.0, -179.9999, float(np.float32(350.1)), 10.5])
    assert within_ranges(phi, [(350, 10)]).tolist() == [True, False, True, False]
    assert within_ranges(phi, [(180.0001, 181)]).tolist() == [False, True, False, False]
    assert within_ranges(phi, [(340, 350.1)]).tolist() == [True, False, True, False]


@pytest.mark.parametrize("ranges", [[(20, 80)], []])
def test_a_filter_that_matches_nothing_lists_the_angles(path, ranges):
    with pytest.raises(InputError, match=r"a\.h5: .*no angle .* φ = 0, 10, 90, 180, 270, 350°"):
        load(path, q=0.004, phi_ranges=ranges)


# Frames


def test_frames_the_wrong_way_round(path):
    with pytest.raises(
        InputError, match="^frames: .*: the first frame, 5, comes after the last, 3$"
    ):
        load(path, q=0.004, frames=(5, 3))


@pytest.mark.parametrize(
    ("frames", "window"), [((1, -1), slice(0, 6)), ((1, 6), slice(0, 6)), ((2, 4), slice(1, 4))]
)
def test_frames_count_from_one_and_include_both_ends(path, frames, window):
    whole = load(path, q=0.004).c2
    np.testing.assert_array_equal(load(path, q=0.004, frames=frames).c2, whole[:, window, window])


@pytest.mark.parametrize("frames", [(0, 5), (1, 7), (-1, -1), (7, -1), (1, -2), (1, 0)])
def test_frames_out_of_range(path, frames):
    with pytest.raises(
        InputError, match=r"a\.h5: .*the frames .* but the file has the frames 1 to 6"
    ):
        load(path, q=0.004, frames=frames)


def test_too_few_frames(path):
    with pytest.raises(InputError, match="the frames 5 to 6 are fewer than the 3"):
        load(path, q=0.004, frames=(5, -1))


# Frames that are left out


@pytest.mark.parametrize(
    ("frames", "mask", "masked", "note"),
    [
        ((1, -1), [2, 5, 5], [1, 4], "2 of 6 frames masked, 9 points of each angle (2, 5)"),
        ((2, 5), [1, 3], [1], "1 of 4 frames masked, 3 points of each angle (3)"),
        ((2, 5), [6], [], "0 of 4 frames masked, 0 points of each angle"),
    ],
)
def test_masked_frames_are_missing_and_counted(path, frames, mask, masked, note):
    expected = load(path, q=0.004, frames=frames).c2
    for frame in masked:
        expected[:, frame, :] = np.nan
        expected[:, :, frame] = np.nan
    data = load(path, q=0.004, frames=frames, mask_frames=mask)
    np.testing.assert_array_equal(data.c2, expected)
    assert data.notes == (note,)
    lost = np.isnan(data.c2[0][np.triu_indices(data.n_frames, 1)]).sum()
    assert f" {lost} points" in note


def test_without_a_mask_nothing_is_said(path):
    assert load(path, q=0.004).notes == ()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([0, 3], r"^mask_frames: .*: the frames 0 are listed, but the file has the frames 1 to 6"),
        ([3, 7, 9], r"^mask_frames: .*: the frames 7, 9 are listed, but the file has"),
        ([-1], r"^mask_frames: .*: the frames -1 are listed, but"),
        ([1, 2, 3, 4], r"^mask_frames: .*: this leaves 2 of 6 frames; 3 are needed"),
    ],
)
def test_frames_that_cannot_be_masked(path, mask, message):
    with pytest.raises(InputError, match=message):
        load(path, q=0.004, mask_frames=mask)


# Time between frames


def test_the_time_is_read_from_the_file(path):
    assert load(path, q=0.004).dt == pytest.approx(DT, rel=1e-12)
    assert load(path, q=0.004, dt=DT * (1 + 1e-8)).dt == pytest.approx(DT, rel=1e-12)


@pytest.mark.parametrize("dt", [0.05, DT * (1 + 2e-6)])
def test_a_time_that_disagrees_with_the_file(path, dt):
    with pytest.raises(
        InputError, match=r"^dt: .*a\.h5: .* s is given, but the file says 0\.1 s \(frame"
    ):
        load(path, q=0.004, dt=dt)


def test_a_time_that_overrides_the_file(path):
    assert load(path, q=0.004, dt=0.05, dt_override=True).dt == 0.05
    assert load(path, q=0.004, dt_override=True).dt == pytest.approx(DT, rel=1e-12)


# What plain arrays do not say


@pytest.mark.parametrize(
    ("missing", "unit"),
    [
        ("q", "set it, in Å⁻¹"),
        ("dt", "set it, in seconds"),
        ("phi", "set them, in degrees"),
    ],
)
def test_the_argument_that_is_missing_is_named(tmp_path, missing, unit):
    write_array(tmp_path / "a.npy", matrices(2))
    known = {"q": 0.005, "dt": 1.0, "phi": [0.0, 90.0]}
    assert load(tmp_path / "a.npy", **known).n_angles == 2
    del known[missing]
    with pytest.raises(InputError, match=rf"^{missing}: .*a\.npy: .*{unit}$"):
        load(tmp_path / "a.npy", **known)


def test_as_many_angles_as_matrices(tmp_path):
    write_array(tmp_path / "a.npy", matrices(2))
    with pytest.raises(InputError, match=r"^phi: .*: 3 angles given, but the file has 2 matrices"):
        load(tmp_path / "a.npy", q=0.005, dt=1.0, phi=[0, 1, 2])


def test_angles_of_one_wave_vector_only(tmp_path):
    write_pychx(tmp_path / "a.h5", matrices(5), [0.004, 0.004, 0.006, 0.006, 0.008], None, 1.0)

    def angles(q, phi):
        return load(tmp_path / "a.h5", q=q, dt=1.0, phi=phi).phi.tolist()

    assert angles(0.006, [10, 20]) == [10.0, 20.0]
    assert angles(0.006, [1, 2, 3, 4, 5]) == [3.0, 4.0]
    assert angles(0.008, None) == [0.0]
    with pytest.raises(
        InputError, match=r"^phi: .*: 3 angles given, .* 5 matrices, 2 of them at this q"
    ):
        angles(0.004, [1, 2, 3])
    with pytest.raises(InputError, match=r"the angles of its 2 matrices; set them, in degrees"):
        angles(0.004, None)


def test_angles_only_for_files_without(path):
    with pytest.raises(InputError, match=r"^phi: .* has its own angles; remove these"):
        load(path, q=0.004, phi=ANGLES)


def test_missing_points_stay_missing(tmp_path):
    c2 = matrices(1)
    c2[0, 1, 3] = c2[0, 3, 1] = np.nan
    write_aps_u(tmp_path / "a.h5", c2, [0.004], [0.0], [0], DT)
    data = load(tmp_path / "a.h5")
    assert np.argwhere(np.isnan(data.c2[0])).tolist() == [[1, 3], [3, 1]]
    n = data.n_frames
    assert data.notes == (
        f"1 of {n * (n - 1) // 2} points are not finite (in 1 of 1 matrix), and are missing",
    )
    assert load(tmp_path / "a.h5", mask_frames=[2]).notes[1:] == ()


@pytest.mark.parametrize(
    ("shift", "where"), [((1, 1), "all angles"), ((1, 0), "φ = 0°"), ((0, 0), "")]
)
def test_c2_minus_1_is_noted(tmp_path, shift, where):
    lag = np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    c2 = np.stack([1 + 0.3 * np.exp(-lag / 3) - each for each in shift])
    np.savez(tmp_path / "a.npz", c2=c2, phi=[0.0, 90.0], q=0.004, dt=0.1)
    notes = load(tmp_path / "a.npz").notes
    assert len(notes) == bool(where)
    assert all(f"at {where}: this looks like c2 − 1" in note for note in notes)
