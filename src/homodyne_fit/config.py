"""The YAML configuration as typed objects.

The keys are those of homodyne and xpcsjax. Behind `load_config` nothing knows a key any more:
`Config.load_data` and `Config.settings` give the objects the fit works with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from homodyne_fit.errors import InputError, suggestion
from homodyne_fit.foreign_keys import is_foreign
from homodyne_fit.layers.settings import AntiDegeneracy
from homodyne_fit.multi_start import MultiStart
from homodyne_fit.parameters import ALIASES, PARAMETERS
from homodyne_fit.sections import Number, Positive, Section, Whole

__all__ = ["Config", "load_config", "parse_config"]

# A gap outside these, in Å, is a gap in another unit.
SENSIBLE_GAP = (1e3, 1e10)

SCALING = ("contrast", "offset")


def _parameter_name(name: Any) -> Any:
    known = ALIASES.get(str(name), str(name))
    if known not in PARAMETERS:
        near = suggestion(known, [*PARAMETERS, *ALIASES])
        raise ValueError(f"there is no parameter '{name}'{near}")
    return known


def _each_once(names: Any) -> Any:
    if isinstance(names, list | dict):
        known = [ALIASES.get(str(name), str(name)) for name in names]
        for name in known:
            if known.count(name) > 1:
                raise ValueError(f"{name} is given twice")
    return names


Name = Annotated[str, BeforeValidator(_parameter_name)]
Names = Annotated[list[Name], BeforeValidator(_each_once)]


class Scattering(Section):
    wavevector_q: Positive | None = None


class Geometry(Section):
    stator_rotor_gap: Positive | None = None

    @field_validator("stator_rotor_gap")
    @classmethod
    def _in_angstrom(cls, gap: float | None) -> float | None:
        if gap is not None and not SENSIBLE_GAP[0] <= gap <= SENSIBLE_GAP[1]:
            raise ValueError(f"a gap of {gap:g} Å is not plausible; is the unit Å (1 mm = 1e7 Å)?")
        return gap


class AnalyzerParameters(Section):
    dt: Positive | None = None
    dt_override: bool = False
    start_frame: Whole = 1
    end_frame: Whole = -1
    frame_step: Literal[1] = 1
    scattering: Scattering = Scattering()
    geometry: Geometry = Geometry()


def _frames_or_file(value: Any) -> Any:
    whole = isinstance(value, list) and all(type(item) is int for item in value)
    if value is not None and not whole and not isinstance(value, str):
        raise ValueError(
            "a list of frame numbers, counted from 1, or the name of a text file of them is "
            f"needed (got {value!r})"
        )
    return value


FrameList = Annotated[tuple[int, ...] | str, BeforeValidator(_frames_or_file)]


class ExperimentalData(Section):
    file_path: str | None = None
    data_folder_path: str | None = None
    data_file_name: str | None = None
    phi_angles: list[Number] | None = None
    mask_frames: FrameList | None = None

    @property
    def path(self) -> Path | None:
        """`file_path`, or the folder and the name; None where the file says neither."""
        if self.file_path is not None:
            return Path(self.file_path).expanduser()
        if self.data_file_name is None:
            return None
        return Path(self.data_folder_path or "").expanduser() / self.data_file_name


class InitialParameters(Section):
    parameter_names: Names | None = None
    values: Annotated[dict[Name, Number | None], BeforeValidator(_each_once)] | None = None
    active_parameters: Names | None = None
    fixed_parameters: Annotated[dict[Name, Number], BeforeValidator(_each_once)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _values_by_name(cls, given: Any) -> Any:
        """Turn a list of values into a mapping by `parameter_names`."""
        if not isinstance(given, dict) or not isinstance(given.get("values"), list):
            return given
        names, values = given.get("parameter_names"), given["values"]
        if not isinstance(names, list):
            raise ValueError("values is a list, so parameter_names must be one too")
        if len(values) != len(names):
            raise ValueError(f"values has {len(values)} entries for {len(names)} parameter_names")
        _each_once(names)
        return {**given, "values": dict(zip(map(str, names), values, strict=True))}

    @model_validator(mode="after")
    def _held_ones(self) -> InitialParameters:
        for name in self.fixed_parameters or {}:
            if name in SCALING:
                raise ValueError(
                    f"{name} cannot be held fixed; narrow its parameter_space.bounds instead"
                )
            if name in (self.active_parameters or []):
                raise ValueError(f"{name} is in active_parameters and in fixed_parameters")
        return self

    @property
    def start(self) -> dict[str, float]:
        """Start values that were given."""
        return {name: value for name, value in (self.values or {}).items() if value is not None}


class Bound(Section):
    name: Name
    min: Number
    max: Number

    @model_validator(mode="after")
    def _in_order(self) -> Bound:
        if not self.min < self.max:
            raise ValueError(f"the min of {self.name}, {self.min:g}, is not below {self.max:g}")
        return self


class ParameterSpace(Section):
    bounds: list[Bound] = Field(default_factory=list)

    @field_validator("bounds")
    @classmethod
    def _one_each(cls, bounds: list[Bound]) -> list[Bound]:
        _each_once([bound.name for bound in bounds])
        return bounds


class AngleRange(Section):
    min_angle: Number
    max_angle: Number


class PhiFiltering(Section):
    enabled: bool = True
    target_ranges: list[AngleRange] = Field(default_factory=list)


class Preprocessing(Section):
    phi_range: list[Number] | None = None

    @field_validator("phi_range")
    @classmethod
    def _from_and_to(cls, ends: list[float] | None) -> list[float] | None:
        if ends is not None and len(ends) != 2:
            raise ValueError(f"two angles are needed, [from, to], not {len(ends)}")
        return ends


class ModelOptions(Section):
    shear: Literal["documented", "homodyne"] = "documented"


class Nlsq(Section):
    per_angle_scaling: bool | None = None
    loss: Literal["linear"] = "linear"
    max_iterations: Annotated[Whole, Field(gt=0)] = 100
    standard_error_tolerance: Positive = 0.01
    threads: Annotated[Whole, Field(gt=0)] | None = None
    anti_degeneracy: AntiDegeneracy = AntiDegeneracy()
    multi_start: MultiStart = MultiStart()

    @field_validator("loss", mode="before")
    @classmethod
    def _available(cls, loss: Any) -> Any:
        if loss in ("soft_l1", "huber", "cauchy", "arctan"):
            raise ValueError(f"'{loss}' is not available yet; use 'linear'")
        return loss

    @property
    def per_angle_mode(self) -> str:
        """Scaling mode: the one named, or what `per_angle_scaling` stands for."""
        if self.per_angle_scaling is False and not self.anti_degeneracy.names_mode:
            return "averaged"
        return self.anti_degeneracy.per_angle_mode


class Optimization(Section):
    method: Literal["nlsq"] = "nlsq"
    nlsq: Nlsq = Nlsq()

    @field_validator("method", mode="before")
    @classmethod
    def _available(cls, method: Any) -> Any:
        if method in ("mcmc", "cmc", "both"):
            raise ValueError(f"'{method}' is not available yet; use 'nlsq'")
        return method


class Output(Section):
    directory: str | None = None


class Root(Section):
    analysis_mode: Literal["laminar_flow", "static", "static_isotropic", "static_anisotropic"] = (
        "laminar_flow"
    )
    analyzer_parameters: AnalyzerParameters = AnalyzerParameters()
    experimental_data: ExperimentalData = ExperimentalData()
    initial_parameters: InitialParameters = InitialParameters()
    parameter_space: ParameterSpace = ParameterSpace()
    phi_filtering: PhiFiltering = PhiFiltering()
    preprocessing: Preprocessing = Preprocessing()
    model: ModelOptions = ModelOptions()
    optimization: Optimization = Optimization()
    output: Output = Output()


@dataclass(frozen=True)
class Config:
    """A configuration file.

    Attributes
    ----------
    path : Path
    root : Root
        Its contents.
    foreign : tuple of str
        Dotted paths of keys that have a meaning in other programs only.
    """

    path: Path
    root: Root
    foreign: tuple[str, ...]

    @property
    def ignored(self) -> tuple[str, ...]:
        """Dotted paths of everything that has no effect."""
        return (*self.foreign, *_without_effect(self.root, self._model_parameters))

    @property
    def _model_parameters(self) -> tuple[str, ...]:
        from homodyne_fit.model import LAMINAR_FLOW, STATIC

        flow = self.root.analysis_mode == "laminar_flow"
        return (LAMINAR_FLOW if flow else STATIC).parameters

    @property
    def data_path(self) -> Path:
        """The data file: relative paths start at the configuration's folder, else here."""
        path = self.root.experimental_data.path
        if path is None:
            raise InputError(f"{self.path}: experimental_data.file_path is missing")
        return self._found(path)

    @property
    def masked_frames(self) -> tuple[int, ...]:
        """Frames to leave out, counted from 1: those listed, or those of the file named."""
        from homodyne_fit.loaders.frame_list import read_frame_list

        given = self.root.experimental_data.mask_frames
        if isinstance(given, str):
            return read_frame_list(self._found(Path(given).expanduser()))
        return given or ()

    def _found(self, path: Path) -> Path:
        beside = self.path.parent / path
        return beside if beside.exists() or not path.exists() else path

    def load_data(self) -> Any:
        """Read what the configuration selects, as a `homodyne_fit.dataset.TwoTimeData`."""
        from homodyne_fit.loaders import load

        analyzer, root = self.root.analyzer_parameters, self.root
        ranges = None
        if root.phi_filtering.enabled and root.phi_filtering.target_ranges:
            ranges = [(r.min_angle, r.max_angle) for r in root.phi_filtering.target_ranges]
        if root.preprocessing.phi_range is not None:
            if ranges is not None:
                raise InputError(
                    f"{self.path}: preprocessing.phi_range and phi_filtering.target_ranges "
                    "both select angles; keep one"
                )
            low, high = root.preprocessing.phi_range
            ranges = [(low, high)]
        return load(
            self.data_path,
            q=analyzer.scattering.wavevector_q,
            phi_ranges=ranges,
            frames=(analyzer.start_frame, analyzer.end_frame),
            dt=analyzer.dt,
            dt_override=analyzer.dt_override,
            phi=root.experimental_data.phi_angles,
            mask_frames=self.masked_frames,
        )

    def settings(self) -> Any:
        """Everything else, as `homodyne_fit.fit.FitSettings`."""
        from homodyne_fit.fit import FitSettings
        from homodyne_fit.model import LAMINAR_FLOW, STATIC

        root, nlsq = self.root, self.root.optimization.nlsq
        model = LAMINAR_FLOW if root.analysis_mode == "laminar_flow" else STATIC
        gap = root.analyzer_parameters.geometry.stator_rotor_gap
        if model.has_flow and gap is None:
            raise InputError(
                f"{self.path}: analyzer_parameters.geometry.stator_rotor_gap is missing: "
                "laminar_flow needs the gap, in Å"
            )

        def of_the_model(given: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in given.items() if name in model.parameters}

        start = of_the_model(root.initial_parameters.start)
        fixed = of_the_model(root.initial_parameters.fixed_parameters or {})
        active = root.initial_parameters.active_parameters
        if active is not None:
            for name in model.parameters:
                if name in active or name in fixed:
                    continue
                if name not in start:
                    raise InputError(
                        f"{self.path}: initial_parameters: {name} is not active, so it needs a "
                        "value"
                    )
                fixed[name] = start[name]
        settings = FitSettings(
            model=model,
            gap=gap,
            initial={name: value for name, value in start.items() if name not in fixed},
            fixed=fixed,
            bounds={
                bound.name: (bound.min, bound.max)
                for bound in root.parameter_space.bounds
                if bound.name in (*model.parameters, *SCALING)
            },
            anti_degeneracy=nlsq.anti_degeneracy.model_copy(
                update={"per_angle_mode": nlsq.per_angle_mode}
            ),
            multi_start=nlsq.multi_start,
            tolerance=nlsq.standard_error_tolerance,
            max_nfev=nlsq.max_iterations,
            shear=root.model.shear,
            threads=nlsq.threads,
        )
        for name, value in settings.initial.items():
            lower, upper = settings.limits(name)
            if not lower <= value <= upper:
                raise InputError(
                    f"{self.path}: initial_parameters: the start of {name}, {value:g}, is outside "
                    f"its bounds, {lower:g} to {upper:g}"
                )
        return settings

    def to_json(self) -> dict[str, Any]:
        """The configuration as it was understood, defaults included."""
        return self.root.model_dump(mode="json", by_alias=True)


