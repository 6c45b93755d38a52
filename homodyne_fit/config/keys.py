"""The keys of a configuration: sections, types, defaults and meanings.

The names are those of homodyne and xpcsjax. `json_schema` makes the schema for editors from these
classes, descriptions included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from homodyne_fit.errors import did_you_mean, suggestion
from homodyne_fit.fitting.options import Constant, SearchOptions, ShearForm
from homodyne_fit.model.parameters import ALIASES, PARAMETERS
from homodyne_fit.posterior.settings import SamplingOptions
from homodyne_fit.validation import Number, Positive, Section, Whole

__all__ = [
    "FLOW",
    "KEYS",
    "InitialParameters",
    "Nlsq",
    "Root",
    "Name",
    "Names",
    "each_once",
    "values_schema",
]


# The analysis mode with a shear rate.
FLOW = "laminar_flow"

# Dotted paths for arguments of `homodyne_fit.data.selection.select` and fields of `FitSettings`.
KEYS = {
    "q": "analyzer_parameters.scattering.wavevector_q",
    "dt": "analyzer_parameters.dt",
    "frames": "analyzer_parameters.start_frame, end_frame",
    "phi": "experimental_data.phi_angles",
    "mask_frames": "experimental_data.mask_frames",
    "phi_ranges": "phi_filtering.target_ranges",
    "gap": "analyzer_parameters.geometry.stator_rotor_gap",
    "initial": "initial_parameters.values",
    "fixed": "initial_parameters.fixed_parameters",
    "bounds": "parameter_space.bounds",
    "anti_degeneracy": "optimization.nlsq.anti_degeneracy",
    "search": "optimization.nlsq",
}

Question = Literal["stator_rotor_gap", "wavevector_q", "dt", "phi"]


class Scattering(Section):
    """The wave vector."""

    wavevector_q: Positive | None = Field(
        default=None,
        description="Wave vector, Å⁻¹ (not nm⁻¹); the nearest one in the file is used, within "
        "half a bin. Not needed if the file has only one.",
    )


class Geometry(Section):
    """The shear cell."""

    stator_rotor_gap: Positive | None = Field(
        default=None,
        description="Width of the sheared gap, Å (1 mm is 1e7 Å). Needed by laminar_flow.",
    )


class AnalyzerParameters(Section):
    """Time, frames, wave vector and gap."""

    dt: Positive | None = Field(
        default=None,
        description="Time between two frames, s. Not needed if it is in the file; it must agree.",
    )
    dt_override: bool = Field(
        default=False, description="Use `dt` even if the file has another value."
    )
    start_frame: Whole = Field(default=1, description="First frame, counted from 1.")
    end_frame: Whole = Field(
        default=-1, description="Last frame, counted from 1, included; -1: the last."
    )
    frame_step: Literal[1] = Field(
        default=1, description="1, the only choice: every frame is used."
    )
    units_confirmed: list[Question] = Field(
        default_factory=list,
        description="Quantities that have the right unit although their values look like another "
        "unit; no question is asked about them.",
    )
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


def _parameter_name(name: Any) -> Any:
    known = ALIASES.get(str(name), str(name))
    if known not in PARAMETERS:
        near = did_you_mean(suggestion(known, [*PARAMETERS, *ALIASES]))
        near = near or f"; there are {', '.join(PARAMETERS)}"
        raise ValueError(f"there is no parameter '{name}'{near}")
    return known


Name = Annotated[
    str,
    BeforeValidator(_parameter_name),
    WithJsonSchema({"type": "string", "enum": [*PARAMETERS, *ALIASES]}),
]


class ExperimentalData(Section):
    """The two-time file."""

    file_path: str | None = Field(
        default=None,
        description="Two-time file; a relative path starts at the folder of the configuration or, "
        "if there is no such file, at the working directory.",
    )
    data_folder_path: str | None = Field(
        default=None, description="Folder of `data_file_name`, if there is no `file_path`."
    )
    data_file_name: str | None = Field(
        default=None, description="Name of the two-time file, if there is no `file_path`."
    )
    phi_angles: list[Number] | None = Field(
        default=None, description="Angle φ of each matrix, degrees, if the file has none."
    )
    mask_frames: FrameList | None = Field(
        default=None,
        description="Frames to leave out, counted from 1: a list, or a text file of numbers.",
    )

    @property
    def path(self) -> Path | None:
        """`file_path`, or the folder and the name; None without both."""
        if self.file_path is not None:
            return Path(self.file_path).expanduser()
        if self.data_file_name is None:
            return None
        return Path(self.data_folder_path or "").expanduser() / self.data_file_name


def each_once(names: Any) -> Any:
    """Check that no parameter is in a list or mapping twice, not even under two names."""
    if isinstance(names, list | dict):
        known = [ALIASES.get(str(name), str(name)) for name in names]
        for name in known:
            if known.count(name) > 1:
                raise ValueError(f"{name} is given twice")
    return names


Names = Annotated[list[Name], BeforeValidator(each_once)]


def values_schema(*types: str, listed: bool = False) -> dict[str, Any]:
    """JSON Schema of ``name: value``, with meaning and unit of each parameter.

    Parameters
    ----------
    types : str
        JSON types of a value.
    listed : bool
        Whether a list of values is allowed, too.
    """
    value = {"type": list(types)}
    described = {
        name: {**value, "description": f"{each.meaning}, {each.unit}".removesuffix(", ")}
        for name, each in PARAMETERS.items()
    }
    described |= {alias: described[name] for alias, name in ALIASES.items()}
    forms: list[dict[str, Any]] = [
        {"type": "object", "properties": described, "additionalProperties": False}
    ]
    if listed:
        forms.append({"type": "array", "items": value})
    return {"anyOf": [*forms, {"type": "null"}]}


class InitialParameters(Section):
    """Start values, and parameters that are held."""

    parameter_names: Names | None = Field(
        default=None, description="Names for a list of `values`, in its order."
    )
    values: Annotated[
        Annotated[dict[Name, Number | None], BeforeValidator(each_once)] | None,
        WithJsonSchema(values_schema("number", "null", listed=True)),
    ] = Field(
        default=None,
        description="Start values, `name: value`, or a list in the order of `parameter_names`; "
        "a missing value, or null, is taken from the data.",
    )
    per_angle_scaling: Constant = Constant()
    active_parameters: Names | None = Field(
        default=None,
        description="Parameters to fit; the others are held at their `values`. null: all.",
    )
    fixed_parameters: Annotated[
        Annotated[dict[Name, Number], BeforeValidator(each_once)] | None,
        WithJsonSchema(values_schema("number")),
    ] = Field(default=None, description="Parameters that are held, `name: value`.")

    @model_validator(mode="before")
    @classmethod
    def _values_by_name(cls, section: Any) -> Any:
        """Turn a list of values into a mapping by `parameter_names`."""
        if not isinstance(section, dict) or not isinstance(section.get("values"), list):
            return section
        names, values = section.get("parameter_names"), section["values"]
        if not isinstance(names, list):
            raise ValueError("values is a list, so parameter_names must be one too")
        if len(values) != len(names):
            raise ValueError(f"values has {len(values)} entries for {len(names)} parameter_names")
        each_once(names)
        return {**section, "values": dict(zip(map(str, names), values, strict=True))}

    @model_validator(mode="after")
    def _not_held_and_fitted(self) -> InitialParameters:
        for name in self.fixed_parameters or {}:
            if name in (self.active_parameters or []):
                raise ValueError(f"{name} is in active_parameters and in fixed_parameters")
        return self

    @property
    def start(self) -> dict[str, float]:
        """Start values in the configuration."""
        return {name: value for name, value in (self.values or {}).items() if value is not None}

    @property
    def fixed(self) -> dict[str, float]:
        return self.fixed_parameters or {}


class Bound(Section):
    """Limits of one parameter."""

    name: Name = Field(description="Parameter.")
    min: Number = Field(description="Lower bound, in the unit of the parameter.")
    max: Number = Field(description="Upper bound, in the unit of the parameter.")
    type: str | None = Field(
        default=None,
        description="Prior between the bounds, for the posterior: Uniform, Normal, "
        "TruncatedNormal, LogNormal or BetaScaled; TruncatedNormal where only prior_mu and "
        "prior_sigma are given.",
    )
    prior_mu: Number | None = Field(
        default=None, description="Mean of the prior; of the logarithm for LogNormal."
    )
    prior_sigma: Number | None = Field(
        default=None, description="Standard deviation of the prior, likewise."
    )


class ParameterSpace(Section):
    """Limits of the parameters."""

    bounds: list[Bound] = Field(
        default_factory=list,
        description="Bounds in place of the defaults: for D0, D_offset (Å²/s), gamma_dot_t0 and "
        "gamma_dot_t_offset (1/s) what q, dt, the number of frames and the gap allow to resolve, "
        "with a decade to spare, as `homodyne_fit check` shows; alpha and beta -2 to 2, phi0 -10 "
        "to 10°, contrast 0 to 1, offset 0.5 to 1.5.",
    )

    @field_validator("bounds")
    @classmethod
    def _one_each(cls, bounds: list[Bound]) -> list[Bound]:
        each_once([bound.name for bound in bounds])
        return bounds


class AngleRange(Section):
    """A range of angles, ends included, modulo 360°."""

    min_angle: Number = Field(description="First angle, degrees.")
    max_angle: Number = Field(description="Last angle, degrees, counted upwards from the first.")


class PhiFiltering(Section):
    """Which angles are used."""

    enabled: bool = Field(default=True, description="false: use all angles, and ignore the ranges.")
    target_ranges: list[AngleRange] = Field(
        default_factory=list, description="Ranges of angles to use; none: all angles."
    )


class Preprocessing(Section):
    """Short form of `phi_filtering`."""

    phi_range: list[Number] | None = Field(
        default=None, description="Range of angles to use, [from, to], degrees, modulo 360°."
    )

    @field_validator("phi_range", mode="before")
    @classmethod
    def _from_and_to(cls, ends: Any) -> Any:
        if ends is not None and not (isinstance(ends, list) and len(ends) == 2):
            raise ValueError(f"two angles are needed, as [-10, 10] (got {ends!r})")
        return ends


class ModelOptions(Section):
    """Form of the model."""

    shear: ShearForm = Field(
        default="documented",
        description="Shear term: sinc²(½ q h cos·ΔΓ), or the term of homodyne ≤ 2.23 and xpcsjax "
        "0.1.8, to compare with their results.",
    )


class Nlsq(SearchOptions):
    """The fit."""

    per_angle_scaling: bool | None = Field(
        default=None,
        description="false: one contrast and one offset for all angles. Better use the "
        "per_angle_mode `averaged`.",
    )

    @property
    def per_angle_mode(self) -> str:
        """The mode in `anti_degeneracy`, or the one that follows from `per_angle_scaling`."""
        if self.per_angle_scaling is False and not self.anti_degeneracy.names_mode:
            return "averaged"
        return self.anti_degeneracy.per_angle_mode


class Optimization(Section):
    """How the parameters are found."""

    method: Literal["nlsq", "mcmc", "cmc", "both"] = Field(
        default="nlsq",
        description="nlsq: least squares; mcmc: the posterior, too. cmc and both are other names "
        "of mcmc.",
    )
    nlsq: Nlsq = Nlsq()
    mcmc: SamplingOptions = SamplingOptions()

    @property
    def samples(self) -> bool:
        """Whether the posterior is sampled."""
        return self.method != "nlsq"


class Output(Section):
    """The folder of the results."""

    directory: str | None = Field(
        default=None,
        description="Folder of the results, relative to the working directory; by default "
        "`<configuration>_results` beside the configuration.",
    )


class Root(Section):
    """All sections."""

    analysis_mode: Literal["laminar_flow", "static", "static_isotropic", "static_anisotropic"] = (
        Field(
            default=FLOW,
            description="laminar_flow: diffusion and shear, 7 parameters; the static modes: "
            "diffusion alone, 3 parameters.",
        )
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

    @property
    def has_flow(self) -> bool:
        """Whether the model has a shear rate, so that it needs a gap."""
        return self.analysis_mode == FLOW
