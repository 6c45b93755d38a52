import json
import re

import numpy as np
import pytest

from homodyne_fit.cli import main
from homodyne_fit.cli.options import FORMATS as OFFERED
from homodyne_fit.cli.options import PARAMETERS
from homodyne_fit.data.formats import open_two_time
from homodyne_fit.data.formats.recognition import FORMATS
from homodyne_fit.data.loading import load
from homodyne_fit.errors import InputError
from homodyne_fit.simulation.measurement import (
    Measurement,
    from_first_principles,
    from_formula,
    speckle_contrast,
    write_measurement,
)

FLOW = {
    "D0": 1200.0,
    "alpha": -0.4,
    "D_offset": 150.0,
    "gamma_dot_t0": 4e-4,
    "beta": 0.25,
    "gamma_dot_t_offset": 5e-5,
    "phi0": 3.0,
}
NO_FLOW = {name: FLOW[name] for name in ("D0", "alpha", "D_offset")}


def simulate(folder, *options):
    """Run the command with these options; the path it writes and its exit status."""
    path = folder / "s.h5"
    return path, main(["simulate", "-o", str(path), "--frames", "20", *options])


class TestFormula:
    @pytest.mark.parametrize("parameters", [FLOW, NO_FLOW], ids=["flow", "static"])
    def test_without_noise_is_the_model(self, numpy_c2, parameters):
        phi = (0.0, 40.0, 90.0)
        m = Measurement(parameters, phi=phi, n_frames=40, dt=0.2)
        contrast, offset = np.array([0.2, 0.3, 0.4]), np.array([0.9, 1.0, 1.1])
        c2 = from_formula(m, contrast=contrast.tolist(), offset=offset.tolist(), noise=0.0)
        expected = numpy_c2(
            tuple(parameters.values()),
            contrast,
            offset,
            q=np.full(3, m.q),
            phi=np.array(phi),
            gap=m.gap,
            dt=0.2,
            n=40,
        )
        np.testing.assert_allclose(c2, expected, rtol=1e-6)

    def test_noise_is_white_symmetric_and_of_the_given_size(self):
        m = Measurement(NO_FLOW, phi=(0.0, 90.0), n_frames=150)
        noise = from_formula(m, noise=0.1, seed=3) - from_formula(m, noise=0.0)
        np.testing.assert_array_equal(noise, np.swapaxes(noise, 1, 2))
        values = noise[:, *np.triu_indices(150, 1)]
        n = values.size
        assert abs(values.mean()) < 4 * 0.1 / np.sqrt(n)
        assert abs(values.std() / 0.1 - 1) < 4 / np.sqrt(2 * n)
        assert abs(np.corrcoef(values)[0, 1]) < 4 / np.sqrt(n / 2)

    def test_a_seed_gives_the_same_again_and_another_something_else(self):
        m = Measurement(NO_FLOW, n_frames=5)
        first, again, other = (from_formula(m, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert np.all(first != other)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"noise": -1.0}, "noise must be finite and not negative, got -1"),
            ({"noise": np.nan}, "noise must be finite and not negative, got nan"),
            ({"seed": -1}, "seed must not be negative, got -1"),
            ({"contrast": [0.1, 0.2]}, "contrast needs one value, or one for each of the 6"),
            ({"offset": []}, "offset needs one value, or one for each of the 6 angles, not 0"),
            ({"offset": np.inf}, r"offset must be finite, got \[inf\]"),
        ],
    )
    def test_what_cannot_be_used(self, given, message):
        with pytest.raises(InputError, match=message):
            from_formula(Measurement(NO_FLOW), **given)


