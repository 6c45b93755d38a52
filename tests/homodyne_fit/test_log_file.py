"""``--log-file``: what is done when, and what is printed."""

import re

import pytest

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "

CONFIG = (
    "analysis_mode: static\n"
    "experimental_data: {file_path: %s, phi_angles: [0, 45, 90]}\n"
    "analyzer_parameters: {dt: 0.1, scattering: {wavevector_q: 0.0054}}\n"
    "optimization: {nlsq: {multi_start: {enable: false}}}\n"
    "metadata: {version: 1}\n"
)


@pytest.fixture
def config(small_array, tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG % small_array)
    return tmp_path / "c.yaml"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "fit.log"


@pytest.mark.usefixtures("without_pictures")
class TestLog:
    def test_has_steps_summary_and_warnings(self, called, config, log, monkeypatch):
        monkeypatch.setattr("homodyne_fit.cli.progress.LEAST_PAUSE", 0.0)
        monkeypatch.setattr("homodyne_fit.cli.progress.LEAST_SHARE", 0.0)
        done = called("--config", config, "--log-file", log, "--quiet")
        assert (done.status, done.out, done.err) == (0, "", "")
        text = log.read_text("utf-8")
        lines = text.splitlines()
        assert re.fullmatch(
            rf"{STAMP}homodyne_fit --config .*c.yaml --log-file .* --quiet", lines[0]
        )
        for stage in ("reading", "compiling the model", "all points", "drawing the report"):
            assert re.search(rf"^{STAMP}\d+:\d\d {stage}", text, flags=re.M), stage
        assert re.search(r"^The fit ", text, flags=re.M)
        assert lines[-1].startswith("results: ")
        assert "\x1b" not in text

    def test_is_what_is_printed(self, called, config, log):
        done = called("--config", config, "--log-file", log)
        printed = log.read_text("utf-8").splitlines()
        stamped = [line for line in printed if re.match(STAMP, line)]
        for line in (done.out + done.err).splitlines():
            assert line in printed
        assert "1 key without effect" in done.err
        assert len(stamped) == len(printed) - len((done.out + done.err).splitlines())

    def test_grows(self, called, config, log):
        log.write_text("from before\n")
        called("--config", config, "--log-file", log)
        called("--config", config, "--log-file", log)
        lines = log.read_text("utf-8").splitlines()
        assert lines[0] == "from before"
        assert lines[-1] == (
            f"error: {config.with_name('c_results')}: holds results already; give --overwrite to "
            "replace them"
        )

    def test_of_a_batch(self, called, config, log):
        done = called("batch", config, "--log-file", log, "--quiet")
        assert (done.status, done.out) == (0, "")
        text = log.read_text("utf-8")
        assert f"[1/1] {config}\n" in text
        assert text.endswith("1 fit: 1 converged, 0 did not, 0 errors\n")


def test_mistakes_are_in_it(called, config, log):
    config.write_text(config.read_text().replace("dt: 0.1", "dt: fast"))
    done = called("--config", config, "--log-file", log)
    assert done.status == 1
    assert "dt: a number is needed (got 'fast')" in log.read_text("utf-8").splitlines()[-1]


def test_a_log_that_cannot_be_written(called, config, tmp_path):
    done = called("--config", config, "--log-file", tmp_path)
    assert done.status == 1
    said = f"homodyne_fit: error: --log-file: {tmp_path}: cannot be written (Is a directory)\n"
    assert done.err == said
