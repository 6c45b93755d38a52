"""Keys of homodyne and xpcsjax configurations that have no effect here.

A configuration made for those programs is read as it is. A key that is used is a field of
`homodyne_fit.config`; one in this table is accepted and named in a warning; any other is taken
for a misspelling.
"""

from __future__ import annotations

__all__ = ["is_foreign"]

# Whole sections.
SECTIONS = {
    "metadata",
    "analysis_settings",
    "noise_estimation",
    "performance",
    "logging",
    "quality_control",
    "plotting",
    "validation",
    "optimization.streaming",
    "optimization.stratification",
    "optimization.sequential",
    "optimization.recovery",
    "optimization.mcmc",
    "optimization.cmc",
    "optimization.angle_filtering",
    "parameter_space.priors",
    "phi_filtering.quality_control",
    "optimization.nlsq.progress",
    "optimization.nlsq.diagnostics",
    "optimization.nlsq.hybrid_streaming",
    "optimization.nlsq.cmaes",
    "optimization.nlsq.quality_validation",
}

# Single keys, by section.
KEYS = {
    "analyzer_parameters": {"time_unit"},
    "experimental_data": {
        "phi_angles_path",
        "phi_angles_file",
        "cache_file_path",
        "cache_directory",
        "use_caching",
        "cache_filename_template",
        "cache_compression",
        "data_type",
        "file_format",
        "exchange_key",
    },
    "phi_filtering": {"fallback_to_all_angles", "algorithm", "tolerance"},
    "initial_parameters": {"units", "per_angle_scaling"},
    "parameter_space": {"model"},
    "parameter_space.bounds": {"type", "unit", "prior_mu", "prior_sigma"},
    "phi_filtering.target_ranges": {"description"},
    "optimization.nlsq": {
        "workflow",
        "goal",
        "memory_fraction",
        # Convergence is measured in standard errors here.
        "tolerance",
        "ftol",
        "xtol",
        "gtol",
        "trust_region_scale",
        "verbose",
        "x_scale",
        "x_scale_map",
    },
    "optimization.nlsq.anti_degeneracy": {
        "enable",
        "execute_layers",
        "constant_scaling_threshold",
        "fourier_auto_threshold",
    },
    "optimization.nlsq.anti_degeneracy.hierarchical": {
        "max_outer_iterations",
        "outer_tolerance",
        "physical_max_iterations",
        "per_angle_max_iterations",
    },
    "optimization.nlsq.anti_degeneracy.regularization": {"max_cv", "auto_tune_lambda"},
    "optimization.nlsq.anti_degeneracy.shear_weighting": {"update_frequency", "normalize"},
    "optimization.nlsq.multi_start": {
        "n_workers",
        "use_screening",
        "screen_keep_fraction",
        "refine_top_k",
        "refinement_ftol",
        "degeneracy_threshold",
    },
    "output": {
        "base_directory",
        "formats",
        "create_subdirs",
        "timestamp_dirs",
        "compress_hdf5",
        "compression_level",
        "include_diagnostics",
    },
}


def is_foreign(section: str, key: str) -> bool:
    """Whether a key is one of homodyne's or xpcsjax's that has no effect here.

    Parameters
    ----------
    section : str
        Dotted path of the section, without list indices; empty at the top.
    key : str
    """
    path = f"{section}.{key}" if section else key
    return path in SECTIONS or key in KEYS.get(section, ())