def load_config(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises
    ------
    InputError
        If the file cannot be read or holds mistakes; see `parse_config`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: the configuration cannot be read ({error.strerror or error})"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: a configuration is a text file, and this is none; for a data file, "
            "'homodyne_fit init' writes one"
        ) from error
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """Validate the text of a configuration.

    Parameters
    ----------
    path : Path
        Where the text is from, or will be.

    Raises
    ------
    InputError
        If there are mistakes; the message has one line for each, with the dotted path of the
        key, the value and what is allowed.
    """
    try:
        raw = yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {_yaml_problem(error)}") from error
    if raw is None:
        raise InputError(
            f"{path}: the configuration is empty; 'homodyne_fit init' writes one from a data file"
        )
    if not isinstance(raw, dict):
        kind = "a list" if isinstance(raw, list) else "a single value"
        raise InputError(f"{path}: a configuration is a mapping, 'key: value', not {kind}")
    sorter = _KeySorter()
    cleaned = sorter.sort(raw, Root, "")
    problems = list(sorter.unknown)
    root = None
    try:
        root = Root.model_validate(cleaned)
    except ValidationError as error:
        problems += [_problem(detail) for detail in error.errors()]
    if root is None or problems:
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems))
    return Config(path, root, tuple(sorter.foreign))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice: a rule of YAML which PyYAML does not keep."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping and compare its keys."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return node


