"""``result.h5``: everything about a fit in one file that describes itself, and back again.

Every dataset has `units` and `long_name`, and dimension scales name its axes as netCDF-4 does, so
that xarray opens each group as a dataset. The groups ``parameters``, ``scaling``, ``curves`` and
``c2`` are for any reader; ``state`` holds what else it takes to restore the `FitResult` exactly.
The layout is documented in ``docs/results.md``; `FORMAT_VERSION` grows when it changes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.formats import hdf5
from homodyne_fit.data.formats.recognition import RESULT_FORMAT
from homodyne_fit.data.provenance import Provenance
from homodyne_fit.data.storage.stored_matrices import StoredMatrices
from homodyne_fit.errors import InputError, encodable, missing_file
from homodyne_fit.fitting.adequacy import NOT_JUDGED, Adequacy
from homodyne_fit.fitting.fitted_matrices import FittedMatrices
from homodyne_fit.fitting.goodness import Goodness
from homodyne_fit.fitting.result import Estimate, FitInfo, Uncertainty
from homodyne_fit.fitting.robust_loss import RobustLoss
from homodyne_fit.fitting.weak_directions import WeakDirection
from homodyne_fit.fitting.weighting import Weighting
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.posterior.draws import PosteriorSummary
from homodyne_fit.results.hdf5_fields import read_fields, write_fields
from homodyne_fit.results.names import RESULT
from homodyne_fit.results.record import FitRecord
from nlsq_stratified.processors import available_processors

__all__ = ["read_result", "write_result"]

FORMAT_VERSION = 5

# Before this version, a power law with a known constant part was searched in its own parameters.
CONSTANT_PART_KNOWN = 5


EXPECTED = f"a result is {RESULT}, or the folder of it"

# Rows and columns of a chunk of a matrix on the disk. Those below the diagonal are left out.
CHUNK_SIDE = 256

# Every HDF5 library has it.
COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}

# Columns of the parameters that are in the unit of each.
# As UDUNITS spells them.
UNITS_OF_RATES = {"J": "angstrom2 s-1", "gamma_dot": "s-1"}

IN_UNITS = ("value", "stderr", "lower", "upper")

ERROR_MEANING = "standard error; NaN where not free, infinite where not determined"

# What is read of a file: h5py's types say neither what is at a path nor what an array holds.
Node = Any

# A block of one of several matrices: the entries of an angle in some rows and columns.
type Block = Callable[[int, range, range], NDArray[np.floating]]

# Arrays that the result is restored from besides `space` and `objective`.
STATE = ("root", "undetermined", "coordinates", "coordinates_root", "coordinates_null")

# Likewise, which files did not always have.
SCALING_STATE = ("scaling_root", "scaling_null")


def write_result(path: Path, record: FitRecord) -> None:
    """Write ``result.h5``; it appears whole or not at all.

    It is made in memory: some file systems have no locks, and HDF5 does not survive a full disk.
    """
    with replacing(path) as temporary:
        with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
            _describe(file, record)
            _write_parameters(file.create_group("parameters"), record)
            _write_scaling(file.create_group("scaling"), record)
            _write_curves(file.create_group("curves"), record)
            _write_c2(file.create_group("c2"), record)
            _write_state(file.create_group("state"), record)
            file.flush()
            image = file.id.get_file_image()
        temporary.write_bytes(image)


def read_result(path: Path) -> FitRecord:
    """Read ``result.h5``, or that of a folder."""
    where = path / RESULT if path.is_dir() else path
    if not where.exists():
        raise InputError(f"{missing_file(where)}; {EXPECTED}")
    try:
        where.open("rb").close()  # what may not be read is no HDF5 file to h5py either
        if not h5py.is_hdf5(where):
            raise InputError(f"{where}: is no HDF5 file; {EXPECTED}")
        with hdf5.open_file(where) as file:
            _require_known_format(file, where)
            return _read_record(file, where)
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{where}: cannot be read as a result ({_in_one_line(error)})") from error


def _require_known_format(file: Node, path: Path) -> None:
    if file.attrs.get("format") != RESULT_FORMAT:
        raise InputError(f"{path}: is no result of homodyne_fit; a fit writes one as {RESULT}")
    if (version := int(file.attrs["format_version"])) > FORMAT_VERSION:
        raise InputError(
            f"{path}: has version {version} of the format, and this homodyne_fit reads up to "
            f"{FORMAT_VERSION}; update it"
        )


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).strip("'\"").split())


def _describe(file: h5py.File, record: FitRecord) -> None:
    file.attrs.update(
        {
            "format": RESULT_FORMAT,
            "format_version": FORMAT_VERSION,
            "title": f"Fit of the model {record.model.name} to two-time correlations",
            "source": encodable(record.provenance.source),
            "history": f"{record.provenance.created}: written by homodyne_fit "
            f"{record.provenance.versions['homodyne_fit']}",
        }
    )
    # Datasets rather than attributes, which may not exceed 64 kB.
    summary = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)
    config = yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True)
    _variable(file, "summary", encodable(summary), (), "", "contents of parameters.json, JSON")
    _variable(file, "config", encodable(config), (), "", "configuration of the fit, YAML")


def _write_parameters(group: h5py.Group, record: FitRecord) -> None:
    estimates = list(record.parameters.values())
    axis = _scale(group, "parameter", list(record.parameters), "", "name of the parameter")
    for name, values, meaning in (
        ("value", [e.value for e in estimates], "fitted value"),
        ("stderr", [e.stderr for e in estimates], ERROR_MEANING),
        ("unit", [e.unit for e in estimates], "unit of value, stderr, lower and upper"),
        ("at_bound", [e.at_bound for e in estimates], "whether the value is at a bound"),
        ("fixed", [e.fixed for e in estimates], "whether the value was held fixed"),
        ("lower", record.space.lower, "lower bound"),
        ("upper", record.space.upper, "upper bound"),
        ("meaning", [PARAMETERS[name].meaning for name in record.parameters], "in words"),
    ):
        _variable(group, name, values, (axis,), "see unit" if name in IN_UNITS else "", meaning)
    pair = [
        _scale(group, name, list(record.names), "", "parameter, contrast[k] or offset[k]")
        for name in ("quantity", "other_quantity")
    ]
    meaning = "covariance of parameters, contrasts and offsets; infinite where not determined"
    _variable(group, "covariance", record.covariance, pair, "products of the units", meaning)


def _write_scaling(group: h5py.Group, record: FitRecord) -> None:
    o = record.objective
    phi = _scale(group, "phi", o.phi, "degree", "azimuthal angle")
    _variable(group, "q", o.q, (phi,), "angstrom-1", "wave vector")
    for name, estimates in (("contrast", record.contrast), ("offset", record.offset)):
        for end, values, meaning in (
            ("", [e.value for e in estimates], name),
            ("_stderr", [e.stderr for e in estimates], ERROR_MEANING),
            ("_at_bound", [e.at_bound for e in estimates], f"whether {name} is at a bound"),
            ("_fixed", [e.fixed for e in estimates], f"whether {name} was held fixed"),
        ):
            _variable(group, name + end, values, (phi,), "1", meaning)


def _write_curves(group: h5py.Group, record: FitRecord) -> None:
    times = record.times
    axis = _scale(group, "t", times, "s", "time from the first frame")
    for rate in record.rates:
        (value, error), unit = rate.at(times), UNITS_OF_RATES[rate.key]
        _variable(group, rate.key, value, (axis,), unit, rate.name)
        meaning = f"standard error of {rate.key}"
        _variable(group, f"{rate.key}_stderr", error, (axis,), unit, meaning)


def _write_c2(group: h5py.Group, record: FitRecord) -> None:
    data = record.data
    n = data.n_frames
    axes = (
        _scale(group, "phi", data.phi, "degree", "azimuthal angle"),
        _scale(group, "t1", data.times, "s", "earlier time"),
        _scale(group, "t2", data.times, "s", "later time"),
    )
    if isinstance(data.c2, StoredMatrices):
        # Too large for the memory: no copies of them are made, measured or fitted.
        return
    fitted = FittedMatrices.of(record)
    kinds: list[tuple[str, np.dtype[Any], str, Block]] = [
        ("data", data.c2.dtype, "two-time correlation, measured", partial(_block, data.c2)),
        ("fit", np.dtype(np.float32), "two-time correlation, fitted", fitted.c2),
    ]
    if (sigma := data.sigma) is not None:
        meaning = "standard deviation of the noise, of which ratios count"
        kinds.append(("sigma", sigma.dtype, meaning, partial(_block, sigma)))
    side = min(n, CHUNK_SIDE)
    parts = [range(start, min(start + side, n)) for start in range(0, n, side)]
    places = [
        (k, rows, columns)
        for k in range(data.n_angles)
        for rows, columns in combinations_with_replacement(parts, 2)
    ]
    options: dict[str, Any] = {"chunks": (1, side, side), "fillvalue": np.nan, **COMPRESSION}
    with ThreadPoolExecutor(available_processors()) as threads:
        for name, dtype, meaning, block_at in kinds:
            dataset = group.create_dataset(name, data.c2.shape, dtype, **options)
            _label(dataset, axes, "1", f"{meaning}; NaN but for t1 < t2")
            stored = threads.map(partial(_stored, block_at, side, dtype), places)
            for (k, rows, columns), chunk in zip(places, stored, strict=True):
                dataset.id.write_direct_chunk((k, rows.start, columns.start), chunk)


def _block(
    matrices: NDArray[np.floating], angle: int, rows: range, columns: range
) -> NDArray[np.floating]:
    return matrices[angle, rows.start : rows.stop, columns.start : columns.stop]


def _stored(
    block_at: Block, side: int, dtype: np.dtype[Any], place: tuple[int, range, range]
) -> bytes:
    """A chunk as HDF5 stores it: the first bytes of all numbers, then the second, …, deflated.

    HDF5 itself would use one thread, and look for repetitions that noise does not have.
    """
    _, rows, columns = place
    chunk = np.full((side, side), np.nan, dtype)
    chunk[: len(rows), : len(columns)] = block_at(*place)
    chunk[np.tri(side, k=rows.start - columns.start, dtype=bool)] = np.nan
    shuffled = chunk.reshape(-1, 1).view(np.uint8).T.tobytes()
    compression = zlib.compressobj(COMPRESSION["compression_opts"], strategy=zlib.Z_RLE)
    return compression.compress(shuffled) + compression.flush()


def _write_state(group: h5py.Group, record: FitRecord) -> None:
    for name in ("space", "objective"):
        write_fields(group.create_group(name), getattr(record, name))
    for name in (*STATE, *SCALING_STATE):
        group[name] = getattr(record, name)
    for name in ("cost", "noise", "condition_number"):
        group.attrs[name] = getattr(record, name)
    _name_axes(group)


def _name_axes(group: h5py.Group) -> None:
    """Give all arrays of a group, at most 2-D, dimension scales: one for each length."""
    arrays: list[h5py.Dataset] = []

    def collect(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays.append(item)

    group.visititems(collect)
    for axis, kind in enumerate(("row", "column")):
        for length in sorted({array.shape[axis] for array in arrays if array.ndim > axis}):
            scale = _scale(group, f"{kind}_of_{length}", np.arange(length), "1", kind)
            for array in arrays:
                if array.ndim > axis and array.shape[axis] == length:
                    array.dims[axis].attach_scale(scale)


def _scale(group: h5py.Group, name: str, values: ArrayLike, unit: str, meaning: str) -> Any:
    """A coordinate: a dataset that names an axis of others."""
    dataset = _create(group, name, values)
    dataset.make_scale(name)
    dataset.attrs.update({"units": unit, "long_name": meaning})
    return dataset


def _variable(
    group: h5py.Group, name: str, values: ArrayLike, axes: Sequence[Any], unit: str, meaning: str
) -> None:
    _label(_create(group, name, values), axes, unit, meaning)


def _create(group: h5py.Group, name: str, values: ArrayLike) -> h5py.Dataset:
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return group.create_dataset(name, data=array.astype(object), dtype=h5py.string_dtype())
    if array.dtype.kind == "b":
        # netCDF knows no truth values; this is how xarray marks them.
        dataset = group.create_dataset(name, data=array.astype(np.int8))
        dataset.attrs["dtype"] = "bool"
        return dataset
    return group.create_dataset(name, data=array)


def _label(dataset: h5py.Dataset, axes: Sequence[Any], unit: str, meaning: str) -> None:
    for axis, scale in enumerate(axes):
        dataset.dims[axis].attach_scale(scale)
    dataset.attrs.update({"units": unit, "long_name": meaning})


def _read_record(file: Node, path: Path) -> FitRecord:
    summary = json.loads(file["summary"].asstr()[()])
    fit, weak, provenance = summary["fit"], summary["identifiability"], summary["provenance"]
    state, parameters, scaling = file["state"], file["parameters"], file["scaling"]
    space = read_fields(state["space"], SearchSpace)
    if "direct" in state["space"]:
        # Version 1 marked power laws by their first parameter, and searched all of such a one.
        laws = state["space"]["direct"][()].tolist()
        space = replace(space, limited=frozenset(k for law in laws for k in (law, law + 2)))
    if int(file.attrs["format_version"]) < CONSTANT_PART_KNOWN:
        laws = [law for law in space.power_laws if not np.isnan(space.fixed[law + 2])]
        space = replace(space, limited=space.limited.union(*({law, law + 2} for law in laws)))
    names, n_angles = _texts(parameters["parameter"]), fit["n_angles"]
    estimates = _estimates(parameters, "value", "", _texts(parameters["unit"]))
    return FitRecord(
        model=space.model,
        parameters=dict(zip(names, estimates, strict=True)),
        contrast=_estimates(scaling, "contrast", "contrast_"),
        offset=_estimates(scaling, "offset", "offset_"),
        names=tuple(_texts(parameters["quantity"])),
        **{name: state[name][()] for name in STATE},
        **_read_scaling_state(state, n_angles),
        cost=float(state.attrs["cost"]),
        noise=float(state.attrs["noise"]),
        uncertainty=_read_uncertainty(fit, len(parameters["quantity"])),
        adequacy=Adequacy.from_json(fit["adequacy"]) if "adequacy" in fit else NOT_JUDGED,
        goodness=_read_goodness(fit, n_angles),
        weighting=Weighting.from_json(fit["weighting"]) if fit.get("weighting") else None,
        robust=RobustLoss.from_json(fit["robust"]) if fit.get("robust") else None,
        condition_number=float(state.attrs["condition_number"]),
        space=space,
        objective=read_fields(state["objective"], TwoTimeObjective),
        n_points=fit["n_points"],
        info=FitInfo(**{f.name: fit[f.name] for f in fields(FitInfo) if f.name in fit}),
        weak_directions=[_read_direction(each, n_angles) for each in weak["weak_directions"]],
        weakest=weak["weakest"] and _read_direction(weak["weakest"], n_angles),
        read_data=partial(_read_data, path.absolute()),
        config=summary["config"],
        posterior=_read_posterior(summary),
        provenance=Provenance(
            **{**provenance, "notes": tuple(provenance["notes"])}, versions=summary["versions"]
        ),
    )


def _read_posterior(summary: dict[str, Any]) -> PosteriorSummary | None:
    stored = summary.get("posterior")
    return None if stored is None else PosteriorSummary.from_json(stored)


def _read_uncertainty(fit: dict[str, Any], n_names: int) -> Uncertainty:
    """What the errors are made of; before version 4 the points were taken to be independent."""
    if "uncertainty" not in fit:
        return Uncertainty("white", np.full(n_names, np.nan))
    return Uncertainty.from_json(fit["uncertainty"])


def _read_scaling_state(state: Node, n_angles: int) -> dict[str, np.ndarray]:
    """What the errors of contrast and offset have in common with those of the rates."""
    if SCALING_STATE[0] in state:
        return {name: state[name][()] for name in SCALING_STATE}
    columns = {"scaling_root": "coordinates_root", "scaling_null": "coordinates_null"}
    return {
        name: np.full((2 * n_angles, state[like].shape[1]), np.nan)
        for name, like in columns.items()
    }


def _read_goodness(fit: dict[str, Any], n_angles: int) -> Goodness:
    """Numbers of the quality of the fit; files did not always have them."""
    if "goodness" not in fit:
        return Goodness.unknown(n_angles)
    return Goodness.from_json(fit["goodness"])


def _read_direction(stored: dict[str, Any], n_angles: int) -> WeakDirection:
    """A direction from ``parameters.json``; before version 3 it had the means of contrast alone."""
    changes = dict(stored["changes"])
    contrast, offset = (
        stored.get(f"{kind}_changes", [changes[kind]] * n_angles) for kind in ("contrast", "offset")
    )
    del changes["contrast"], changes["offset"]
    rise = stored["delta_chi2"]
    return WeakDirection(
        stored["eigenvalue"],
        stored["direction"],
        changes,
        tuple(contrast),
        tuple(offset),
        np.inf if rise is None else rise,
    )


def _estimates(
    group: Node, name: str, prefix: str, units: Sequence[str] = ()
) -> tuple[Estimate, ...]:
    columns = (name, *(prefix + end for end in ("stderr", "at_bound", "fixed")))
    value, stderr, at_bound, fixed = (group[column][()] for column in columns)
    return tuple(
        Estimate(float(v), float(e), unit, bool(b), bool(f))
        for v, e, unit, b, f in zip(
            value, stderr, units or [""] * len(value), at_bound, fixed, strict=True
        )
    )


def _texts(dataset: Node) -> list[str]:
    return dataset.asstr()[()].tolist()


def _read_data(path: Path) -> TwoTimeData:
    """The data of a result, from its file; (t1, t2) is as fitted only where t1 < t2."""
    if not path.is_file():
        raise InputError(f"{path}: the result is not there any more, and its data were in it")
    with hdf5.open_file(path) as opened:
        file: Node = opened
        provenance = json.loads(file["summary"].asstr()[()])["provenance"]
        if "data" not in file.get("c2", {}):
            raise InputError(
                f"{path}: holds no matrices, since they were too large for the memory when they "
                f"were fitted; they are in {provenance['source']}, for hf.load"
            )
        return TwoTimeData(
            c2=file["c2/data"][()],
            phi=file["c2/phi"][()],
            q=file["scaling/q"][()],
            dt=float(file["state/objective"].attrs["dt"]),
            source=provenance["source"],
            sigma=file["c2/sigma"][()] if "sigma" in file["c2"] else None,
            notes=tuple(provenance["notes"]),
        )
