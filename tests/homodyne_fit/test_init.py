import os
import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

import homodyne_fit as hf
from homodyne_fit.cli import main
from homodyne_fit.config import load_config, parse_config
from homodyne_fit.config.template import OPTIONS, configuration
from homodyne_fit.data.formats.aps_old import write_aps_old
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.homodyne_cache import write_homodyne_cache
from homodyne_fit.data.formats.nxxpcs import write_nxxpcs
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.data.formats.pychx import write_pychx
from homodyne_fit.errors import InputError

N, DT, Q, PHI = 8, 0.25, (0.0041, 0.0054), (0.0, 30.0, 90.0)

# What a configuration may leave to be filled in.
KEYS = {
    "dt": "analyzer_parameters.dt",
    "q": "analyzer_parameters.scattering.wavevector_q",
    "gap": "analyzer_parameters.geometry.stator_rotor_gap",
    "phi": "experimental_data.phi_angles",
}


def matrices(count):
    c2 = 1 + np.random.default_rng(count).random((count, N, N))
    return (c2 + np.swapaxes(c2, 1, 2)) / 2


def aps_u(path, q=Q[:1], phi=PHI, bins=None):
    bins = np.arange(len(q) * len(phi)) if bins is None else bins
    write_aps_u(path, matrices(len(bins)), q, phi, bins, DT)


def aps_old(path):
    write_aps_old(path, matrices(len(PHI)), Q[:1], PHI, np.arange(len(PHI)), DT)


def nxxpcs(path):
    write_nxxpcs(path, matrices(len(PHI)), Q[:1] * 3, PHI, DT)


def pychx(path):
    write_pychx(path, matrices(len(PHI)), Q[:1] * 3, PHI, DT)


def rings_of_pychx(path):
    write_pychx(path, matrices(3), [0.002, 0.003, Q[0]], None, DT)


def homodyne_cache(path):
    write_homodyne_cache(path, matrices(len(PHI)), Q[0], PHI, DT)


def everything_in_npz(path):
    write_array(path, matrices(3), q=Q[:1], phi=PHI, dt=DT)


def bare_npz(path):
    write_array(path, matrices(3))


def one_matrix(path):
    write_array(path, matrices(1)[0])


def stack(path):
    write_array(path, matrices(4))


# Writer, name of the file, model chosen, and what is left to fill in.
FORMATS = {
    "APS-U": (aps_u, "data.h5", "laminar_flow", ["gap"]),
    "APS old": (aps_old, "data.hdf", "laminar_flow", ["gap"]),
    "NXxpcs": (nxxpcs, "data.nxs", "laminar_flow", ["gap"]),
    "pyCHX": (pychx, "data.h5", "laminar_flow", ["dt", "gap"]),
    "pyCHX, whole rings": (rings_of_pychx, "data.h5", "static", ["dt"]),
    "homodyne cache": (homodyne_cache, "data.npz", "laminar_flow", ["gap"]),
    "npz": (everything_in_npz, "data.npz", "laminar_flow", ["gap"]),
    "npz of C2 alone": (bare_npz, "data.npz", "laminar_flow", ["phi", "dt", "q", "gap"]),
    "npy of several": (stack, "data.npy", "laminar_flow", ["phi", "dt", "q", "gap"]),
    "npy of one": (one_matrix, "data.npy", "static", ["dt", "q"]),
}
TO_FILL_IN = {
    "  dt: null": f"  dt: {DT}",
    "wavevector_q: null": f"wavevector_q: {Q[0]}",
    "stator_rotor_gap: null": "stator_rotor_gap: 2e6",
    "phi_angles: null": "phi_angles: [0, 30, 90, 120]",
}


@pytest.fixture(params=FORMATS)
def described(request, tmp_path):
    """A file of each format: its path, the model to choose, and what is left to fill in."""
    write, name, model, missing = FORMATS[request.param]
    path = tmp_path / name
    write(path)
    return path, model, [KEYS[each] for each in missing]


