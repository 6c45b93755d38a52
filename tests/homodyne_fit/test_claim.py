"""The folder of a result belongs to one fit, and the numbers of a finished fit stay."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

import homodyne_fit as hf
from homodyne_fit.errors import InputError
from homodyne_fit.results.claim import claimed
from homodyne_fit.results.folder import write_outputs
from homodyne_fit.results.names import CLAIM, OUTPUTS, UNFINISHED

# Written before the large file.
SMALL = {"parameters.json", "parameters.csv", "angles.csv"}


class TestClaim:
    def test_a_second_fit_is_refused_until_the_first_ends(self, tmp_path):
        folder = tmp_path / "results"
        with claimed(folder):
            with (
                pytest.raises(InputError, match=r"another fit writes its results there \(process "),
                claimed(folder),
            ):
                pytest.fail("two fits in one folder")
            (folder / "mine").touch()
        with claimed(folder):
            pass
        assert [path.name for path in folder.iterdir()] == ["mine"]

    def test_two_processes_at_once(self, tmp_path):
        code = (
            "import sys, time\n"
            "from pathlib import Path\n"
            "from homodyne_fit.results.claim import claimed\n"
            "try:\n"
            "    with claimed(Path(sys.argv[1])):\n"
            "        print('mine', flush=True)\n"
            "        sys.stdin.read()\n"
            "except ValueError as error:\n"
            "    print('refused', flush=True)\n"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "r")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as first:
            assert first.stdout.readline() == "mine\n"
            second = subprocess.run(command, input="", capture_output=True, text=True, check=True)
            assert second.stdout == "refused\n"
            first.kill()
        # A process that was killed leaves its claim, which is noticed.
        assert (tmp_path / "r" / CLAIM).exists()
        (tmp_path / "r" / f"{UNFINISHED}abc").mkdir()
        (tmp_path / "r" / f"{UNFINISHED}abc" / "result.h5").touch()
        with claimed(tmp_path / "r"):
            assert [path.name for path in (tmp_path / "r").iterdir()] == [CLAIM]
        assert list((tmp_path / "r").iterdir()) == []

    @pytest.mark.parametrize(
        ("changes", "refused"),
        [
            ({"host": "another machine"}, True),
            ({"process": 2**22 + 1}, False),
            ({"started": 1.0}, False),
        ],
    )
    def test_a_claim_that_was_left(self, tmp_path, changes, refused):
        with claimed(tmp_path):
            mine = json.loads((tmp_path / CLAIM).read_text())
        assert (mine["host"], mine["process"]) == (socket.gethostname(), os.getpid())
        (tmp_path / CLAIM).write_text(json.dumps(mine | changes))
        if refused:
            said = r"another machine, since .* or remove .*progress"
            with pytest.raises(InputError, match=said), claimed(tmp_path):
                pytest.fail("claimed")
        else:
            with claimed(tmp_path):
                pass

    def test_empty_folders_go_and_others_stay(self, tmp_path):
        (tmp_path / "there").mkdir()
        with claimed(tmp_path / "there" / "a" / "b"):
            (tmp_path / "there" / "a" / "b" / "plots").mkdir()
        assert list((tmp_path / "there").iterdir()) == []
        with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "there"):
            raise KeyboardInterrupt
        assert (tmp_path / "there").is_dir()


class TestAFit:
    @pytest.fixture
    def config(self, small_array, tmp_path):
        text = (
            "analysis_mode: static\n"
            f"experimental_data: {{file_path: {small_array}, phi_angles: [0, 45, 90]}}\n"
            "analyzer_parameters: {dt: 0.1, scattering: {wavevector_q: 0.0054}}\n"
        )
        (tmp_path / "c.yaml").write_text(text)
        return tmp_path / "c.yaml"

    def test_the_folder_is_claimed_while_it_fits(self, called, config, monkeypatch):
        inner = []

        def fit(*_, **__):
            inner.append(called("--config", config))
            raise KeyboardInterrupt

        monkeypatch.setattr("homodyne_fit.fitting.fit.fit", fit)
        done = called("--config", config)
        said = "homodyne_fit: error: interrupted: in the step 'starting JAX'; nothing is written\n"
        assert (done.status, done.err) == (130, said)
        assert inner[0].status == 1
        assert "c_results: another fit writes its results there (process" in inner[0].err
        assert not config.with_name("c_results").exists()


@pytest.mark.usefixtures("without_pictures")
class TestNumbers:
    def test_stages_are_named(self, sheared, tmp_path):
        stages = []
        write_outputs(sheared, tmp_path, plots=hf.FigureFiles(), on_stage=stages.append)
        assert stages == [
            "writing the numbers",
            "writing result.h5",
            "drawing the figures",
            "drawing the report",
        ]

    @pytest.mark.parametrize(
        "error",
        [OSError(28, "No space left on device"), InputError("result.h5: cannot be written (full)")],
    )
    def test_a_full_disk_leaves_the_small_files(self, sheared, tmp_path, monkeypatch, error):
        def full(*_):
            raise error

        monkeypatch.setattr("homodyne_fit.results.result_file.write_result", full)
        with pytest.raises(InputError, match=r"result\.h5: .*parameters\.json, .* and angles\.csv"):
            write_outputs(sheared, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == SMALL
        found = json.loads((tmp_path / "parameters.json").read_text("utf-8"))
        assert found["parameters"]["D0"]["value"] == sheared.parameters["D0"].value

    @pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
    def test_a_disk_that_is_full_in_the_middle_of_it(self, sheared, tmp_path):
        import resource

        write_outputs(sheared, tmp_path)
        sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.*")}
        limit = sizes["parameters.json"] + 1000
        assert sizes["result.h5"] > limit
        for path in tmp_path.glob("*.*"):
            path.unlink()
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(InputError, match=r"result\.h5: cannot be written \(File too large"):
                write_outputs(sheared, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert {path.name for path in tmp_path.glob("*.*")} == SMALL

    @pytest.mark.parametrize("step", ["result", "report"])
    def test_an_interrupt_leaves_what_is_written(self, sheared, tmp_path, monkeypatch, step):
        def interrupted(*_):
            raise KeyboardInterrupt

        place = {"result": "results.result_file.write_result", "report": "report.html.write_report"}
        monkeypatch.setattr(f"homodyne_fit.{place[step]}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_outputs(sheared, tmp_path)
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {*OUTPUTS} - {"report.html"} - ({"result.h5"} if step == "result" else set())

    def test_the_result_is_written_without_locks_of_the_file_system(
        self, sheared, tmp_path, monkeypatch
    ):
        opened = []
        original = h5py.File.__init__

        def spy(file, name, *args, **kwargs):
            if isinstance(name, str | Path):
                opened.append(kwargs.get("driver"))
            original(file, name, *args, **kwargs)

        monkeypatch.setattr(h5py.File, "__init__", spy)
        write_outputs(sheared, tmp_path)
        assert opened == ["core"]
        monkeypatch.undo()
        assert hf.load_result(tmp_path).to_json() == sheared.to_json()

    def test_a_file_system_without_modes(self, sheared, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "chmod", refuse)
        write_outputs(sheared, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {*OUTPUTS}

    def test_names_of_files_that_are_no_text(self, sheared, tmp_path):
        name = os.fsdecode(b"/data/run\xff\xe4.h5")
        record = replace(
            sheared,
            provenance=replace(sheared.provenance, source=name),
            config={"experimental_data": {"file_path": name}},
        )
        write_outputs(record, tmp_path)
        found = json.loads((tmp_path / "parameters.json").read_text("utf-8"))
        assert found["provenance"]["source"] == name
        loaded = hf.load_result(tmp_path)
        assert (loaded.provenance.source, loaded.data.source) == (name, name)
        assert loaded.config == record.config
