"""Names of the files of a result."""

from __future__ import annotations

__all__ = [
    "EXPORTS",
    "OUTPUTS",
    "PARAMETERS_CSV",
    "PARAMETERS_JSON",
    "PLOTS",
    "REPORT",
    "RESULT",
]

# Files that every fit writes.
PARAMETERS_JSON = "parameters.json"
PARAMETERS_CSV = "parameters.csv"
RESULT = "result.h5"
REPORT = "report.html"
OUTPUTS = (PARAMETERS_JSON, PARAMETERS_CSV, RESULT, REPORT)

# Files that are written on request, by the name of the program they are for.
EXPORTS = {"homodyne": "fitted_data.npz"}

# Folder of the figures, in that of the result.
PLOTS = "plots"
