"""The YAML configuration as typed objects.

The keys are those of homodyne and xpcsjax. Behind `load_config` nothing knows a key any more:
`Config.load_data` and `Config.settings` give the objects the fit works with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from homodyne_fit.errors import InputError, suggestion
from homodyne_fit.foreign_keys import is_foreign

__all__ = ["Config", "load_config"]

# A gap outside these, in Å, is a gap in another unit.
SENSIBLE_GAP = (1e3, 1e10)


def _no_bool(value: Any) -> Any:
    # True is the number 1 to Python, and a mistake in a configuration.
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Frame = Annotated[int, BeforeValidator(_no_bool)]


class Section(BaseModel):
    """A mapping of the file; unknown keys are sorted out before validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    start_frame: Frame = 1
    end_frame: Frame = -1
    scattering: Scattering = Scattering()
    geometry: Geometry = Geometry()


class ExperimentalData(Section):
    file_path: str | None = None
    data_folder_path: str | None = None
    data_file_name: str | None = None
    phi_angles: list[Number] | None = None

    @property
    def path(self) -> Path | None:
        """`file_path`, or the folder and the name; None where the file says neither."""
        if self.file_path is not None:
            return Path(self.file_path)
        if self.data_file_name is None:
            return None
        return Path(self.data_folder_path or "") / self.data_file_name


class InitialParameters(Section):
    parameter_names: list[str] | None = None
    values: list[Number | None] | dict[str, Number | None] | None = None
    active_parameters: list[str] | None = None
    fixed_parameters: dict[str, Number] | None = None

    @model_validator(mode="after")
    def _names_and_values(self) -> InitialParameters:
        if isinstance(self.values, list) and len(self.values) != len(self.parameter_names or []):
            raise ValueError(
                f"values has {len(self.values)} entries for "
                f"{len(self.parameter_names or [])} parameter_names"
            )
        return self

    @property
    def start(self) -> dict[str, float]:
        """Start values that were given."""
        given = self.values or {}
        if isinstance(given, list):
            given = dict(zip(self.parameter_names or [], given, strict=True))
        return {name: value for name, value in given.items() if value is not None}


class Bound(Section):
    name: str
    min: Number
    max: Number


class ParameterSpace(Section):
    bounds: list[Bound] = []


class AngleRange(Section):
    min_angle: Number
    max_angle: Number


class PhiFiltering(Section):
    enabled: bool = True
    target_ranges: list[AngleRange] = []


class Preprocessing(Section):
    phi_range: tuple[Number, Number] | None = None


class ModelOptions(Section):
    shear: Literal["documented", "homodyne"] = "documented"


class AntiDegeneracy(Section):
    per_angle_mode: Literal["individual", "averaged"] | None = None

    @field_validator("per_angle_mode", mode="before")
    @classmethod
    def _available(cls, mode: Any) -> Any:
        if mode in ("auto", "constant", "fourier", "hierarchical"):
            raise ValueError(f"'{mode}' is not available yet; use 'individual' or 'averaged'")
        return mode


class MultiStart(Section):
    enable: bool = True


class Nlsq(Section):
    per_angle_scaling: bool | None = None
    loss: Literal["linear"] = "linear"
    max_iterations: Annotated[int, Field(gt=0)] = 100
    standard_error_tolerance: Positive = 1e-4
    threads: Annotated[int, Field(gt=0)] | None = None
    anti_degeneracy: AntiDegeneracy = AntiDegeneracy()
    multi_start: MultiStart = MultiStart()

    @field_validator("loss", mode="before")
    @classmethod
    def _available(cls, loss: Any) -> Any:
        if loss in ("soft_l1", "huber", "cauchy", "arctan"):
            raise ValueError(f"the loss '{loss}' is not available yet; use 'linear'")
        return loss

    @property
    def per_angle_mode(self) -> str:
        """Scaling mode: the one named, or what `per_angle_scaling` stands for."""
        named = self.anti_degeneracy.per_angle_mode
        return named or ("averaged" if self.per_angle_scaling is False else "individual")


