"""The folder of a result: when it may be written, and how its files appear in it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne_fit.atomic import replacing, require_writable
from homodyne_fit.errors import InputError, did_you_mean, encodable, rename_places, suggestion
from homodyne_fit.report.figure_files import FORMATS, FigureFiles
from homodyne_fit.results.names import (
    ANGLES_CSV,
    EXPORTS,
    OUTPUTS,
    PARAMETERS_CSV,
    PARAMETERS_JSON,
    PLOTS,
    POSTERIOR,
    POSTERIOR_DRAWS,
    POSTERIOR_PAGE,
    REPORT,
    RESULT,
    UNFINISHED,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from homodyne_fit.data.dataset import TwoTimeData
    from homodyne_fit.posterior.draws import Posterior
    from homodyne_fit.results.record import FitRecord

__all__ = [
    "figures",
    "make_folder",
    "prepare_folder",
    "require_exportable",
    "require_no_results",
    "require_room",
    "save_figure",
    "write_outputs",
    "with_encodable_source",
    "write_plots",
]

PLOT_DPI = 150


def require_no_results(folder: Path, permission: str = "--overwrite") -> None:
    """Raise an `InputError` if the folder holds results of an earlier fit.

    Parameters
    ----------
    permission : str
        What the user can give so that they are replaced.
    """
    if next(_earlier(folder), None) is not None:
        raise InputError(f"{folder}: holds results already; give {permission} to replace them")


def require_room(folder: Path, *, overwrite: bool) -> None:
    """Raise an `InputError` if results cannot go there; nothing is made.

    If the folder holds results that must not be overwritten, or could not be made or written.
    """
    if not overwrite:
        require_no_results(folder)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"{nearest}: results need a folder, and this is a file")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"{folder}: cannot be written (no permission in {nearest})")


def prepare_folder(
    folder: Path,
    *,
    overwrite: bool,
    exports: Collection[str] = (),
    plots: bool = False,
    permission: str = "--overwrite",
) -> None:
    """Make the folder, and be sure before the fit that results can be written into it.

    Parameters
    ----------
    permission : str
        As in `require_no_results`.
    """
    for name in exports:
        if name not in EXPORTS:
            near = did_you_mean(suggestion(name, EXPORTS))
            raise InputError(f"there is no export '{name}'{near}; there are: {', '.join(EXPORTS)}")
    if not overwrite:
        require_no_results(folder, permission)
    for path in (folder, *([folder / PLOTS] if plots else [])):
        make_folder(path)
    for name in (*OUTPUTS, *(EXPORTS[name] for name in exports)):
        require_writable(folder / name)


def require_exportable(data: TwoTimeData, exports: Collection[str]) -> None:
    """Raise an `InputError` if a file is asked for that needs more than the memory allowed."""
    from homodyne_fit.data.storage.stored_matrices import StoredMatrices

    if "homodyne" in exports and isinstance(data.c2, StoredMatrices):
        raise InputError(
            f"{data.source}: the export for homodyne holds all matrices several times in memory, "
            "and these stay on the disk for want of it; allow more memory, or leave it out"
        )


def write_outputs(
    record: FitRecord,
    folder: Path,
    *,
    exports: Collection[str] = (),
    plots: FigureFiles | None = None,
    posterior: Posterior | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Write all files of a result into a folder that is prepared; return their names.

    The numbers come first. They replace those of an earlier fit together; then whatever else that
    fit left there is deleted, and the rest is drawn: files of two fits side by side would be taken
    for one.

    Parameters
    ----------
    plots : FigureFiles, optional
        How each figure is written as a file of its own, too; none is without it.
    on_stage : callable
        Called with what is done next, in words.
    """
    on_stage("writing the numbers")
    earlier = set(_earlier(folder))
    names = _write_numbers(record, folder, exports, posterior, on_stage)
    for path in earlier - {folder / name for name in names}:
        path.unlink()
    if plots is not None:
        on_stage("drawing the figures")
        write_plots(record, folder / PLOTS, plots)
    elif _is_empty(folder / PLOTS):
        (folder / PLOTS).rmdir()
    on_stage("drawing the report")
    # Imported late: the numbers must not wait.
    from homodyne_fit.report.html import write_report

    data = with_encodable_source(record.data)
    write_report(folder / REPORT, data, record, record.config, record.provenance, record.posterior)
    further = [name for name in names if name not in OUTPUTS]
    if posterior is not None:
        from homodyne_fit.report.posterior_page import write_posterior_page

        write_posterior_page(folder / POSTERIOR_PAGE, posterior, record, data.source)
        further.append(POSTERIOR_PAGE)
    return [*OUTPUTS, *further, *([f"{PLOTS}/"] if plots is not None else [])]


def with_encodable_source(data: TwoTimeData) -> TwoTimeData:
    """The same data, with escapes for bytes in their source that are no text."""
    source = encodable(data.source)
    return data if source == data.source else replace(data, source=source)


