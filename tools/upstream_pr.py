"""NLSQ with our modules inside: the tree of the pull request, built and tested.

Unpacks the source distribution of the installed NLSQ, adds our modules as
``nlsq.streaming.stratified`` and our tests of them, patches the entry points, leaves the
difference in ``build/upstream-pr.patch`` and runs NLSQ's tests of large data and ours in the
patched tree. Arguments are passed on to pytest. The exit status is 1 if a test fails.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from upstream_test import VERSION, outcomes, selected_tests, unpack_sdist

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nlsq.streaming.stratified"
# Files and folders that NLSQ has already, or gets by a patch, or that only a cluster needs.
LEFT_OUT = {"__init__.py", "executors", "fitter.py"}

INIT = '''"""Exact large-data least squares, for any chunking of the data.

A fit only ever needs sums over points. Each chunk returns its sums, the sums add, and the
optimiser sees the total; so the answer is the full-data least-squares answer whatever the chunks
are, in whatever order and wherever they are summed.
"""

from nlsq.streaming.stratified.chunks import ChunkReport, Chunks

__all__ = ["ChunkReport", "Chunks"]
'''

SIGNATURE = """
    *,
    # Chunks that are kept as the caller made them
    chunks: Any = None,
    preserve_chunks: bool = True,
    executor: Executor | None = None,
    progressive: bool = False,
"""

DOCSTRING = """
    chunks : Chunks, int, 'auto', or sequence, optional
        Fit exactly, by sums over chunks, instead of averaging fits of chunks. A partition of the
        points; a chunk size; a size chosen here; or any object with ``__len__`` and
        ``__getitem__(i) -> (x, y)`` or ``(x, y, sigma)``, which may read from disk and replaces
        xdata, ydata and sigma.
    preserve_chunks : bool, optional
        With chunks: call the model on exactly these. If False, for a model that computes each point
        by itself, their boundaries are hints, and it is compiled for few lengths.
        Default: True.
    executor : concurrent.futures.Executor, optional
        With chunks: where they are summed.
    progressive : bool, optional
        With chunks: fit on one chunk first, then on 4, 16, ..., all. Default: False.
"""

CURVE_FIT_LARGE = """
    if chunks is not None:
        from nlsq.streaming.stratified.curve_fit import fit_with_chunks

        return fit_with_chunks(
            f,
            xdata,
            ydata,
            chunks,
            p0=p0,
            sigma=sigma,
            absolute_sigma=absolute_sigma,
            check_finite=check_finite,
            bounds=bounds,
            method=method,
            memory_limit_gb=memory_limit_gb,
            chunk_size=chunk_size,
            preserve_chunks=preserve_chunks,
            executor=executor,
            progressive=progressive,
            show_progress=show_progress,
            multistart=multistart,
            n_starts=n_starts,
            global_search=global_search,
            sampler=sampler,
            center_on_p0=center_on_p0,
            scale_factor=scale_factor,
            stability=stability,
            rescale_data=rescale_data,
            max_jacobian_elements_for_svd=max_jacobian_elements_for_svd,
            auto_size_detection=auto_size_detection,
            size_threshold=size_threshold,
            **kwargs,
        )
    if xdata is None or ydata is None:
        raise TypeError("xdata and ydata are needed without chunks")
    if executor is not None or progressive or not preserve_chunks:
        raise TypeError("executor, progressive and preserve_chunks need chunks")

"""

FIT_IMPLEMENTATION = """
        if chunks is not None:
            from nlsq.streaming.stratified.curve_fit import fit_with_chunks

            options = {
                "multistart": self.multistart,
                "n_starts": self.n_starts,
                "sampler": self.sampler,
                "solver": solver,
                **kwargs,
            }
            return fit_with_chunks(
                f,
                xdata,
                ydata,
                chunks,
                p0=p0,
                bounds=bounds,
                method=method,
                memory_limit_gb=self.config.memory_limit_gb,
                preserve_chunks=preserve_chunks,
                executor=executor,
                progressive=progressive,
                show_progress=show_progress,
                **options,
            )
        if executor is not None or progressive or not preserve_chunks:
            raise TypeError("executor, progressive and preserve_chunks need chunks")
"""

CHANGES = """
### Added
- `curve_fit_large`, `LargeDatasetFitter.fit`, `fit_with_progress` and `fit_large_dataset` take
  `chunks=`, `preserve_chunks=`, `executor=` and `progressive=`: an exact fit by sums over chunks
  that are kept as the caller made them. `nlsq.Chunks` cuts the points, `ChunkReport` says how
  groups are spread.