class TestEveryFormat:
    def test_the_text_is_a_valid_configuration(self, described):
        path, model, _ = described
        text, _ = configuration(path, path.parent)
        config = parse_config(text, path.with_suffix(".yaml"))
        assert config.root.analysis_mode == model
        assert config.data_path == path
        assert config.ignored == ()

    def test_exactly_what_the_file_lacks_is_to_be_filled_in(self, described, tmp_path, capsys):
        path, model, missing = described
        output = tmp_path / "c.yaml"
        assert main(["init", str(path), "-o", str(output)]) == 0
        lines = capsys.readouterr().out.splitlines()
        if np.unique(hf.inspect(path).q).size > 1:
            assert lines.pop(1).startswith(
                "q: the file has 0.002, 0.003, 0.0041 Å⁻¹, and the largest"
            )
        one_angle = (
            "model: static, without flow, as there is one angle only; for a sheared sample set "
            "analysis_mode: laminar_flow, and the gap"
        )
        options = ", ".join(OPTIONS[key] for key in missing)
        assert lines == [
            f"wrote {output}",
            *([one_angle] if model == "static" else []),
            f"not in the file: {', '.join(missing)}",
            f"fill them in in {output}, or run init again with {options} and --overwrite",
            f"check: homodyne_fit check {shlex.quote(str(output))}",
            f"then: homodyne_fit --config {shlex.quote(str(output))}",
        ]
        text = output.read_text(encoding="utf-8")
        assert len(re.findall(": null  # FILL IN: ", text)) == len(missing)
        empty = [line for line in text.splitlines() if ": null" in line and "FILL IN" not in line]
        assert all("not used without flow" in line for line in empty)

    def test_once_filled_in_it_loads(self, described, tmp_path):
        path, _, _ = described
        text, _ = configuration(path, tmp_path)
        for empty, filled in TO_FILL_IN.items():
            if path.name == "data.npz":
                filled = filled.replace(", 120", "")
            text = text.replace(f"{empty}  # FILL IN", f"{filled}  # filled in")
        assert "FILL IN:" not in text
        config = parse_config(text, tmp_path / "c.yaml")
        config.settings()
        data = config.load_data()
        assert data.dt == DT
        np.testing.assert_allclose(data.q, Q[0])

    def test_before_that_it_says_what_is_missing(self, described, tmp_path):
        path, _, missing = described
        text, _ = configuration(path, tmp_path)
        config = parse_config(text, tmp_path / "c.yaml")

        def use():
            config.settings()
            config.load_data()

        with pytest.raises(InputError) as caught:
            use()
        assert any(key in str(caught.value) for key in missing)

    def test_what_is_given_is_not_asked_for(self, described, tmp_path):
        path, _, _ = described
        n = hf.inspect(path).n_matrices
        phi = (0, 30, 90, 120)[:n] if KEYS["phi"] in described[2] else None
        text, missing = configuration(path, tmp_path, q=Q[0], dt=DT, phi=phi, gap=2e6)
        assert missing == []
        analyzer = yaml.safe_load(text)["analyzer_parameters"]
        assert analyzer["dt"] == DT
        assert analyzer["scattering"]["wavevector_q"] == pytest.approx(Q[0])
        assert analyzer["geometry"]["stator_rotor_gap"] == 2e6

    def test_static_needs_no_gap(self, described, tmp_path):
        path, _, _ = described
        text, missing = configuration(path, tmp_path, static=True)
        assert parse_config(text, tmp_path / "c.yaml").root.analysis_mode == "static"
        assert KEYS["gap"] not in missing


class TestSeveralWaveVectors:
    @pytest.fixture
    def path(self, tmp_path):
        # The bin at the higher q and 30° is empty.
        aps_u(tmp_path / "data.h5", q=Q, bins=[0, 1, 2, 3, 5])
        return tmp_path / "data.h5"

    @staticmethod
    def chosen(path, **given):
        text, _ = configuration(path, path.parent, gap=2e6, **given)
        data = parse_config(text, path.parent / "c.yaml").load_data()
        return text, float(data.q[0]), data.phi.tolist()

    def test_the_one_with_most_angles_is_chosen_and_the_others_named(self, path):
        text, q, phi = self.chosen(path)
        assert (q, phi) == (pytest.approx(Q[0]), list(PHI))
        assert f"wavevector_q: {Q[0]}  # Å⁻¹; the file also has {Q[1]}" in text

    def test_a_near_value_picks_one(self, path):
        text, q, phi = self.chosen(path, q=0.0055)
        assert (q, phi) == (pytest.approx(Q[1]), [0.0, 90.0])
        assert f"wavevector_q: {Q[1]}  # Å⁻¹; the file also has {Q[0]}" in text
        assert "all of 0, 90:" in text

    @pytest.mark.parametrize(("wanted", "taken"), [(0.0047, 0.0041), (0.005, 0.0054)])
    def test_a_near_value_is_said(self, path, called, wanted, taken):
        output = path.with_name("c.yaml")
        done = called("init", path, "-o", output, "--gap", 2e6, "--q", wanted)
        said = f"q: {wanted} Å⁻¹ is not in the file; the nearest, {taken} Å⁻¹, was taken"
        assert f"{said} (the file has 0.0041, 0.0054)" in done.out.splitlines()
        shown = called("inspect", path, "--q", wanted)
        assert (
            f"--q {wanted} is not in the file; the nearest is shown, q = {taken} Å⁻¹" in shown.out
        )
        for command in (("init", path, "-o", output, "--overwrite"), ("inspect", path)):
            assert "is not in the file" not in called(*command, "--q", taken).out

    def test_none_is_near(self, path):
        with pytest.raises(InputError, match=r"no matrix is near q = 0.02 .*0.0041, 0.0054"):
            self.chosen(path, q=0.02)