class TestMeasurement:
    def test_the_model_follows_from_the_parameters(self):
        assert Measurement(FLOW).model.name == "laminar_flow"
        assert Measurement(NO_FLOW).model.name == "static"

    def test_an_alias_is_the_parameter(self):
        other = {**{k: v for k, v in FLOW.items() if k != "gamma_dot_t0"}, "gamma_dot_0": 4e-4}
        np.testing.assert_array_equal(Measurement(other).vector, Measurement(FLOW).vector)

    def test_rates(self):
        m = Measurement(FLOW)
        t = np.array([0.0, 0.3, 19.0])
        used = np.maximum(t, m.dt / 2)
        expected = [1200 * used**-0.4 + 150, 4e-4 * used**0.25 + 5e-5]
        np.testing.assert_allclose(m.rates(t), expected, rtol=1e-12)

    @pytest.mark.parametrize(
        ("parameters", "given", "message"),
        [
            ({**FLOW, "phi": 1.0}, {}, r"no parameter 'phi' \(did you mean 'phi0'\?\)"),
            ({**NO_FLOW, "phi0": 1.0}, {}, "gamma_dot_t0 is needed for the laminar_flow model"),
            ({"D0": 1.0}, {}, "the parameter alpha is needed for the static model"),
            ({**NO_FLOW, "D0": np.nan}, {}, "the parameter D0 must be finite, got nan"),
            (NO_FLOW, {"q": 0.0}, "q must be positive and finite, got 0"),
            (NO_FLOW, {"q": np.inf}, "q must be positive and finite, got inf"),
            (NO_FLOW, {"gap": -1.0}, "gap must be positive and finite, got -1"),
            (NO_FLOW, {"dt": np.nan}, "dt must be positive and finite, got nan"),
            (NO_FLOW, {"phi": ()}, r"angles must be finite, got \[\]"),
            (NO_FLOW, {"phi": (0.0, np.nan)}, r"angles must be finite, got \[0.0, nan\]"),
            (NO_FLOW, {"n_frames": 2}, "at least 3 frames are needed, got 2"),
        ],
    )
    def test_what_cannot_be_used(self, parameters, given, message):
        with pytest.raises(InputError, match=message):
            Measurement(parameters, **given)


@pytest.mark.parametrize("particles", [3, 32, None])
def test_first_principles_have_the_expected_contrast_and_shot_noise(particles):
    m = Measurement({"D0": 100.0, "alpha": 0.0, "D_offset": 0.0}, phi=(0.0,), n_frames=4, dt=1e-3)
    detector = {"pixels": 20_000, "modes": 2, "mean_counts": 2.0, "particles": particles}
    c2 = from_first_principles(m, seed=1, **detector)[0]
    # Nothing moves in four milliseconds; the diagonal adds 1 / mean_counts. A point scatters by
    # 0.013 at most, √(2β²(1+β) + 2β(1+β)/κ + (1+β)/κ²) / √pixels with β = κ⁻¹ = ½.
    assert c2[0, 3] - 1 == pytest.approx(speckle_contrast(2, particles), abs=0.05)
    assert c2[1, 1] - c2[0, 3] == pytest.approx(0.5, abs=0.05)


class TestFile:
    def test_holds_what_was_simulated(self, tmp_path):
        m = Measurement(FLOW, q=0.0031, phi=(-30.0, 0.0, 75.5), dt=0.25, n_frames=30)
        c2 = from_formula(m, seed=4)
        truth = write_measurement(tmp_path / "m.h5", m, c2, seed=4, noise=0.05)
        data = load(tmp_path / "m.h5")
        assert (data.dt, data.q.tolist(), data.phi.tolist()) == (0.25, [0.0031] * 3, list(m.phi))
        np.testing.assert_array_equal(data.c2, c2)
        assert truth == tmp_path / "m.h5.truth.json"
        assert json.loads(truth.read_text()) == {
            "model": "laminar_flow",
            "q": 0.0031,
            "phi": [-30.0, 0.0, 75.5],
            "gap": 2e6,
            "dt": 0.25,
            "n_frames": 30,
            **FLOW,
            "seed": 4,
            "noise": 0.05,
        }

    def test_without_flow_there_is_no_gap(self, tmp_path):
        m = Measurement(NO_FLOW, n_frames=5)
        truth = json.loads(write_measurement(tmp_path / "m.h5", m, from_formula(m)).read_text())
        assert truth["model"] == "static"
        assert not truth.keys() & {"gap", "phi0", "beta"}


