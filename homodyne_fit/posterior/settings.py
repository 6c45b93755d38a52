"""Settings of the posterior, and priors of the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from homodyne_fit.errors import Problem
from homodyne_fit.fitting.default_bounds import Limits
from homodyne_fit.model.parameters import SCALING
from homodyne_fit.validation import Count, NotNegative, Section

__all__ = [
    "PosteriorSettings",
    "Prior",
    "PriorKind",
    "Priors",
    "Sampler",
    "SamplingOptions",
    "prior_problems",
]

PriorKind = Literal["Uniform", "Normal", "TruncatedNormal", "LogNormal", "BetaScaled"]

Sampler = Literal["auto", "importance", "nuts"]

# Kinds of contrast and offset: those with which they integrate out in closed form.
OF_SCALING = ("Uniform", "Normal", "TruncatedNormal")

TIME_SHARDS = (
    "frames cannot be shared out: speckles live longer than a frame, so that the noise of two "
    "shards of time is shared and their product is no posterior; take 'angles'"
)


def _by_angles(value: Any) -> Any:
    if value in ("time", "times", "frames", "contiguous", "random", "points"):
        raise ValueError(TIME_SHARDS)
    return value


class SamplingOptions(Section):
    """How the posterior is sampled."""

    sampler: Sampler = Field(
        default="auto",
        description="importance: independent draws, weighted by the posterior; nuts: Hamiltonian "
        "Monte Carlo; auto: importance, and nuts where its weights are not reliable.",
    )
    num_samples: Count = Field(default=1000, description="Draws of each chain.")
    num_warmup: Count = Field(default=300, description="Steps of each NUTS chain before its draws.")
    num_chains: Annotated[Count, Field(ge=2)] = Field(
        default=4, description="Chains, at least 2; of importance sampling, independent batches."
    )
    seed: NotNegative = Field(default=0, description="Seed of the draws.")
    shards: Count | None = Field(
        default=None,
        description="Shards of angles for consensus Monte Carlo, to compare with the posterior of "
        "all data; null: none.",
    )
    shard_by: Literal["angles"] = Field(
        default="angles", description="angles, the only choice: shards have independent noise."
    )

    @field_validator("shard_by", mode="before")
    @classmethod
    def _independent(cls, value: Any) -> Any:
        return _by_angles(value)

    def problems(self, n_angles: int) -> Iterator[Problem]:
        """What the number of angles does not allow."""
        if self.shards is not None and not 2 <= self.shards <= n_angles:
            yield Problem(
                "shards",
                f"{self.shards} shards of {n_angles} angles; from 2 to {n_angles} are possible",
            )


@dataclass(frozen=True)
class Prior:
    """The prior of one parameter, between its bounds.

    Attributes
    ----------
    kind : str
        ``Normal`` and ``TruncatedNormal`` are the same here: no parameter leaves its bounds.
    mu, sigma : float
        Of the parameter; of its logarithm for ``LogNormal``. NaN for ``Uniform``.
    """

    kind: PriorKind
    mu: float = math.nan
    sigma: float = math.nan

    @classmethod
    def from_keys(
        cls, kind: str | None, mu: float | None, sigma: float | None, bounds: Limits
    ) -> Prior | None:
        """The prior of the keys ``type``, ``prior_mu`` and ``prior_sigma``; None without any.

        Without mean or standard deviation they are the middle and a quarter of the bounds, as in
        homodyne; not for the type LogNormal, where they are those of the logarithm.

        Raises
        ------
        ValueError
            If they do not make one.
        """
        if kind is None and mu is None and sigma is None:
            return None
        kind = kind or "TruncatedNormal"
        if kind not in get_args(PriorKind):
            raise ValueError(f"type: must be {', '.join(get_args(PriorKind))} (got '{kind}')")
        if kind == "Uniform":
            return cls("Uniform")
        lower, upper = bounds
        if kind == "LogNormal" and (mu is None or sigma is None):
            missing = "prior_mu" if mu is None else "prior_sigma"
            raise ValueError(f"{missing} is missing: a prior of type {kind} needs it")
        mu = (lower + upper) / 2 if mu is None else mu
        sigma = (upper - lower) / 4 if sigma is None else sigma
        if not sigma > 0:
            raise ValueError(f"prior_sigma: must be greater than 0 (got {sigma:g})")
        if kind == "BetaScaled" and not (
            lower < mu < upper and sigma**2 < (mu - lower) * (upper - mu)
        ):
            raise ValueError(
                f"a BetaScaled prior from {lower:g} to {upper:g} cannot have the mean {mu:g} and "
                f"the standard deviation {sigma:g}"
            )
        if kind == "LogNormal" and lower < 0:
            raise ValueError(f"LogNormal: the lower bound, {lower:g}, must not be below 0")
        return cls(kind, mu, sigma)  # type: ignore[arg-type]


Priors = Mapping[str, Prior]


def prior_problems(priors: Priors) -> Iterator[Problem]:
    """Priors that are not possible for contrast and offset."""
    for name in SCALING:
        if name in priors and priors[name].kind not in OF_SCALING:
            yield Problem(
                name,
                f"a prior of type {priors[name].kind} is not possible: {name} is integrated out in "
                f"closed form; take {', '.join(OF_SCALING)}",
            )


@dataclass(frozen=True)
class PosteriorSettings:
    """What decides a posterior besides the fit and its data.

    Attributes
    ----------
    sampling : SamplingOptions
    priors : mapping
        By name of a parameter, ``contrast`` and ``offset`` included.
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    priors: Priors = field(default_factory=dict)