def test_a_model_that_was_asked_for_is_not_explained(tmp_path, called):
    aps_u(tmp_path / "data.h5", phi=(10.0,))
    done = called("init", tmp_path / "data.h5", "-o", tmp_path / "c.yaml", "--static")
    assert done.status == 0
    assert "model: " not in done.out


def test_one_angle_is_taken_for_a_sample_at_rest(tmp_path):
    aps_u(tmp_path / "data.h5", phi=(10.0,))
    text, missing = configuration(tmp_path / "data.h5", tmp_path)
    assert "analysis_mode: static  # no flow, as there is one angle only" in text
    assert missing == []
    assert "phi_filtering" not in text


def test_numbers_are_numbers_to_any_reader(tmp_path):
    write_aps_u(tmp_path / "data.h5", matrices(2), [4e-05], [0, 90], [0, 1], 1e-05)
    text, _ = configuration(tmp_path / "data.h5", tmp_path, gap=1e10, units_confirmed=True)
    analyzer = yaml.safe_load(text)["analyzer_parameters"]
    assert analyzer["dt"] == 1e-05
    assert analyzer["scattering"]["wavevector_q"] == 4e-05
    assert analyzer["geometry"]["stator_rotor_gap"] == 1e10


def test_the_examples_in_comments_are_valid_when_used(tmp_path):
    aps_u(tmp_path / "data.h5")
    text, _ = configuration(tmp_path / "data.h5", tmp_path, gap=2e6)
    used = re.sub(r"^# (phi_filtering:|initial_parameters:|  )", r"\1", text, flags=re.MULTILINE)
    config = parse_config(used, tmp_path / "c.yaml")
    assert config.settings().fixed == {"D_offset": 0, "gamma_dot_t_offset": 0}
    assert config.load_data().phi.tolist() == [0, 90]


def test_nothing_in_the_file_can_end_a_comment(tmp_path):
    aps_u(tmp_path / "data.h5")
    with h5py.File(tmp_path / "data.h5", "a") as file:
        file["/entry/instrument/detector_1/frame_time"].attrs["units"] = "ms\nanalysis_mode: x\x07"
    text, missing = configuration(tmp_path / "data.h5", tmp_path, gap=2e6)
    assert missing == [KEYS["dt"]]
    assert parse_config(text, tmp_path / "c.yaml").root.analysis_mode == "laminar_flow"


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "with space.h5",
            "it's.h5",
            'say "c2".h5',
            "run #3.h5",
            "a: b.h5",
            "- dash.h5",
            "[list].h5",
            "{map}.h5",
            "*star &and !bang %.h5",
            "größe Å ☃ 𝛾.h5",
            "two\nlines.h5",
            "tab\there\x07.h5",
            "back\\slash.h5",
            "null",
            "1e3",
        ],
    )
    def test_any_name_of_a_file_comes_back(self, tmp_path, name, capsys):
        try:
            aps_u(tmp_path / name)
        except OSError:
            pytest.skip("this file system has no such names")
        output = tmp_path / "c.yaml"
        assert main(["init", str(tmp_path / name), "-o", str(output), "--gap", "2e6"]) == 0
        config = load_config(output)
        assert config.data_path == tmp_path / name
        assert config.load_data().n_angles == 3

    def test_a_name_that_is_no_text(self, tmp_path):
        path = tmp_path / os.fsdecode(b"caf\xe9.h5")
        try:
            aps_u(path)
        except OSError:
            pytest.skip("this file system has no such names")
        output = tmp_path / "c.yaml"
        assert main(["init", str(path), "-o", str(output), "--gap", "2e6"]) == 0
        assert load_config(output).data_path == path

    def test_the_command_to_run_next_can_be_pasted(self, tmp_path, capsys):
        aps_u(tmp_path / "data.h5")
        output = tmp_path / "my fit $1.yaml"
        main(["init", str(tmp_path / "data.h5"), "-o", str(output)])
        then = capsys.readouterr().out.splitlines()[-1].removeprefix("then: ")
        assert shlex.split(then) == ["homodyne_fit", "--config", str(output)]


