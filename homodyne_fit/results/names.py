"""Names of the files of a result."""

from __future__ import annotations

__all__ = [
    "ANGLES_CSV",
    "CLAIM",
    "EXPORTS",
    "OUTPUTS",
    "POSTERIOR",
    "POSTERIOR_DRAWS",
    "POSTERIOR_PAGE",
    "PARAMETERS_CSV",
    "PARAMETERS_JSON",
    "PLOTS",
    "REPORT",
    "RESULT",
    "UNFINISHED",
]

# Files that every fit writes.
PARAMETERS_JSON = "parameters.json"
PARAMETERS_CSV = "parameters.csv"
ANGLES_CSV = "angles.csv"
RESULT = "result.h5"
REPORT = "report.html"
OUTPUTS = (PARAMETERS_JSON, PARAMETERS_CSV, ANGLES_CSV, RESULT, REPORT)

# Files of a posterior: for ArviZ, plain arrays, and a page.
POSTERIOR = "posterior.nc"
POSTERIOR_DRAWS = "posterior.npz"
POSTERIOR_PAGE = "posterior.html"

# Files that are written on request, by the name of the program they are for.
EXPORTS = {"homodyne": "fitted_data.npz"}

# Folder of the figures, in that of the result.
PLOTS = "plots"

# File in the folder of a result while a fit runs that will write there.
CLAIM = ".fit_in_progress"

# Beginning of the name of a folder in which files are written before they take their places.
UNFINISHED = ".new."