class Optimization(Section):
    method: Literal["nlsq"] = "nlsq"
    nlsq: Nlsq = Nlsq()


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
    ignored : tuple of str
        Dotted paths of the keys that have no effect.
    """

    path: Path
    root: Root
    ignored: tuple[str, ...]

    @property
    def data_path(self) -> Path:
        """The data file: relative paths start at the configuration's folder, else here."""
        path = self.root.experimental_data.path
        if path is None:
            raise InputError(f"{self.path}: experimental_data.file_path is missing")
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
            ranges = [root.preprocessing.phi_range]
        return load(
            self.data_path,
            q=analyzer.scattering.wavevector_q,
            phi_ranges=ranges,
            frames=(analyzer.start_frame, analyzer.end_frame),
            dt=analyzer.dt,
            dt_override=analyzer.dt_override,
            phi=root.experimental_data.phi_angles,
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
        initial = root.initial_parameters.start
        fixed = dict(root.initial_parameters.fixed_parameters or {})
        active = root.initial_parameters.active_parameters
        if active is not None:
            for name in active:
                if name not in model.parameters:
                    raise InputError(
                        f"{self.path}: initial_parameters.active_parameters: no parameter "
                        f"'{name}'{suggestion(name, model.parameters)}"
                    )
            for name in set(model.parameters) - set(active) - fixed.keys():
                if name not in initial:
                    raise InputError(
                        f"{self.path}: initial_parameters: {name} is not active, so it needs a "
                        "value"
                    )
                fixed[name] = initial[name]
        return FitSettings(
            model=model,
            gap=gap,
            initial={name: value for name, value in initial.items() if name not in fixed},
            fixed=fixed,
            bounds={b.name: (b.min, b.max) for b in root.parameter_space.bounds},
            per_angle_mode=nlsq.per_angle_mode,
            multi_start=nlsq.multi_start.enable,
            tolerance=nlsq.standard_error_tolerance,
            max_nfev=nlsq.max_iterations,
            shear=root.model.shear,
            threads=nlsq.threads,
        )

    def to_json(self) -> dict[str, Any]:
        """The configuration as it was understood, defaults included."""
        return self.root.model_dump(mode="json")


def load_config(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises
    ------
    InputError
        If the file cannot be read or holds mistakes; the message has one line for each, with
        the dotted path of the key, the value and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the configuration cannot be read ({_reason(error)})") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{path}: not valid YAML: {problem}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path}: a configuration is a mapping of keys, not {type(raw).__name__}")
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
    return Config(path, root, tuple(sorter.ignored))


class _KeySorter:
    """Separates the keys that are used from those that are foreign or misspelt."""

    def __init__(self) -> None:
        self.ignored: list[str] = []
        self.unknown: list[str] = []

    def sort(self, value: Any, model: type[BaseModel], section: str) -> Any:
        """Return `value` with the keys that `model` has, and empty sections as defaults."""
        if isinstance(value, list):
            return [self.sort(item, model, section) for item in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for key, item in value.items():
            path = f"{section}.{key}" if section else str(key)
            if key in model.model_fields:
                inner = _section_of(model.model_fields[key].annotation)
                if inner is None:
                    kept[key] = item
                elif item is not None:
                    kept[key] = self.sort(item, inner, path)
            elif is_foreign(section, str(key)):
                if path not in self.ignored:
                    self.ignored.append(path)
            else:
                known = suggestion(str(key), model.model_fields)
                self.unknown.append(f"{path}: there is no such key{known}")
        return kept


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field is, or is a list of."""
    inner = getattr(annotation, "__args__", (annotation,))[0]
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _problem(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    given = "" if isinstance(detail["input"], dict | list) else f" (got {detail['input']!r})"
    return f"{where}: {message[0].lower()}{message[1:]}{given}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
