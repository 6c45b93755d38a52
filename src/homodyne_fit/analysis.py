"""A fit together with the data it was made to: what Python users get, and what is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from homodyne_fit.dataset import TwoTimeData
from homodyne_fit.errors import renamed
from homodyne_fit.provenance import Provenance
from homodyne_fit.results import FitResult
from homodyne_fit.validation import checked_arguments
from homodyne_fit.value_types import Listed, PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Analysis"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Analysis(FitResult):
    """A `FitResult`, its data, and how both came about.

    In a notebook it shows as a table. Figures are `matplotlib.figure.Figure`.

    Attributes
    ----------
    read_data : callable
        Returns the data; called when they are first asked for.
    config : dict
        All that decided the fit, as a configuration file has it.
    provenance : Provenance
    """

    read_data: Callable[[], TwoTimeData]
    config: dict[str, Any]
    provenance: Provenance

    @classmethod
    def of(cls, result: FitResult, data: TwoTimeData, config: dict[str, Any]) -> Analysis:
        """Join a fit and the data it was just made to."""
        found = {field.name: getattr(result, field.name) for field in fields(FitResult)}
        return cls(
            **found,
            read_data=partial(_given, data),
            config=config,
            provenance=Provenance.of(data),
        )

    @cached_property
    def data(self) -> TwoTimeData:
        """The data that were fitted."""
        return self.read_data()

    def to_json(self) -> dict[str, Any]:
        """The contents of ``parameters.json``."""
        provenance = asdict(self.provenance)
        versions = provenance.pop("versions")
        return {
            **super().to_json(),
            "versions": versions,
            "provenance": {**provenance, "notes": list(self.provenance.notes)},
            "config": self.config,
        }

    @checked_arguments
    def save(
        self,
        folder: PathLike,
        *,
        overwrite: bool = False,
        exports: Listed[str] = (),
        plots: bool = False,
    ) -> Path:
        """Write all result files into a folder, which is made if need be; return it.

        Parameters
        ----------
        overwrite : bool
            Replace the results that the folder holds; it is an error otherwise.
        exports : collection of str
            Further files: 'homodyne' for a ``fitted_data.npz`` as that program writes it.
        plots : bool
            Write each figure as a file of its own, too.

        Raises
        ------
        InputError
            If the folder holds results, or cannot be written.
        """
        from homodyne_fit import outputs

        path = Path(folder)
        outputs.require_exportable(self.data, exports)
        with renamed({"give --overwrite": "give overwrite=True"}):
            outputs.prepare_folder(path, overwrite=overwrite, exports=exports, plots=plots)
        outputs.write_outputs(self, path, exports=exports, plots=plots)
        return path

    def plot_rates(self, times: ArrayLike | None = None) -> Figure:
        """J(t), and with flow the shear rate, with 68 % bands.

        Parameters
        ----------
        times : (n,) array, optional
            Seconds; those of the frames by default.
        """
        from homodyne_fit.plots import plot_rates

        return plot_rates(self, self.times if times is None else times)

    def plot_scaling(self) -> Figure:
        """Contrast and offset of each angle."""
        from homodyne_fit.plots import plot_scaling

        return plot_scaling(self)

    def plot_two_time(self, angle: int) -> Figure:
        """Data, fit and residual of the angle with this index."""
        from homodyne_fit.plots import angle_view, plot_two_time

        return plot_two_time(angle_view(self.data, self, angle))

    def plot_lag_cuts(self, angle: int) -> Figure:
        """Data and fit of the angle with this index, averaged at fixed lag."""
        from homodyne_fit.plots import angle_view, plot_lag_cuts

        return plot_lag_cuts(angle_view(self.data, self, angle))


def _given(data: TwoTimeData) -> TwoTimeData:
    """Unlike a lambda, this can be pickled."""
    return data