"""


def edit(path: Path, *changes: tuple[str, str], start: str = "") -> None:
    """Replace the first occurrence of each text after `start`; fail where there is none."""
    head, found, text = path.read_text().partition(start) if start else ("", "", path.read_text())
    for old, new in changes:
        if old not in text:
            sys.exit(f"NLSQ {VERSION} has changed: {path.name} no longer holds\n{old}")
        text = text.replace(old, new, 1)
    path.write_text(head + found + text)


def after(anchor: str, addition: str) -> tuple[str, str]:
    """Put `addition` behind `anchor`."""
    return anchor, anchor + addition


def patch(tree: Path) -> None:
    """Let NLSQ's entry points take chunks."""
    entry = tree / "nlsq" / "__init__.py"
    edit(
        entry,
        (
            "\nfrom typing import TYPE_CHECKING",
            "\nfrom concurrent.futures import Executor\nfrom typing import TYPE_CHECKING",
        ),
        after(
            '"LDMemoryConfig": "nlsq.streaming.large_dataset",\n',
            f'    "ChunkReport": "{PACKAGE}",\n    "Chunks": "{PACKAGE}",\n',
        ),
        after('    "CallbackChain",\n    ', '"ChunkReport",\n    "Chunks",\n    '),
    )
    edit(
        entry,
        ("xdata: ArrayLike,", "xdata: ArrayLike | None = None,"),
        ("ydata: ArrayLike,", "ydata: ArrayLike | None = None,"),
        after("scale_factor: float = 1.0,", SIGNATURE.rstrip("\n")),
        after("Scale factor for exploration region. Default: 1.0.", DOCSTRING.rstrip("\n")),
        ("    # Input validation\n", CURVE_FIT_LARGE.lstrip("\n") + "    # Input validation\n"),
        start="def curve_fit_large(",
    )
    large = tree / "nlsq" / "streaming" / "large_dataset.py"
    arguments = "".join(f"    {line}\n" for line in SIGNATURE.strip("\n").splitlines())
    edit(
        large,
        after(
            "from collections.abc import Callable, Generator\n",
            "from concurrent.futures import Executor\n",
        ),
    )
    edit(
        large,
        (
            "from typing import TYPE_CHECKING, Literal",
            "from typing import TYPE_CHECKING, Any, Literal",
        ),
    )
    edit(
        large,
        ("        **kwargs,\n", arguments + "        **kwargs,\n"),
        after(
            '"""Internal implementation of fitting algorithm."""\n', FIT_IMPLEMENTATION.lstrip("\n")
        ),
        start="def _fit_implementation(",
    )
    edit(tree / "CHANGELOG.md", after("## [Unreleased]\n", CHANGES))


def add_modules(tree: Path) -> None:
    """Our modules under their new name, and our tests of them."""
    target = tree / "nlsq" / "streaming" / "stratified"
    target.mkdir()
    (target / "__init__.py").write_text(INIT)
    package = ROOT / "nlsq_stratified"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in LEFT_OUT:
            text = without_entry_point(path) if path.name == "curve_fit.py" else path.read_text()
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_text(text.replace("nlsq_stratified", PACKAGE))
    shutil.copytree(ROOT / "upstream" / "tests", tree / "tests", dirs_exist_ok=True)


def without_entry_point(path: Path) -> str:
    """`curve_fit.py` without `curve_fit_large`, which NLSQ's own function replaces."""
    text = path.read_text()
    lines: list[str | None] = list(text.splitlines(keepends=True))
    for node in ast.parse(text).body:
        # The definition and the import of NLSQ itself.
        name = ast.get_source_segment(text, node) or ""
        if name.startswith(("def curve_fit_large(", "import nlsq", "__all__")):
            assert node.end_lineno is not None
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    return "".join(line for line in lines if line is not None)


def build(folder: Path) -> Path:
    """Build the patched tree, in NLSQ's style, and write the difference."""
    original, tree = folder / "a", folder / "b"
    unpack_sdist(folder).rename(original)
    shutil.copytree(original, tree)
    patch(tree)
    add_modules(tree)
    added = ["nlsq/streaming/stratified", *our_tests()]
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--quiet", "--fix-only", *added], cwd=tree, check=True)
    subprocess.run([*ruff, "format", "--quiet", *added], cwd=tree, check=True)
    shutil.rmtree(tree / ".ruff_cache")
    difference = ["git", "diff", "--no-index", "--no-prefix"]
    text = subprocess.run([*difference, "a", "b"], cwd=folder, capture_output=True, text=True)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "upstream-pr.patch").write_text(text.stdout)
    subprocess.run([*difference, "--stat=100", "a", "b"], cwd=folder)
    subprocess.run([*ruff, "check", "--no-cache", *added], cwd=tree, check=True)
    return tree


def our_tests() -> list[str]:
    """What the pull request adds to NLSQ's tests."""
    folder = ROOT / "upstream"
    return [str(path.relative_to(folder)) for path in sorted(folder.glob("tests/**/test_*.py"))]


def main() -> int:
    """Build, show the failure mended, test."""
    with tempfile.TemporaryDirectory(prefix="upstream-pr-") as name:
        tree = build(Path(name))
        print(f"\nupstream/reproduce.py with the patched NLSQ {VERSION}:", flush=True)
        subprocess.run(
            [sys.executable, ROOT / "upstream" / "reproduce.py"],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            check=True,
        )
        files = sorted({*selected_tests(tree), *our_tests()})
        found = outcomes(tree, "tests in the patched tree:", [*files, *sys.argv[1:]], str(tree))
    print("".join(f"  failed: {name}\n" for name in found if found[name] == "failed"), end="")
    counts = Counter(found.values())
    print(", ".join(f"{counts[outcome]} {outcome}" for outcome in sorted(counts)))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