def _write_numbers(
    record: FitRecord,
    folder: Path,
    exports: Collection[str],
    posterior: Posterior | None,
    on_stage: Callable[[str], None],
) -> list[str]:
    """Write all files but the drawn ones; return their names.

    Where an earlier fit left some, they replace them together. In a new folder, the small ones stay
    if a large one cannot be written.
    """
    from homodyne_fit.results.exports import write_angles, write_csv, write_homodyne
    from homodyne_fit.results.result_file import write_result

    small: dict[str, Writer] = {
        PARAMETERS_JSON: _write_json,
        PARAMETERS_CSV: write_csv,
        ANGLES_CSV: write_angles,
    }
    large: dict[str, Writer] = {
        RESULT: write_result,
        **({EXPORTS["homodyne"]: write_homodyne} if "homodyne" in exports else {}),
    }
    if posterior is not None:
        from homodyne_fit.results.posterior_files import write_draws, write_inference_data

        large[POSTERIOR] = lambda path, _: write_inference_data(path, posterior)
        large[POSTERIOR_DRAWS] = lambda path, _: write_draws(path, posterior)
    if next(_earlier(folder), None) is not None:
        _write_together(record, folder, small | large)
        return [*small, *large]
    _write_together(record, folder, small)
    on_stage(f"writing {RESULT}")
    try:
        _write_together(record, folder, large)
    except (InputError, OSError, MemoryError) as error:
        problem = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        text = problem if isinstance(error, InputError) else f"{folder / RESULT}: {problem}"
        kept = (
            f"{PARAMETERS_JSON}, {PARAMETERS_CSV} and {ANGLES_CSV} are written, the report is not"
        )
        raise InputError(f"{text}; {kept}") from error
    return [*small, *large]


type Writer = Callable[[Path, FitRecord], None]


def _write_together(record: FitRecord, folder: Path, writers: Mapping[str, Writer]) -> None:
    """Write files, all or none."""
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as new:
        with rename_places({str(Path(new, name)): str(folder / name) for name in writers}):
            for name, write in writers.items():
                write(Path(new, name), record)
        for name in writers:
            Path(new, name).replace(folder / name)


def _write_json(path: Path, record: FitRecord) -> None:
    text = json.dumps(record.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(encodable(text) + "\n", encoding="utf-8")


def write_plots(record: FitRecord, folder: Path, files: FigureFiles | None = None) -> list[Path]:
    """Write every figure into a folder, which is made if need be; return the files."""
    from homodyne_fit.report.style import figure_style, plain_style

    files = files or FigureFiles()
    make_folder(folder)
    with plain_style(), figure_style(files.style):
        return [
            save_figure(figure, folder / f"{name}.{end}", files.dpi)
            for name, figure in figures(record)
            for end in files.formats
        ]


def save_figure(figure: Figure, path: Path, dpi: int = PLOT_DPI) -> Path:
    """Write a figure in the format that the name of the file ends with; return the file."""
    kind = path.suffix.removeprefix(".").lower()
    # Without the time, files of equal figures are equal.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata[kind])
    return path


def figures(record: FitRecord) -> Iterator[tuple[str, Figure]]:
    """Every figure of a result, with the name of its file; the angles share their scales."""
    from homodyne_fit.report import figures as draw
    from homodyne_fit.report.views import angle_views

    yield "rates", draw.plot_rates(record, record.times)
    if record.model.has_flow:
        yield "strain", draw.plot_strain(record)
    yield "scaling", draw.plot_scaling(record)
    yield "correlation", draw.plot_correlation(record)
    views = list(angle_views(record.data, record))
    colors, limits = draw.color_range_of(views), draw.cut_limits_of(views)
    for k, view in enumerate(views):
        yield f"angle_{k:03d}_two_time", draw.plot_two_time(view, colors)
        yield f"angle_{k:03d}_lag_cuts", draw.plot_lag_cuts(view, limits)
        yield f"angle_{k:03d}_residuals", draw.plot_residuals(view)


def _earlier(folder: Path) -> Iterator[Path]:
    """Files of a result that are there."""
    names = (*OUTPUTS, *EXPORTS.values(), POSTERIOR, POSTERIOR_DRAWS, POSTERIOR_PAGE)
    yield from (path for path in (folder / name for name in names) if path.exists())
    of_angles = (f"angle_*_{name}" for name in ("two_time", "lag_cuts", "residuals"))
    for name in ("rates", "strain", "scaling", "correlation", *of_angles):
        for end in FORMATS:
            yield from (folder / PLOTS).glob(f"{name}.{end}")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None


def make_folder(folder: Path) -> None:
    """Make a folder where there is none; an `InputError` says why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{folder}: results need a folder, and this is a file") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error})") from error
