import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import rich.console
from matplotlib.figure import Figure

import homodyne_fit as hf
from homodyne_fit.report.numbers import format_estimate
from homodyne_fit.results.exports import write_csv
from homodyne_fit.results.names import OUTPUTS


class TestSave:
    @pytest.mark.usefixtures("without_pictures")
    def test_writes_all_files_and_says_where(self, sheared, tmp_path):
        folder = sheared.save(tmp_path / "a" / "b")
        assert folder == tmp_path / "a" / "b"
        assert {path.name for path in folder.iterdir()} == set(OUTPUTS)
        assert json.loads((folder / "parameters.json").read_text("utf-8")) == sheared.to_json()

    def test_what_is_asked_for_comes_too(self, sheared, tmp_path):
        folder = sheared.save(str(tmp_path / "r"), exports=["homodyne"], plots=True)
        assert {path.name for path in folder.iterdir()} == {*OUTPUTS, "fitted_data.npz", "plots"}
        drawn = sorted(path.name for path in (folder / "plots").iterdir())
        angles = [
            f"angle_{k:03d}_{what}.png"
            for k in range(3)
            for what in ("lag_cuts", "residuals", "two_time")
        ]
        of_all = ("correlation", "rates", "scaling", "strain")
        assert drawn == [*angles, *(f"{name}.png" for name in of_all)]
        assert all(
            path.read_bytes().startswith(b"\x89PNG") for path in (folder / "plots").iterdir()
        )

    @pytest.mark.usefixtures("without_pictures")
    def test_nothing_is_overwritten_unasked(self, sheared, tmp_path):
        (tmp_path / "result.h5").write_text("mine")
        with pytest.raises(hf.InputError, match="holds results already"):
            sheared.save(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["result.h5"]

    @pytest.mark.usefixtures("without_pictures")
    def test_no_file_of_an_earlier_fit_is_left_beside_the_new_ones(self, sheared, tmp_path):
        sheared.save(tmp_path, exports=["homodyne"], plots=True)
        (tmp_path / "notes.txt").write_text("mine")
        sheared.save(tmp_path, overwrite=True)
        assert {path.name for path in tmp_path.iterdir()} == {*OUTPUTS, "notes.txt"}

    @pytest.mark.usefixtures("without_pictures")
    def test_figures_of_somebody_else_stay(self, sheared, tmp_path):
        (tmp_path / "plots").mkdir()
        (tmp_path / "plots" / "mine.png").write_text("mine")
        sheared.save(tmp_path, plots=True)
        sheared.save(tmp_path, overwrite=True)
        assert [path.name for path in (tmp_path / "plots").iterdir()] == ["mine.png"]

    def test_an_unknown_export(self, sheared, tmp_path):
        with pytest.raises(hf.InputError, match="no export 'homdyne' .did you mean 'homodyne'"):
            sheared.save(tmp_path / "r", exports=["homdyne"])
        assert not (tmp_path / "r").exists()


class TestInANotebook:
    def test_figures(self, sheared):
        for figure in (
            sheared.plot_rates(),
            sheared.plot_rates([0.1, 1.0, 2.0]),
            sheared.plot_scaling(),
            sheared.plot_two_time(1),
            sheared.plot_lag_cuts(2),
        ):
            assert isinstance(figure, Figure)
            figure.draw_without_rendering()
        line = sheared.plot_rates([0.1, 1.0, 2.0]).axes[0].lines[0]
        np.testing.assert_array_equal(line.get_xdata(), [0.1, 1.0, 2.0])

    def test_figures_show_themselves(self, sheared):
        assert sheared.plot_scaling()._repr_png_().startswith(b"\x89PNG\r\n")

    def test_text_is_returned_and_not_shown(self, sheared, monkeypatch, capsys):
        """In a notebook rich shows what it is to write, so that a cell has the summary twice."""
        outside = str(sheared)
        monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
        assert str(sheared) == outside != ""
        assert capsys.readouterr() == ("", "")

    def test_as_a_table_of_pandas(self, sheared, tmp_path):
        table = sheared.to_dataframe()
        write_csv(tmp_path / "parameters.csv", sheared)
        stored = pd.read_csv(tmp_path / "parameters.csv", keep_default_na=False, dtype=str)
        assert list(table.columns) == list(stored.columns)
        assert table["name"].tolist() == list(sheared.names)
        assert table["value"][0] == sheared.parameters["D0"].value
        assert table["fixed"].dtype == table["at_bound"].dtype == bool
        for column in ("phi", "value", "stderr"):
            given = pd.to_numeric(stored[column], errors="coerce")
            np.testing.assert_array_equal(table[column], given)

    def test_without_pandas(self, sheared, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(hf.InputError, match=r"^to_dataframe needs pandas: pip install pandas$"):
            sheared.to_dataframe()

    def test_as_text_and_as_html(self, sheared):
        text, html = repr(sheared), sheared._repr_html_()
        assert text.startswith("The fit converged, but the model does not describe the data.\n")
        assert "\x1b" not in text
        for name, estimate in sheared.parameters.items():
            shown = format_estimate(estimate.value, estimate.stderr)
            assert any(
                line.split()[: 1 + len(shown.split())] == [name, *shown.split()]
                for line in text.splitlines()
            )
            assert f"<td>{name}</td><td>{shown}</td><td>{estimate.unit}</td>" in html
        assert "at its bound" in text
        assert html.count("<tr>") == html.count("</tr>") == 1 + 7 + 2
        words = " ".join(text.split())
        assert all(f"warning: {warning}" in words for warning in sheared.warnings)


class TestMistakes:
    @pytest.mark.parametrize(
        ("times", "said"),
        [
            ([1.0, -1.0], "times are seconds from the first frame on, none negative; got -1"),
            (np.nan, "times are seconds from the first frame on, none negative; got nan"),
            ("noon", "times are numbers, in seconds, not 'noon'"),
            (np.inf, "times are seconds from the first frame on, none negative; got inf"),
            ([[1.0], [2.0]], "times are a number or a list of them, not of shape (2, 1)"),
        ],
    )
    def test_times(self, sheared, times, said):
        for function in (sheared.J, sheared.gamma_dot, sheared.plot_rates):
            with pytest.raises(hf.InputError, match=f"^{re.escape(said)}$"):
                function(times)

    @pytest.mark.parametrize("angle", [3, -4, "0", 1.0, True])
    def test_angles(self, sheared, angle):
        for function in (sheared.c2, sheared.decay, sheared.plot_two_time, sheared.plot_lag_cuts):
            said = re.escape(f"there is no angle {angle!r}; their indices are 0 to 2")
            with pytest.raises(hf.InputError, match=f"^{said}$"):
                function(angle)
        np.testing.assert_array_equal(sheared.c2(-1), sheared.c2(2))

    def test_a_folder(self, sheared):
        with pytest.raises(hf.InputError, match=r"^save: folder: a path is needed \(got 5\)$"):
            sheared.save(5)
        with pytest.raises(hf.InputError, match=r"^save: there is no argument 'plot' \(did you"):
            sheared.save(folder="x", plot=True)

    def test_results_that_are_there(self, sheared, tmp_path):
        (tmp_path / "result.h5").touch()
        with pytest.raises(hf.InputError, match="give overwrite=True to replace them"):
            sheared.save(tmp_path)

    def test_no_times(self, sheared):
        assert [len(each) for each in sheared.J([])] == [0, 0]

    def test_numbers_that_cannot_be_written_leave_the_earlier_result(
        self, sheared, tmp_path, monkeypatch
    ):
        def full(path, _):
            raise OSError(28, "No space left on device", str(path))

        sheared.save(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with monkeypatch.context() as patch:
            patch.setattr("homodyne_fit.results.result_file.write_result", full)
            with pytest.raises(OSError, match="No space left"):
                sheared.save(tmp_path, overwrite=True)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_an_interrupt_while_drawing_leaves_no_earlier_report(
        self, sheared, tmp_path, monkeypatch
    ):
        def interrupted(*_):
            raise KeyboardInterrupt

        sheared.save(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr("homodyne_fit.report.html.write_report", interrupted)
            with pytest.raises(KeyboardInterrupt):
                sheared.save(tmp_path, overwrite=True)
        assert {path.name for path in tmp_path.iterdir()} == {*OUTPUTS} - {"report.html"}
