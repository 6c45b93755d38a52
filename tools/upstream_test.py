"""NLSQ's own tests of large data, with NLSQ's names and with ours in their place.

Fetches the source distribution of the installed NLSQ into a temporary folder, selects the tests
that mention the names we replace, runs them twice, side by side, and compares test by test.
Arguments are passed on to pytest. The exit status is 1 if a test passes with NLSQ's names and not
with ours.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
VERSION = importlib.metadata.version("nlsq")

# Tests that mention these are run, but for those that do it in a kernel of their own.
NAMES = re.compile(r"curve_fit_large|LargeDatasetFitter|fit_large_dataset|large_dataset")
ELSEWHERE = re.compile(r"nbclient|nbconvert")

# Seconds: for one test, and for a run of all of them.
TEST_LIMIT, RUN_LIMIT = 900, 7200


def unpack_sdist(folder: Path) -> Path:
    """Fetch NLSQ's source distribution with pip; return its unpacked tree."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-binary", "nlsq", f"nlsq=={VERSION}"]
    subprocess.run(command, cwd=folder, check=True)
    with tarfile.open(folder / f"nlsq-{VERSION}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"nlsq-{VERSION}"


def selected_tests(tree: Path) -> list[str]:
    """Test files that mention the names we replace."""
    texts = {path: path.read_text() for path in sorted(tree.glob("tests/**/test_*.py"))}
    return [
        str(path.relative_to(tree))
        for path, text in texts.items()
        if NAMES.search(text) and not ELSEWHERE.search(text)
    ]


def outcomes(tree: Path, title: str, arguments: Sequence[str], path: str = "") -> dict[str, str]:
    """Run pytest in the tree, with NLSQ's own settings; return how each test went."""
    results = tree / "results.xml"
    results.unlink(missing_ok=True)
    # NLSQ installs pytest-qt, which loads Qt and its system libraries at start-up. In one process
    # a test that takes too long fails; in NLSQ's two it would take the run down with it.
    command = [sys.executable, "-m", "pytest", "-p", "no:pytest-qt", f"--timeout={TEST_LIMIT}"]
    command += ["-n", "0", "-q", "-q", "-r", "fE", f"--junitxml={results}", *arguments]
    try:
        run = subprocess.run(
            command,
            cwd=tree,
            env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=RUN_LIMIT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"not done after {RUN_LIMIT} s")
    print(f"\n{title}\n{run.stdout}", flush=True)
    if run.returncode not in (0, 1) or not results.exists():
        sys.exit(f"pytest ended with status {run.returncode}")
    return read_outcomes(results)


def read_outcomes(results: Path) -> dict[str, str]:
    """'passed', 'failed' or 'skipped' for each test in a JUnit file."""
    found: dict[str, str] = {}
    for case in ET.parse(results).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        tags = {child.tag for child in case}
        if tags & {"failure", "error"}:
            found[name] = "failed"
        elif "skipped" in tags:
            found.setdefault(name, "skipped")
        else:
            found.setdefault(name, "passed")
    return found


def compare(upstream: dict[str, str], ours: dict[str, str]) -> bool:
    """Print the difference test by test; return whether ours passes all that upstream passes."""
    rows: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(upstream | ours):
        rows[upstream.get(name, "missing"), ours.get(name, "missing")].append(name)
    print(f"\n{len(upstream | ours)} tests\n{'upstream':>10} {'ours':>10} {'tests':>8}")
    always = {(a, b) for a in ("passed", "failed") for b in ("passed", "failed")}
    for both in sorted(always | rows.keys()):
        print(f"{both[0]:>10} {both[1]:>10} {len(rows[both]):>8}")
        if "failed" in both or "missing" in both:
            print("".join(f"{'':>12}{name}\n" for name in rows[both]), end="")
    return all(b == "passed" for (a, b), names in rows.items() if a == "passed" and names)


def main() -> int:
    """Run the tests twice and compare."""
    with tempfile.TemporaryDirectory(prefix="upstream-test-") as folder:
        tree = unpack_sdist(Path(folder))
        # Whatever way the tests find NLSQ, they find the installed one.
        (tree / "nlsq").rename(tree / "sources")
        installed = importlib.metadata.distribution("nlsq").locate_file("nlsq")
        (tree / "nlsq").symlink_to(str(installed))
        other = tree.with_name("ours")
        shutil.copytree(tree, other, symlinks=True)
        files = selected_tests(tree)
        arguments = [*files, *sys.argv[1:]]
        print(f"NLSQ {VERSION}: {len(files)} test files mention what we replace", flush=True)
        with ThreadPoolExecutor(2) as runs:
            first = runs.submit(outcomes, tree, "NLSQ's names:", arguments)
            swapped = ["-p", "upstream_names", *arguments]
            second = runs.submit(outcomes, other, "our names in their place:", swapped, str(TOOLS))
            plain, ours = first.result(), second.result()
        return 0 if compare(plain, ours) else 1


if __name__ == "__main__":
    sys.exit(main())