def _yaml_problem(error: Exception) -> str:
    """Line, column and problem in one line."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    began = error.context_mark
    context = f" ({error.context}, line {began.line + 1})" if error.context and began else ""
    advice = "; indent with spaces" if r"'\t'" in str(error.problem) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}{advice}"


class _KeySorter:
    """Separates the keys that are used from those that are foreign or misspelt."""

    def __init__(self) -> None:
        self.foreign: list[str] = []
        self.unknown: list[str] = []

    def sort(self, value: Any, model: type[BaseModel], section: str) -> Any:
        """Return `value` with the keys that `model` has, and empty sections as defaults."""
        if not isinstance(value, dict):
            return value
        kept, fields = (
            {},
            {field.alias or name: field for name, field in model.model_fields.items()},
        )
        for key, item in value.items():
            path = f"{section}.{key}" if section else str(key)
            if key in fields:
                inner, is_list = _section_of(fields[key].annotation)
                if inner is None:
                    kept[key] = item
                elif is_list and isinstance(item, list):
                    kept[key] = [self.sort(entry, inner, path) for entry in item]
                elif item is not None:
                    kept[key] = item if is_list else self.sort(item, inner, path)
            elif is_foreign(section, str(key)):
                if path not in self.foreign:
                    self.foreign.append(path)
            else:
                known = suggestion(str(key), fields)
                self.unknown.append(f"{path}: there is no such key{known}")
        return kept


def _section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section that a field is, or is a list of; and whether it is a list."""
    inner = getattr(annotation, "__args__", (annotation,))[0]
    is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
    return (inner, inner is not annotation) if is_section else (None, False)