class TestFolders:
    def test_by_default_the_configuration_is_written_here(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "data").mkdir()
        (tmp_path / "work").mkdir()
        aps_u(tmp_path / "data" / "run.h5")
        monkeypatch.chdir(tmp_path / "work")
        assert main(["init", "../data/run.h5"]) == 0
        assert "wrote run.yaml\n" in capsys.readouterr().out
        assert os.listdir(tmp_path / "data") == ["run.h5"]
        assert load_config(Path("run.yaml")).data_path.samefile(tmp_path / "data" / "run.h5")

    @pytest.mark.parametrize("where", [".", "sub/deeper", "sub/deeper/and/deeper"])
    def test_a_configuration_elsewhere_finds_the_data(self, tmp_path, monkeypatch, where):
        aps_u(tmp_path / "run.h5")
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(tmp_path)
        assert main(["init", "run.h5", "-o", f"{where}/c.yaml", "--gap", "2e6"]) == 0
        other = tmp_path / "other"
        other.mkdir()
        monkeypatch.chdir(other)
        config = load_config(tmp_path / where / "c.yaml")
        assert config.load_data().n_angles == 3
        far = where.count("/") > 1
        assert Path(config.root.experimental_data.file_path).is_absolute() == far

    @pytest.mark.skipif(os.name != "posix", reason="symbolic links")
    def test_links_do_not_lead_astray(self, tmp_path, monkeypatch):
        (tmp_path / "disk" / "user" / "fits").mkdir(parents=True)
        (tmp_path / "fits").symlink_to(tmp_path / "disk" / "user" / "fits")
        aps_u(tmp_path / "run.h5")
        monkeypatch.chdir(tmp_path)
        assert main(["init", "run.h5", "-o", "fits/c.yaml"]) == 0
        assert load_config(Path("fits/c.yaml")).data_path.samefile(tmp_path / "run.h5")

    def test_an_earlier_file_stays_unless_it_may_go(self, tmp_path, capsys):
        aps_u(tmp_path / "data.h5")
        output = tmp_path / "c.yaml"
        output.write_text("mine")
        arguments = ["init", str(tmp_path / "data.h5"), "-o", str(output)]
        assert main(arguments) == 1
        assert "c.yaml: exists; give another -o, or --overwrite" in capsys.readouterr().err
        assert output.read_text() == "mine"
        assert main([*arguments, "--overwrite"]) == 0
        assert output.read_text() != "mine"


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                "--gap 0.2",
                r"a gap of 0.2 Å is not plausible; .* 2e\+06 Å; if it .*, add --units-confirmed",
            ),
            ("--q 0.01", "no matrix is near q = 0.01 Å⁻¹, but the file has q = 0.0041 Å⁻¹"),
            ("--phi 0,30,60", "the file has its own angles; leave --phi out"),
            (
                "--dt 0.1",
                r"--dt is 0.1 s, but the file says 0.25 s \(frame_time 0.25 × .*\); leave",
            ),
        ],
    )
    def test_a_bad_value_is_one_line_and_nothing_is_written(
        self, tmp_path, capsys, options, message
    ):
        aps_u(tmp_path / "data.h5")
        output = tmp_path / "c.yaml"
        arguments = [str(tmp_path / "data.h5"), "-o", str(output), *options.split()]
        assert main(["init", *arguments]) == 1
        assert re.fullmatch(f"homodyne_fit: error: .*{message}.*\n", capsys.readouterr().err)
        assert not output.exists()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ("--dt 1000", "1000 ms is 1 s"),
            ("--q 0.54", "0.54 nm⁻¹ is 0.054 Å⁻¹"),
            ("--phi 0.7854", "φ: 0.7854 looks like radians, but degrees are needed: 45"),
        ],
    )
    def test_units_are_asked_about(self, tmp_path, capsys, options, said):
        one_matrix(tmp_path / "data.npy")
        output = tmp_path / "c.yaml"
        arguments = ["--dt=1", "--q=0.0054", *options.split()]
        arguments = ["init", str(tmp_path / "data.npy"), "-o", str(output), *arguments]
        assert main(arguments) == 1
        line = capsys.readouterr().err
        assert said in line
        assert line.endswith(", add --units-confirmed\n")
        assert not output.exists()
        assert main([*arguments, "--units-confirmed"]) == 0
        assert main(["check", str(output)]) == 0

    def test_a_gap_that_is_not_used_is_not_asked_about(self, tmp_path):
        one_matrix(tmp_path / "data.npy")
        text, _ = configuration(tmp_path / "data.npy", tmp_path, gap=0.2)
        assert "units_confirmed" not in text

    def test_angles_keep_their_digits(self, tmp_path):
        stack(tmp_path / "data.npy")
        phi = (1e-7, 12.3456789, 123.456789, 1e6)
        text, _ = configuration(tmp_path / "data.npy", tmp_path, phi=phi)
        assert yaml.safe_load(text)["experimental_data"]["phi_angles"] == list(phi)

    @pytest.mark.parametrize("more", [[], ["--overwrite"]])
    def test_data_are_not_overwritten(self, tmp_path, capsys, more):
        path = tmp_path / "data.h5"
        aps_u(path)
        before = path.read_bytes()
        assert main(["init", str(path), "-o", str(path), *more]) == 1
        assert "give another -o" in capsys.readouterr().err
        assert path.read_bytes() == before

    def test_a_folder_is_no_data(self, capsys):
        assert main(["init", "."]) == 1
        assert "error: . is a folder; expected one file" in capsys.readouterr().err

    def test_a_wave_vector_of_the_file_is_asked_for_by_its_option(self, tmp_path, capsys):
        aps_u(tmp_path / "data.h5")
        for command in ("init", "inspect"):
            assert main([command, str(tmp_path / "data.h5"), "--q", "0.01"]) == 1
            error = capsys.readouterr().err
            assert error.startswith("homodyne_fit: error: --q: ")
            assert error.endswith("; choose one of them\n")

    def test_too_few_angles(self, tmp_path):
        stack(tmp_path / "data.npy")
        with pytest.raises(InputError, match=r"--phi gives 2 angles for 4 matrices"):
            configuration(tmp_path / "data.npy", tmp_path, phi=(0, 45))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("dta.h5", r"dta.h5: there is no such file \(did you mean 'data.h5'\?\)"),
            ("notes.txt", "notes.txt: neither an HDF5 nor a NumPy file"),
            (".", "is a folder; expected one file of two-time correlations"),
        ],
    )
    def test_no_data(self, tmp_path, capsys, name, message):
        aps_u(tmp_path / "data.h5")
        (tmp_path / "notes.txt").write_text("nothing")
        assert main(["init", str(tmp_path / name), "-o", str(tmp_path / "c.yaml")]) == 1
        assert re.fullmatch(f"homodyne_fit: error: .*{message}.*\n", capsys.readouterr().err)

    @pytest.mark.parametrize(
        ("name", "message"), [("", "it is a folder"), ("no/c.yaml", "there is no folder")]
    )
    def test_nowhere_to_write(self, tmp_path, capsys, name, message):
        aps_u(tmp_path / "data.h5")
        output = str(tmp_path / name)
        assert main(["init", str(tmp_path / "data.h5"), "-o", output, "--overwrite"]) == 1
        assert re.fullmatch(f"homodyne_fit: error: .*{message}.*\n", capsys.readouterr().err)

    def test_no_finite_wave_vector(self, tmp_path, capsys):
        aps_u(tmp_path / "data.h5", q=(np.nan,))
        assert main(["init", str(tmp_path / "data.h5"), "-o", str(tmp_path / "c.yaml")]) == 1
        assert "no matrix has a positive, finite q" in capsys.readouterr().err
