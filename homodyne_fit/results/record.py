"""A fit, the data that it was made to, and how both came about: what is saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from typing import Any, Self

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.provenance import Provenance
from homodyne_fit.fitting.result import FitResult, finite_or_none
from homodyne_fit.fitting.weak_directions import WeakDirection
from homodyne_fit.posterior.draws import PosteriorSummary
from homodyne_fit.report.posterior import posterior_html, posterior_text
from homodyne_fit.report.summary import summary_html, summary_text
from homodyne_fit.report.words import direction_text, warnings

__all__ = ["FitRecord"]

# Points of data up to which a notebook shows matrices: more take seconds to read and reduce.
MOST_SHOWN = 30_000_000


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FitRecord(FitResult):
    """A `FitResult`, its data, and how both came about.

    Attributes
    ----------
    read_data : callable
        Returns the data; called when they are first asked for.
    config : dict
        All that decided the fit, as a configuration file has it.
    provenance : Provenance
    posterior : PosteriorSummary or None
        What the draws of the posterior say, where there are any.
    """

    read_data: Callable[[], TwoTimeData]
    config: dict[str, Any]
    provenance: Provenance
    posterior: PosteriorSummary | None = None

    @classmethod
    def of(
        cls,
        result: FitResult,
        data: TwoTimeData,
        config: dict[str, Any],
        posterior: PosteriorSummary | None = None,
    ) -> Self:
        """Join a fit and the data it was just made to."""
        values = {field.name: getattr(result, field.name) for field in fields(FitResult)}
        return cls(
            **values,
            read_data=partial(_return_data, data),
            config=config,
            provenance=Provenance.of(data),
            posterior=posterior,
        )

    @cached_property
    def data(self) -> TwoTimeData:
        """The data that were fitted."""
        return self.read_data()

    @property
    def warnings(self) -> list[str]:
        """What to know before using single numbers, in sentences."""
        return warnings(self)

    def to_json(self) -> dict[str, Any]:
        """The contents of ``parameters.json``."""
        info, provenance = self.info, asdict(self.provenance)
        versions = provenance.pop("versions")
        return {
            "model": self.model.name,
            "method": "mcmc" if self.posterior else "nlsq",
            "parameters": self._parameters_to_json(),
            "scaling": [
                {"phi": float(phi), "q": float(q), "contrast": c.to_json(), "offset": o.to_json()}
                for phi, q, c, o in zip(
                    self.objective.phi, self.objective.q, self.contrast, self.offset, strict=True
                )
            ],
            "fit": {
                "success": info.success,
                "message": info.message,
                "cost_initial": info.cost_initial,
                "cost": self.cost,
                "noise": self.noise,
                "n_points": self.n_points,
                "n_angles": len(self.contrast),
                "passes": info.passes,
                "seconds": info.seconds,
                "per_angle_mode": self.objective.scaling.mode,
                "uncertainty": self.uncertainty.to_json(),
                "adequacy": self.adequacy.to_json(),
                "goodness": self.goodness.to_json(),
                "weighting": self.weighting and self.weighting.to_json(),
                "robust": self.robust and self.robust.to_json(),
                "layers": info.layers,
                "alternatives": info.alternatives,
                "beyond_bounds": info.beyond_bounds,
                "rate_forms": info.rate_forms,
            },
            "identifiability": {
                "condition_number": finite_or_none(self.condition_number),
                "weak_directions": [self._direction_to_json(weak) for weak in self.weak_directions],
                "weakest": self.weakest and self._direction_to_json(self.weakest),
                "rates": self._rates_to_json(),
                "correlation": self.correlation.to_json(),
                "warnings": self.warnings,
            },
            **({"posterior": self.posterior.to_json()} if self.posterior else {}),
            "versions": versions,
            "provenance": {**provenance, "notes": list(self.provenance.notes)},
            "config": self.config,
        }

    def _parameters_to_json(self) -> dict[str, dict[str, Any]]:
        """Estimates, and the bounds that they were searched within."""
        limits = zip(self.space.lower.tolist(), self.space.upper.tolist(), strict=True)
        return {
            name: {**estimate.to_json(), "lower": lower, "upper": upper}
            for (name, estimate), (lower, upper) in zip(
                self.parameters.items(), limits, strict=True
            )
        }

    def _direction_to_json(self, direction: WeakDirection) -> dict[str, Any]:
        return {**direction.to_json(), "text": direction_text(self, direction)}

    def _rates_to_json(self) -> dict[str, dict[str, Any]]:
        """J and the shear rate at mid-measurement: what the data fix best."""
        rates = {}
        for rate in self.rates:
            (value,), (stderr,) = rate.at(self.space.tau)
            rates[rate.key] = {
                "time": self.space.tau,
                "value": float(value),
                "stderr": finite_or_none(float(stderr)),
                "unit": rate.unit,
            }
        return rates

    def __repr__(self) -> str:
        return summary_text(self) + posterior_text(self.posterior, self)

    def _repr_html_(self) -> str:
        # Imported late: only notebooks need templates.
        from homodyne_fit.report.notebook import matrices_html

        shown = summary_html(self) + posterior_html(self.posterior, self)
        if len(self.contrast) * self.objective.n_frames**2 > MOST_SHOWN:
            return shown
        return shown + matrices_html(self.data, self)


def _return_data(data: TwoTimeData) -> TwoTimeData:
    """Unlike a lambda, this can be pickled."""
    return data