# What a value should have been, by pydantic's name of the error.
NEEDED = {
    "missing": "this key is missing",
    "model_type": "a mapping of keys is needed",
    "model_attributes_type": "a mapping of keys is needed",
    "dict_type": "a mapping, 'name: value', is needed",
    "list_type": "a list is needed",
    "float_type": "a number is needed",
    "float_parsing": "a number is needed",
    "finite_number": "a finite number is needed",
    "int_type": "a whole number is needed",
    "int_parsing": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "bool_type": "true or false is needed",
    "bool_parsing": "true or false is needed",
    "string_type": "text is needed",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "at least one value is needed",
    "literal_error": "must be {expected}",
}


def _problem(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    known, value = NEEDED.get(detail["type"]), detail["input"]
    if known is None:  # an error raised here, which says what was given
        return f"{where}: {detail['msg'].removeprefix('Value error, ')}"
    given = "nothing" if value is None else repr(value)
    shown = "" if isinstance(value, dict | list) else f" (got {given})"
    return f"{where}: {known.format(**detail.get('ctx', {}))}{shown}"


def _without_effect(root: Root, model_parameters: Collection[str]) -> Iterator[str]:
    """Name what the model, or another key, leaves without effect."""
    data, initial, nlsq = root.experimental_data, root.initial_parameters, root.optimization.nlsq
    if data.file_path is not None:
        for key in ("data_folder_path", "data_file_name"):
            if getattr(data, key) is not None:
                yield f"experimental_data.{key}"
    if root.analysis_mode != "laminar_flow":
        if root.analyzer_parameters.geometry.stator_rotor_gap is not None:
            yield "analyzer_parameters.geometry.stator_rotor_gap"
        if root.model.shear != "documented":
            yield "model.shear"
    fixed = initial.fixed_parameters or {}
    for name in initial.start:
        if name not in model_parameters or name in fixed:
            yield f"initial_parameters.values.{name}"
    for name in fixed:
        if name not in model_parameters:
            yield f"initial_parameters.fixed_parameters.{name}"
    for name in initial.active_parameters or ():
        if name not in (*model_parameters, *SCALING):
            yield f"initial_parameters.active_parameters.{name}"
    for bound in root.parameter_space.bounds:
        if bound.name not in (*model_parameters, *SCALING):
            yield f"parameter_space.bounds.{bound.name}"
    if nlsq.per_angle_scaling is not None and nlsq.anti_degeneracy.names_mode:
        yield "optimization.nlsq.per_angle_scaling"