class TestCommand:
    def test_writes_what_it_was_asked_for(self, tmp_path, capsys):
        path, status = simulate(
            tmp_path,
            *("--phi", "-20,0,45", "--dt", "0.5", "--q", "0.002", "--gap", "1e6", "--seed", "7"),
            *("--parameter", "D0=5e4", "--parameter", "gamma_dot_0=2e-4"),
            *("--contrast", "0.1,0.2,0.3", "--offset", "1.01", "--noise", "0"),
        )
        assert status == 0
        output = capsys.readouterr().out.splitlines()
        assert output[0] == f"wrote {path} and {path}.truth.json"
        assert output[1] == f"next: homodyne_fit init {path} --gap 1e+06"
        truth = json.loads((tmp_path / "s.h5.truth.json").read_text())
        expected = {
            "phi": [-20, 0, 45],
            "dt": 0.5,
            "q": 0.002,
            "gap": 1e6,
            "seed": 7,
            "n_frames": 20,
            "D0": 5e4,
            "gamma_dot_t0": 2e-4,
            "contrast": [0.1, 0.2, 0.3],
            "offset": [1.01],
        }
        assert {key: truth[key] for key in expected} == expected
        data = load(path)
        m = Measurement(
            {name: truth[name] for name in FLOW}, q=0.002, phi=(-20, 0, 45), gap=1e6, dt=0.5,
            n_frames=20,
        )  # fmt: skip
        clean = from_formula(m, contrast=[0.1, 0.2, 0.3], offset=1.01, noise=0)
        np.testing.assert_array_equal(data.c2, clean)

    @pytest.mark.parametrize(
        ("format", "name", "found"),
        [
            ("aps-u", "s.h5", "APS-U"),
            ("aps-old", "s.h5", "APS old"),
            ("nxxpcs", "s.h5", "NXxpcs"),
            ("pychx", "s.h5", "pyCHX"),
            ("homodyne-cache", "s.npz", "homodyne cache"),
            ("array", "s.npz", "plain array"),
        ],
    )
    def test_every_format_holds_the_same(self, tmp_path, capsys, format, name, found):
        path = tmp_path / name
        options = ("--frames", "9", "--phi", "0,45,90", "--dt", "0.5", "--format", format)
        assert main(["simulate", "-o", str(path), *options]) == 0
        dt = " --dt 0.5" if format == "pychx" else ""
        assert capsys.readouterr().out.endswith(f" init {path} --gap 2e+06{dt}\n")
        assert open_two_time(path).format == found
        data = load(path, dt=0.5)
        m = Measurement(PARAMETERS, phi=(0, 45, 90), dt=0.5, n_frames=9)
        np.testing.assert_array_equal(data.c2, from_formula(m))
        assert (data.q.tolist(), data.phi.tolist()) == ([0.0054] * 3, [0, 45, 90])

    def test_every_format_can_be_asked_for(self):
        assert tuple(FORMATS) == OFFERED

    def test_static(self, tmp_path, capsys):
        path, status = simulate(tmp_path, "--static", "--parameter", "alpha=0.5")
        assert status == 0
        assert capsys.readouterr().out.endswith(f"next: homodyne_fit init {path} --static\n")
        truth = json.loads((tmp_path / "s.h5.truth.json").read_text())
        assert (truth["model"], truth["alpha"]) == ("static", 0.5)

    def test_first_principles(self, tmp_path):
        options = ("--first-principles", "--phi", "0", "--pixels", "100", "--counts", "2")
        path, status = simulate(tmp_path, *options)
        assert status == 0
        assert open_two_time(path).n_matrices == 1
        truth = json.loads((tmp_path / "s.h5.truth.json").read_text())
        assert (truth["pixels"], truth["mean_counts"], truth["modes"]) == (100, 2, 3)
        assert truth["particles"] == 32

    @pytest.mark.parametrize(("particles", "number"), [("8", 8), ("infinite", None)])
    def test_number_of_particles(self, tmp_path, particles, number):
        options = ("--first-principles", "--phi", "0", "--pixels", "100", "--counts", "2")
        path, status = simulate(tmp_path, *options, "--particles", particles)
        assert status == 0
        truth = json.loads((tmp_path / "s.h5.truth.json").read_text())
        assert truth["particles"] == number
        m = Measurement(PARAMETERS, phi=(0.0,), n_frames=20)
        c2 = from_first_principles(m, pixels=100, mean_counts=2, particles=number)
        np.testing.assert_array_equal(load(path).c2, c2)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ("--particles 8", "--particles has an effect only with --first-principles"),
            ("--pixels 100", "--pixels has an effect only with --first-principles"),
            (
                "--first-principles --noise 0.1",
                "--noise has an effect only without --first-principles",
            ),
            ("--static --gap 1e6", "--gap has no effect with --static"),
        ],
    )
    def test_what_would_have_no_effect_is_refused(self, tmp_path, capsys, options, said):
        path, status = simulate(tmp_path, *options.split())
        assert (status, path.exists()) == (1, False)
        assert said in capsys.readouterr().err

    def test_a_measurement_is_not_replaced(self, tmp_path, capsys):
        (tmp_path / "s.h5").write_text("measured")
        assert simulate(tmp_path, "--overwrite")[1] == 1
        assert (
            "s.h5: is not from a simulation (there is no s.h5.truth.json)"
            in capsys.readouterr().err
        )
        assert (tmp_path / "s.h5").read_text() == "measured"

    def test_a_name_of_another_format_is_refused(self, tmp_path, capsys):
        assert main(["simulate", "-o", str(tmp_path / "s.npy")]) == 1
        assert "s.npy: aps-u is HDF5; give -o a name such as a.h5" in capsys.readouterr().err

    def test_an_earlier_truth_stays_too(self, tmp_path, capsys):
        (tmp_path / "s.h5.truth.json").write_text("mine")
        assert simulate(tmp_path)[1] == 1
        assert "s.h5.truth.json: exists; give another -o, or --overwrite" in capsys.readouterr().err
        assert (tmp_path / "s.h5.truth.json").read_text() == "mine"

    def test_an_earlier_file_stays_unless_it_may_go(self, tmp_path, capsys):
        path, _ = simulate(tmp_path)
        before = path.read_bytes()
        assert simulate(tmp_path, "--seed", "1")[1] == 1
        assert "s.h5: exists; give another -o, or --overwrite" in capsys.readouterr().err
        assert path.read_bytes() == before
        assert simulate(tmp_path, "--seed", "1", "--overwrite")[1] == 0
        assert path.read_bytes() != before

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--frames 2", "at least 3 frames are needed, got 2"),
            ("--q -1", "q must be positive and finite, got -1"),
            ("--q nan", "q must be positive and finite, got nan"),
            ("--dt 0", "dt must be positive and finite, got 0"),
            ("--gap 0", "gap must be positive and finite, got 0"),
            ("--noise -1", "noise must be finite and not negative, got -1"),
            ("--seed -1", "seed must not be negative, got -1"),
            ("--seed -1 --first-principles", "seed must be a whole number of at least 0, got -1"),
            ("--phi nan,0", r"angles must be finite, got \[nan, 0.0\]"),
            ("--contrast 0.1,0.2", "contrast needs one value, or one for each of the 6 angles"),
            ("--parameter D0", "--parameter D0: write it as NAME=VALUE"),
            ("--parameter D0=fast", "--parameter D0=fast: write it as NAME=VALUE"),
            ("--parameter D0=inf", "the parameter D0 must be finite, got inf"),
            ("--parameter DO_ffset=1", r"no parameter 'DO_ffset' \(did you mean 'D_offset'\?\)"),
            ("--static --parameter phi0=3", "--parameter phi0: the static model has no flow"),
            ("--first-principles --pixels 0", "pixels must be a whole number of at least 1, got 0"),
            ("--first-principles --modes 0", "modes must be a number of at least 1, got 0.0"),
            ("--first-principles --particles 1", "particles must be a whole number of at least 2"),
            (
                "--first-principles --particles infinite --parameter gamma_dot_t0=0.1",
                "--particles: of infinitely many the motion across the gap is neglected, .*",
            ),
            ("--first-principles --counts -1", "--counts: must be positive and finite, got -1"),
            ("--frames 9999999", ".* GB are needed to simulate 6 angles of 9999999 frames, and .*"),
        ],
    )
    def test_a_bad_value_is_one_line(self, tmp_path, capsys, options, message):
        _, status = simulate(tmp_path, *options.split())
        assert status == 1
        error = capsys.readouterr().err
        assert re.fullmatch(f"homodyne_fit: error: .*{message}.*\n", error)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--phi 0,a", "argument --phi: '0,a' is not a list of numbers, as 0,45,90"),
            ("--phi", "argument --phi: expected one argument"),
            (
                "--particles all",
                r"argument --particles: a whole number is needed, or 'infinite' \(got 'all'\)",
            ),
            ("--frames many", "argument --frames: invalid int value: 'many'"),
            ("--frame 3,4", "argument --frames: invalid int value: '3,4'"),
            ("--freams 3", r"there is no option --freams \(did you mean '--frames'\?\)"),
            ("--static=yes", "argument --static: ignored explicit argument 'yes'"),
        ],
    )
    def test_wrong_usage_is_one_line(self, tmp_path, capsys, options, message):
        with pytest.raises(SystemExit) as end:
            simulate(tmp_path, *options.split())
        assert end.value.code == 1
        error = capsys.readouterr().err
        assert re.fullmatch(rf"homodyne_fit( simulate)?: error: {message}; see .* --help\n", error)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("", "a file is needed, and this is a folder"), ("no/s.h5", "there is no folder")],
    )
    def test_where_nothing_can_be_written(self, tmp_path, capsys, name, message):
        path = str(tmp_path / name)
        assert main(["simulate", "-o", path, "--frames", "5", "--overwrite"]) == 1
        assert re.fullmatch(f"homodyne_fit: error: .*{message}.*\n", capsys.readouterr().err)
