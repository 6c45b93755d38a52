"""A configuration file, and the objects of a fit that follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homodyne_fit.config.consistency import (
    constant_parts,
    contradictions,
    explicit_bounds,
    explicit_priors,
    held_values,
    model_parameters,
    questions,
    questions_about_file,
    start_values,
)
from homodyne_fit.config.effects import Ignored, without_effect
from homodyne_fit.config.keys import FLOW, KEYS, Root
from homodyne_fit.config.overrides import Override
from homodyne_fit.config.reading import read
from homodyne_fit.data.selection import Selection
from homodyne_fit.data.text import UNICODE, decode_text
from homodyne_fit.errors import (
    InputError,
    Problem,
    collect,
    missing_file,
    rename_places,
)
from homodyne_fit.fitting.default_bounds import Limits, bounds_in_force
from homodyne_fit.fitting.options import AntiDegeneracy, SearchOptions, gap_problems
from homodyne_fit.model.parameters import SCALING
from homodyne_fit.posterior.settings import PosteriorSettings
from homodyne_fit.progress import Progress, not_told

if TYPE_CHECKING:
    from homodyne_fit.data.dataset import TwoTimeData
    from homodyne_fit.fitting.settings import FitSettings

__all__ = ["Config", "load_config", "parse_config", "examine"]


@dataclass(frozen=True)
class Config:
    """A configuration file.

    Attributes
    ----------
    path : Path
    root : Root
        Its contents.
    foreign : tuple of Ignored
        Keys that have a meaning only in other programs, with the reason.
    notes : tuple of str
        What was taken from keys of other programs, in sentences.
    """

    path: Path
    root: Root
    foreign: tuple[Ignored, ...]
    notes: tuple[str, ...] = ()

    @property
    def without_effect(self) -> tuple[Ignored, ...]:
        """All keys that have no effect, with the reason."""
        return (*self.foreign, *without_effect(self.root))

    @property
    def ignored(self) -> tuple[str, ...]:
        """Dotted paths of all keys that have no effect."""
        return tuple(path for path, _ in self.without_effect)

    @property
    def data_path(self) -> Path:
        """The data file; a relative path starts at the folder of the configuration, or here."""
        path = self.root.experimental_data.path
        if path is None:
            raise InputError(f"{self.path}: experimental_data.file_path is missing")
        return self._existing_path(path)

    @property
    def output_folder(self) -> Path:
        """Folder of the results: `output.directory`, or ``<configuration>_results``."""
        if named := self.root.output.directory:
            return Path(named).expanduser()
        return self.path.with_name(f"{self.path.stem}_results")

    @property
    def masked_frames(self) -> tuple[int, ...]:
        """Frames to leave out, counted from 1, from the list or the file in `mask_frames`."""
        from homodyne_fit.data.loading import read_frame_list

        mask = self.root.experimental_data.mask_frames
        if isinstance(mask, str):
            try:
                return read_frame_list(self._existing_path(Path(mask).expanduser()))
            except InputError as error:
                text = f"{error}; frames themselves are a list, as [17, 18]"
                raise InputError(
                    [Problem(f"{self.path}: experimental_data.mask_frames", text)]
                ) from error
        return mask or ()

    def _existing_path(self, path: Path) -> Path:
        beside = self.path.parent / path
        return beside if beside.exists() or not path.exists() else path

    def selection(self) -> Selection:
        """The part of the data file that the configuration selects; no matrix is read."""
        from homodyne_fit.data.dataset import along_one_line
        from homodyne_fit.data.formats import open_two_time
        from homodyne_fit.data.selection import select

        path = self.data_path
        try:
            file = open_two_time(path)
        except InputError as error:
            raise error.inside(f"{self.path}: experimental_data.file_path") from error
        analyzer, root = self.root.analyzer_parameters, self.root
        problems = list(map(self._located, questions_about_file(root, file)))
        masked: tuple[int, ...] = ()
        with collect(problems):
            masked = self.masked_frames
        selection = None
        with collect(problems), self._at_keys():
            selection = select(
                file,
                q=analyzer.scattering.wavevector_q,
                phi_ranges=self._angle_ranges(),
                frames=(analyzer.start_frame, analyzer.end_frame),
                dt=analyzer.dt,
                dt_override=analyzer.dt_override,
                phi=root.experimental_data.phi_angles,
                mask_frames=masked,
            )
            problems += map(self._located, self._for_angles(selection))
        if problems or selection is None:
            raise InputError(problems)
        selection = replace(selection, notes=(*self.notes, *selection.notes))
        if root.has_flow and "phi0" not in held_values(root) and along_one_line(selection.phi):
            note = (
                "all angles lie along one line, so that phi0 and the shear rate come as a product: "
                "hold phi0 (initial_parameters.fixed_parameters), take more angles, or "
                "analysis_mode: static"
            )
            selection = replace(selection, notes=(*selection.notes, note))
        return selection

    def _angle_ranges(self) -> list[tuple[float, float]] | None:
        """Ranges of angles to use; None for all angles."""
        filtering, ends = self.root.phi_filtering, self.root.preprocessing.phi_range
        if ends is not None:
            return [(ends[0], ends[1])]
        ranges = [(each.min_angle, each.max_angle) for each in filtering.target_ranges]
        return ranges if filtering.enabled and ranges else None

    def _at_keys(self) -> AbstractContextManager[None]:
        """In an `InputError` of the block, replace names of arguments by keys of this file."""
        keys = dict(KEYS)
        if self.root.preprocessing.phi_range is not None:
            keys["phi_ranges"] = "preprocessing.phi_range"
        return rename_places({name: f"{self.path}: {key}" for name, key in keys.items()})

    def load_data(
        self, selection: Selection | None = None, progress: Progress = not_told
    ) -> TwoTimeData:
        """Read the selected data; `selection` is passed if it is known already."""
        selection, nlsq = selection or self.selection(), self.root.optimization.nlsq
        scratch = None if nlsq.scratch is None else Path(nlsq.scratch).expanduser()
        with self._at_keys():
            return selection.read(nlsq.memory, scratch, progress)

    def _contradictions(self) -> list[Problem]:
        """Questions about units, and keys that contradict each other."""
        return list(map(self._located, [*questions(self.root), *contradictions(self.root)]))

    def _problems_of_gap(self) -> Iterator[Problem]:
        """Whether the gap, which only a fit needs, is missing."""
        gap = self.root.analyzer_parameters.geometry.stator_rotor_gap
        for problem in gap_problems(FLOW, has_flow=self.root.has_flow, gap=gap):
            yield self._located(problem.renamed(KEYS))

    @property
    def anti_degeneracy(self) -> AntiDegeneracy:
        """How contrast and offset may differ, with the final mode and held values."""
        nlsq = self.root.optimization.nlsq
        constant, initial = {}, self.root.initial_parameters.per_angle_scaling
        for name in SCALING:
            constant[name] = getattr(nlsq.anti_degeneracy.constant, name) or getattr(initial, name)
        return nlsq.anti_degeneracy.in_force.model_copy(
            update={
                "per_angle_mode": nlsq.per_angle_mode,
                "constant": nlsq.anti_degeneracy.constant.model_copy(update=constant),
            }
        )

    def settings(self) -> FitSettings:
        """All settings of the fit."""
        from homodyne_fit.fitting.settings import FitSettings
        from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC

        root, nlsq = self.root, self.root.optimization.nlsq
        options: dict[str, Any] = {name: getattr(nlsq, name) for name in SearchOptions.model_fields}
        options["anti_degeneracy"] = self.anti_degeneracy
        options["constant_parts"] = constant_parts(root)
        with self._at_keys():
            return FitSettings(
                model=LAMINAR_FLOW if root.has_flow else STATIC,
                gap=root.analyzer_parameters.geometry.stator_rotor_gap,
                initial=start_values(root),
                fixed=held_values(root),
                bounds=explicit_bounds(root),
                shear=root.model.shear,
                search=SearchOptions(**options),
            )

    def posterior_settings(self) -> PosteriorSettings:
        """All settings of the posterior."""
        priors, _ = explicit_priors(self.root)
        return PosteriorSettings(self.root.optimization.mcmc, priors)

    def bounds_for(
        self, selection: Selection, names: Sequence[str] | None = None
    ) -> dict[str, Limits]:
        """Bounds that a fit keeps: those given, or what the measurement could resolve.

        Parameters
        ----------
        names : sequence of str, optional
            All parameters of the model, contrast and offset when None.
        """
        root = self.root
        return bounds_in_force(
            (*model_parameters(root), *SCALING) if names is None else names,
            q=selection.q,
            dt=selection.dt,
            n_frames=selection.n_frames,
            gap=root.analyzer_parameters.geometry.stator_rotor_gap,
            given=explicit_bounds(root),
            initial=start_values(root),
            fixed=held_values(root),
        )

    def _for_angles(self, selection: Selection) -> Iterator[Problem]:
        """Settings that are not possible with this number of angles."""
        keys = dict(KEYS)
        for name in SCALING:
            if getattr(self.root.initial_parameters.per_angle_scaling, name) is not None:
                key = f"initial_parameters.per_angle_scaling.{name}"
                keys[f"anti_degeneracy.constant.{name}"] = key
        if self.root.optimization.samples:
            for problem in self.root.optimization.mcmc.problems(len(selection.phi)):
                yield problem.renamed({"shards": "optimization.mcmc.shards"})
        scaling_bounds = self.bounds_for(selection, SCALING)
        for problem in self.anti_degeneracy.problems(len(selection.phi), scaling_bounds):
            yield problem.renamed(keys)

    def _located(self, problem: Problem) -> Problem:
        return problem.inside(str(self.path))

    def to_json(self) -> dict[str, Any]:
        """The contents, with default values."""
        return self.root.model_dump(mode="json", by_alias=True)


def load_config(path: Path | str, overrides: Sequence[Override] = ()) -> Config:
    """Read and validate a YAML file.

    Parameters
    ----------
    overrides : sequence of (str, value)
        As in `parse_config`.

    """
    path = Path(path)
    text, notes = _text_of(path)
    config = parse_config(text, path, overrides)
    return replace(config, notes=(*notes, *config.notes))


def parse_config(text: str, path: Path, overrides: Sequence[Override] = ()) -> Config:
    """Validate the text of a configuration.

    Parameters
    ----------
    path : Path
        Where the text is from, or will be.
    overrides : sequence of (str, value)
        Dotted paths of keys, and the values that replace those of the text.

    Raises
    ------
    InputError
        With one line for each mistake: the dotted path of the key, the value and what is allowed.
        Contradictions between keys are looked for only if each key and value is right.
    """
    config = _read(text, path, overrides)
    if problems := config._contradictions():
        raise InputError(problems)
    return config


def examine(path: Path, overrides: Sequence[Override] = ()) -> tuple[Config, Selection]:
    """Read a configuration and select from its data file; no matrix is read.

    Contradictions between keys and mistakes about the data are reported together.
    """
    text, notes = _text_of(path)
    config = _read(text, path, overrides)
    config = replace(config, notes=(*notes, *config.notes))
    problems = [*config._contradictions(), *config._problems_of_gap()]
    selection = None
    with collect(problems):
        selection = config.selection()
    if problems or selection is None:
        raise InputError(problems)
    return config, selection


def _read(text: str, path: Path, overrides: Sequence[Override]) -> Config:
    notes: list[str] = []
    try:
        root, foreign = read(text, overrides, notes)
    except InputError as error:
        raise error.inside(str(path)) from error
    return Config(path, root, foreign, tuple(notes))


def _text_of(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of a configuration, and a note if it is not in UTF-8 or UTF-16."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise missing_file(path) from None
    except OSError as error:
        raise InputError(
            f"{path}: the configuration cannot be read ({error.strerror or error})"
        ) from error
    decoded = decode_text(content)
    if decoded is None:
        raise InputError(
            f"{path}: a configuration is a text file, and this is none; for a data file, "
            "'homodyne_fit init' writes one"
        )
    text, encoding = decoded
    if encoding in UNICODE:
        return text, ()
    return text, (f"{path} is not in UTF-8, and is read as {encoding}",)
