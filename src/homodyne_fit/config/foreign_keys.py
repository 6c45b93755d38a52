"""Keys of homodyne and xpcsjax configurations that have no effect here, and why.

A configuration made for those programs is read as it is. A key that is used is a field of
`homodyne_fit.config.keys`; one in this table is accepted and named in a warning; any other is
taken for a misspelling.
"""

from __future__ import annotations

__all__ = ["WITHOUT_EFFECT", "reason"]

# Dotted paths of keys and of whole sections, without indices of lists, by the reason.
_BY_REASON: dict[str, tuple[str, ...]] = {
    "a note for the reader": (
        "metadata",
        "analysis_settings",
        "analyzer_parameters.time_unit",
        "initial_parameters.units",
        "output.sample_name",
        "output.experiment_id",
        "parameter_space.bounds.unit",
        "parameter_space.model",
        "phi_filtering.target_ranges.description",
    ),
    "the format is told from what is in the file": (
        "experimental_data.data_type",
        "experimental_data.file_format",
        "experimental_data.exchange_key",
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
    "angles are those within the ranges; none there is an error, never all of them": (
        "phi_filtering.fallback_to_all_angles",
        "phi_filtering.algorithm",
        "phi_filtering.tolerance",
        "phi_filtering.quality_control",
        "optimization.angle_filtering",
    ),
    "there are no priors: the fit is least squares within the bounds": (
        "parameter_space.priors",
        "parameter_space.bounds.type",
        "parameter_space.bounds.prior_mu",
        "parameter_space.bounds.prior_sigma",
    ),
    "sampling is not available yet": (
        "optimization.mcmc",
        "optimization.cmc",
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
    "the global search is that of optimization.nlsq.multi_start": ("optimization.nlsq.cmaes",),
    "the search halves its starts until one basin is left": (
        "optimization.nlsq.multi_start.n_workers",
        "optimization.nlsq.multi_start.use_screening",
        "optimization.nlsq.multi_start.screen_keep_fraction",
        "optimization.nlsq.multi_start.refine_top_k",
        "optimization.nlsq.multi_start.refinement_ftol",
        "optimization.nlsq.multi_start.degeneracy_threshold",
    ),
    "each layer has an 'enable' of its own": ("optimization.nlsq.anti_degeneracy.execute_layers",),
    "the mode 'auto' lets the data decide, not the number of angles": (
        "optimization.nlsq.anti_degeneracy.constant_scaling_threshold",
        "optimization.nlsq.anti_degeneracy.fourier_auto_threshold",
    ),
    "contrast and offset are eliminated exactly, so that nothing alternates": (
        "optimization.nlsq.anti_degeneracy.hierarchical.max_outer_iterations",
        "optimization.nlsq.anti_degeneracy.hierarchical.outer_tolerance",
        "optimization.nlsq.anti_degeneracy.hierarchical.physical_max_iterations",
        "optimization.nlsq.anti_degeneracy.hierarchical.per_angle_max_iterations",
    ),
    "the weight is learned, or λ": (
        "optimization.nlsq.anti_degeneracy.regularization.max_cv",
        "optimization.nlsq.anti_degeneracy.regularization.auto_tune_lambda",
    ),
    "weights follow phi0 and always have the mean 1": (
        "optimization.nlsq.anti_degeneracy.shear_weighting.update_frequency",
        "optimization.nlsq.anti_degeneracy.shear_weighting.normalize",
    ),
    "every fit is diagnosed, and every input checked": (
        "optimization.nlsq.diagnostics",
        "optimization.nlsq.quality_validation",
        "quality_control",
        "validation",
    ),
    "what is shown is chosen on the command line": (
        "optimization.nlsq.progress",
        "optimization.nlsq.verbose",
        "logging",
    ),
    "output.directory, or --output-dir, names the folder": (
        "output.base_directory",
        "output.output_folder",
        "output.create_subdirs",
        "output.timestamp_dirs",
    ),
    "files and figures of a result are always the same": (
        "output.formats",
        "output.compress_hdf5",
        "output.compression_level",
        "output.include_diagnostics",
        "plotting",
    ),
}

# Why a key or section has no effect, by its dotted path.
WITHOUT_EFFECT = {path: why for why, paths in _BY_REASON.items() for path in paths}


def reason(section: str, key: str) -> str | None:
    """Why a key of homodyne's or xpcsjax's has no effect; None for any other key.

    Parameters
    ----------
    section : str
        Dotted path of the section, without list indices; empty at the top.
    key : str
    """
    return WITHOUT_EFFECT.get(f"{section}.{key}" if section else key)
