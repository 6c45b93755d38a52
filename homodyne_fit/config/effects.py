"""Keys of a configuration that have no effect because of the model or of another key, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from homodyne_fit.config.consistency import model_parameters
from homodyne_fit.config.keys import Root
from homodyne_fit.fitting.options import LAYERS
from homodyne_fit.model.parameters import SCALING
from homodyne_fit.validation import Section

__all__ = ["NOTES", "Ignored", "without_effect", "WITHOUT_EFFECT", "reason"]


INITIAL = "initial_parameters"

NLSQ = "optimization.nlsq"

LAYER_PATH = f"{NLSQ}.anti_degeneracy"

NO_SUCH_PARAMETER = "the model of this analysis_mode has no such parameter"

NO_PRIORS = "there are no priors: the fit is least squares within the bounds"

ELIMINATED = "contrast and offset are computed exactly from the other parameters, without a start"

NOTE = "a note for the reader"

# Endings of keys that are notes in every section; a unit has been compared before.
NOTES = ("_unit", "_description", "_note", "_notes")

# For each reason, the dotted paths of keys and of whole sections, without indices of lists.
_BY_REASON: dict[str, tuple[str, ...]] = {
    NOTE: (
        "metadata",
        "config_version",
        "analysis_settings",
        "analyzer_parameters.time_unit",
        "initial_parameters.units",
        "output.sample_name",
        "output.experiment_id",
        "parameter_space.bounds.unit",
        "parameter_space.model",
        "phi_filtering.target_ranges.description",
    ),
    "the format is recognised from the contents of the file": (
        "experimental_data.data_type",
        "experimental_data.file_format",
        "experimental_data.exchange_key",
        "v2_features",
    ),
    "the matrices are fitted as they are measured, without the diagonal; contrast and offset take "
    "up their scale": (
        "preprocessing.enabled",
        "preprocessing.stages",
        "preprocessing.progress_reporting",
        "preprocessing.cache_intermediates",
        "preprocessing.fallback_on_failure",
        "experimental_data.preprocessing",
        "experimental_data.apply_diagonal_correction",
    ),
    "data_filtering.enabled is not true, or there is nothing in it that selects": (
        "data_filtering",
    ),
    "the nearest q of the file is used, within half the distance to the next": (
        "q_tolerance_fraction",
        "experimental_data.q_tolerance_fraction",
        "analyzer_parameters.q_tolerance_fraction",
        "analyzer_parameters.scattering.q_tolerance_fraction",
    ),
    "the limits of memory and threads are optimization.nlsq.memory and .threads": (
        "memory",
        "analyzer_parameters.computational",
    ),
    "JAX chooses the device; JAX_PLATFORMS=cpu in the environment makes it the processor": (
        "hardware",
    ),
    "the method is least squares; its keys are in optimization.nlsq": (
        "basic_optimization",
        "optimization_config",
        "optimization.lsq",
        "optimization.fast_chi2_mode",
        "advanced_features",
        "advanced_settings",
        "performance_settings",
    ),
    "derivatives are exact": (
        "optimization.nlsq.diff_step",
        "optimization.nlsq.use_adapter",
    ),
    "angles come from the data file, or from experimental_data.phi_angles": (
        "analyzer_parameters.scattering.phi_angles",
        "experimental_data.phi_angles_path",
        "experimental_data.phi_angles_file",
    ),
    "nothing is cached": (
        "experimental_data.cache_file_path",
        "experimental_data.cache_directory",
        "experimental_data.use_caching",
        "experimental_data.cache_filename_template",
        "experimental_data.cache_compression",
    ),
    "the angles within the ranges are used; it is an error if there are none": (
        "phi_filtering.fallback_to_all_angles",
        "phi_filtering.algorithm",
        "phi_filtering.tolerance",
        "phi_filtering.quality_control",
        "optimization.angle_filtering",
    ),
    "a prior is type, prior_mu and prior_sigma of an entry of parameter_space.bounds": (
        "parameter_space.priors",
    ),
    "the posterior is that of all points, without consensus; optimization.mcmc has num_samples, "
    "num_warmup, num_chains, and shards of angles": ("optimization.cmc",),
    "the posterior needs no such setting": (
        "optimization.mcmc.backend",
        "optimization.mcmc.combination",
        "optimization.mcmc.convergence",
        "optimization.mcmc.dense_mass_matrix",
        "optimization.mcmc.initial_values",
        "optimization.mcmc.initialization",
        "optimization.mcmc.max_tree_depth",
        "optimization.mcmc.memory_threshold_pct",
        "optimization.mcmc.min_samples_for_cmc",
        "optimization.mcmc.per_shard_mcmc",
        "optimization.mcmc.progress_bar",
        "optimization.mcmc.sharding",
        "optimization.mcmc.target_accept_prob",
        "optimization.mcmc.validation",
    ),
    "the noise is measured by the fit": ("noise_estimation",),
    "convergence is measured in standard errors, whatever the cost and the units: "
    "optimization.nlsq.standard_error_tolerance": (
        "optimization.nlsq.tolerance",
        "optimization.nlsq.ftol",
        "optimization.nlsq.xtol",
        "optimization.nlsq.gtol",
    ),
    "the search chooses its own coordinates and step lengths": (
        "optimization.nlsq.x_scale",
        "optimization.nlsq.x_scale_map",
        "optimization.nlsq.trust_region_scale",
    ),
    "there is one method, which always sums over all points, in chunks of all angles": (
        "optimization.nlsq.workflow",
        "optimization.nlsq.goal",
        "optimization.nlsq.memory_fraction",
        "optimization.nlsq.hybrid_streaming",
        "optimization.nlsq.recovery",
        "optimization.nlsq.stratified",
        "optimization.nlsq.streaming",
        "optimization.streaming",
        "optimization.stratification",
        "optimization.sequential",
        "optimization.recovery",
        "performance",
    ),
    "optimization.nlsq.multi_start does the global search": ("optimization.nlsq.cmaes",),
    "the search halves its starts until one basin is left": (
        "optimization.nlsq.multi_start.n_workers",
        "optimization.nlsq.multi_start.use_screening",
        "optimization.nlsq.multi_start.screen_keep_fraction",
        "optimization.nlsq.multi_start.refine_top_k",
        "optimization.nlsq.multi_start.refinement_ftol",
        "optimization.nlsq.multi_start.subsample_size",
        "optimization.nlsq.multi_start.warmup_only_threshold",
        "optimization.nlsq.multi_start.degeneracy_threshold",
    ),
    "each layer has an 'enable' of its own": ("optimization.nlsq.anti_degeneracy.execute_layers",),
    "in the mode 'auto' the data decide, not the number of angles": (
        "optimization.nlsq.anti_degeneracy.constant_scaling_threshold",
        "optimization.nlsq.anti_degeneracy.fourier_auto_threshold",
    ),
    "contrast and offset are eliminated exactly, so that nothing alternates": (
        "optimization.nlsq.anti_degeneracy.hierarchical.max_outer_iterations",
        "optimization.nlsq.anti_degeneracy.hierarchical.outer_tolerance",
        "optimization.nlsq.anti_degeneracy.hierarchical.physical_max_iterations",
        "optimization.nlsq.anti_degeneracy.hierarchical.per_angle_max_iterations",
    ),
    "the weight is learned from the data, or is lambda": (
        "optimization.nlsq.anti_degeneracy.regularization.max_cv",
        "optimization.nlsq.anti_degeneracy.regularization.auto_tune_lambda",
    ),
    "weights follow phi0 and always have the mean 1": (
        "optimization.nlsq.anti_degeneracy.shear_weighting.update_frequency",
        "optimization.nlsq.anti_degeneracy.shear_weighting.normalize",
    ),
    "every fit is diagnosed, and all input is checked": (
        "optimization.nlsq.diagnostics",
        "optimization.nlsq.quality_validation",
        "quality_control",
        "validation",
        "validation_rules",
        "workflow_integration",
    ),
    "options of the command line choose the output": (
        "optimization.nlsq.progress",
        "optimization.nlsq.verbose",
        "logging",
    ),
    "the folder is output.directory or --output-dir": (
        "output.base_directory",
        "output.output_folder",
        "output.create_subdirs",
        "output.timestamp_dirs",
    ),
    "the files and figures of a result are always the same": (
        "output.formats",
        "output.compress_hdf5",
        "output.compression_level",
        "output.include_diagnostics",
        "output.plots",
        "output_settings",
        "plotting",
    ),
}

# Why a key or section has no effect, by its dotted path.
WITHOUT_EFFECT = {path: why for why, paths in _BY_REASON.items() for path in paths}


def reason(section: str, key: str) -> str | None:
    """Why a key of homodyne or xpcsjax has no effect; None for other keys.

    Parameters
    ----------
    section : str
        Dotted path of the section, without list indices; empty at the top.
    key : str
    """
    if key.endswith(NOTES) or key == "description":
        return NOTE
    return WITHOUT_EFFECT.get(f"{section}.{key}" if section else key)


class Ignored(NamedTuple):
    """A key without effect.

    Attributes
    ----------
    path : str
        Dotted path, without indices of lists.
    reason : str
    """

    path: str
    reason: str


def without_effect(root: Root) -> Iterator[Ignored]:
    """Keys without effect because of the model or of another key."""
    if root.experimental_data.file_path is not None:
        for key in ("data_folder_path", "data_file_name"):
            if getattr(root.experimental_data, key) is not None:
                yield Ignored(
                    f"experimental_data.{key}", "experimental_data.file_path gives the path"
                )
    if not root.has_flow:
        yield from _flow(root)
    yield from _parameters(root)
    yield from _scaling(root)
    yield from _loss(root)
    yield from _sampling(root)
    yield from _switched_off(root)


def _flow(root: Root) -> Iterator[Ignored]:
    why = "there is no flow in this analysis_mode"
    if root.analyzer_parameters.geometry.stator_rotor_gap is not None:
        yield Ignored("analyzer_parameters.geometry.stator_rotor_gap", why)
    if root.model.shear != "documented":
        yield Ignored("model.shear", why)
    if root.optimization.nlsq.anti_degeneracy.shear_weighting.enable:
        yield Ignored(f"{LAYER_PATH}.shear_weighting", why)


def _parameters(root: Root) -> Iterator[Ignored]:
    initial = root.initial_parameters
    physics = model_parameters(root)
    if initial.parameter_names is not None and initial.values is None:
        yield Ignored(f"{INITIAL}.parameter_names", "there is no list of values")
    for name in initial.start:
        if name in SCALING:
            yield Ignored(f"{INITIAL}.values.{name}", ELIMINATED)
        elif name in initial.fixed and name in physics:
            yield Ignored(
                f"{INITIAL}.values.{name}", "initial_parameters.fixed_parameters holds it"
            )
    bounds = [bound.name for bound in root.parameter_space.bounds]
    for section, names, known in (
        (f"{INITIAL}.values", initial.start, (*physics, *SCALING)),
        (f"{INITIAL}.fixed_parameters", initial.fixed, physics),
        (f"{INITIAL}.active_parameters", initial.active_parameters or (), (*physics, *SCALING)),
        ("parameter_space.bounds", bounds, (*physics, *SCALING)),
    ):
        for name in names:
            if name not in known:
                yield Ignored(f"{section}.{name}", NO_SUCH_PARAMETER)


def _scaling(root: Root) -> Iterator[Ignored]:
    nlsq = root.optimization.nlsq
    settings, mode = nlsq.anti_degeneracy, nlsq.per_angle_mode
    if nlsq.per_angle_scaling is not None and settings.names_mode:
        yield Ignored(f"{NLSQ}.per_angle_scaling", "anti_degeneracy.per_angle_mode is given")
    if mode != "constant":
        scaling = root.initial_parameters.per_angle_scaling
        for key in SCALING:
            if getattr(scaling, key) is not None:
                yield Ignored(f"{INITIAL}.per_angle_scaling.{key}", ELIMINATED)
            if getattr(settings.constant, key) is not None:
                yield Ignored(
                    f"{LAYER_PATH}.constant.{key}", "the per_angle_mode is not 'constant'"
                )
    if mode != "fourier" and "fourier_order" in settings.model_fields_set:
        yield Ignored(f"{LAYER_PATH}.fourier_order", "the per_angle_mode is not 'fourier'")


def _loss(root: Root) -> Iterator[Ignored]:
    """Robust losses without a scale, and a scale without such a loss.

    Other programs apply losses to residuals that are not divided by the noise. At a residual r < 1
    they differ from least squares by r² at most, and huber does not differ. For noise of 0.03 in c2
    this is 0.1 %.
    """
    nlsq = root.optimization.nlsq
    if nlsq.loss != "linear" and nlsq.f_scale is None:
        yield Ignored(
            f"{NLSQ}.loss",
            f"{nlsq.loss} without f_scale differs from least squares at residuals of c2 near 1; at "
            "the usual 0.03 it is the same within 0.1 %, so least squares is fitted; f_scale, in "
            "standard deviations of the noise, makes it robust",
        )
    if nlsq.loss == "linear" and nlsq.f_scale is not None:
        yield Ignored(f"{NLSQ}.f_scale", "the loss is linear: least squares")


def _sampling(root: Root) -> Iterator[Ignored]:
    """Priors and settings of the posterior where only least squares is asked for."""
    if root.optimization.samples:
        return
    for key in ("type", "prior_mu", "prior_sigma"):
        if any(getattr(bound, key) is not None for bound in root.parameter_space.bounds):
            yield Ignored(f"parameter_space.bounds.{key}", NO_PRIORS)
    if root.optimization.mcmc.model_fields_set:
        yield Ignored("optimization.mcmc", "optimization.method is nlsq: least squares")


def _switched_off(root: Root) -> Iterator[Ignored]:
    """Keys in a section that is switched off."""
    nlsq, filtering = root.optimization.nlsq, root.phi_filtering
    if not filtering.enabled and filtering.target_ranges:
        yield Ignored("phi_filtering.target_ranges", "phi_filtering.enabled is false")
    if not nlsq.multi_start.enable:
        yield from _others(f"{NLSQ}.multi_start", nlsq.multi_start)
    for name in LAYERS:
        layer = getattr(nlsq.anti_degeneracy, name)
        if not nlsq.anti_degeneracy.enable:
            if layer.model_fields_set:
                yield Ignored(f"{LAYER_PATH}.{name}", "anti_degeneracy.enable is false")
        elif layer.enable is False:
            yield from _others(f"{LAYER_PATH}.{name}", layer)


def _others(path: str, section: Section) -> Iterator[Ignored]:
    for name, field in type(section).model_fields.items():
        if name in section.model_fields_set and name != "enable":
            yield Ignored(f"{path}.{field.alias or name}", f"{path}.enable is false")
