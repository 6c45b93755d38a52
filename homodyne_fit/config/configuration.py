"""A configuration file: what it says, and the objects that a fit works with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homodyne_fit.config.consistency import (
    bounds,
    held,
    model_parameters,
    questions_of_file,
    starts,
)
from homodyne_fit.config.effects import Ignored, without_effect
from homodyne_fit.config.keys import FLOW, KEYS, Root
from homodyne_fit.config.overrides import Override
from homodyne_fit.config.reading import read
from homodyne_fit.data.selection import Selection
from homodyne_fit.errors import (
    InputError,
    Problem,
    collect,
    missing_file,
    rename_places,
    unexplained,
)
from homodyne_fit.fitting.default_bounds import Limits, bounds_in_force
from homodyne_fit.fitting.options import AntiDegeneracy, SearchOptions, gap_problems
from homodyne_fit.model.parameters import SCALING

if TYPE_CHECKING:
    from homodyne_fit.data.dataset import TwoTimeData
    from homodyne_fit.data.selection import Selection
    from homodyne_fit.fitting.settings import FitSettings

__all__ = ["Config", "load_config", "parse_config", "text_of", "examine"]


# Sections that say what is taken from the data file, and one among them that does not.
ABOUT_DATA = ("analyzer_parameters", "experimental_data", "phi_filtering", "preprocessing")

ABOUT_MODEL = "analyzer_parameters.geometry"


@dataclass(frozen=True)
class Config:
    """A configuration file.

    Attributes
    ----------
    path : Path
    root : Root
        Its contents.
    foreign : tuple of Ignored
        Keys that have a meaning in other programs only, and why they have none here.
    """

    path: Path
    root: Root
    foreign: tuple[Ignored, ...]

    @property
    def without_effect(self) -> tuple[Ignored, ...]:
        """Everything that has no effect, and why."""
        return (*self.foreign, *without_effect(self.root))

    @property
    def ignored(self) -> tuple[str, ...]:
        """Dotted paths of everything that has no effect."""
        return tuple(path for path, _ in self.without_effect)

    @property
    def data_path(self) -> Path:
        """The data file: relative paths start at the configuration's folder, else here."""
        path = self.root.experimental_data.path
        if path is None:
            raise InputError(f"{self.path}: experimental_data.file_path is missing")
        return self._found(path)

    @property
    def output_folder(self) -> Path:
        """Where results go: the folder that the file names, or ``<configuration>_results``."""
        if named := self.root.output.directory:
            return Path(named).expanduser()
        return self.path.with_name(f"{self.path.stem}_results")

    @property
    def masked_frames(self) -> tuple[int, ...]:
        """Frames to leave out, counted from 1: those listed, or those of the file named."""
        from homodyne_fit.data.loading import read_frame_list

        mask = self.root.experimental_data.mask_frames
        if isinstance(mask, str):
            try:
                return read_frame_list(self._found(Path(mask).expanduser()))
            except InputError as error:
                text = f"{error}; frames themselves are a list, as [17, 18]"
                raise InputError(
                    [Problem(f"{self.path}: experimental_data.mask_frames", text)]
                ) from error
        return mask or ()

    def _found(self, path: Path) -> Path:
        beside = self.path.parent / path
        return beside if beside.exists() or not path.exists() else path

    def selection(self) -> Selection:
        """What the configuration selects from the data file; no matrix is read.

        Raises
        ------
        InputError
            If the file, or what is asked of it, cannot be used; one line for each mistake.
        """
        from homodyne_fit.data.dataset import along_one_line
        from homodyne_fit.data.formats import open_two_time
        from homodyne_fit.data.selection import select

        path = self.data_path
        try:
            file = open_two_time(path)
        except InputError as error:
            raise error.inside(f"{self.path}: experimental_data.file_path") from error
        analyzer, root = self.root.analyzer_parameters, self.root
        problems = list(map(self._located, questions_of_file(root, file)))
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
        if problems:
            raise InputError(problems)
        assert selection is not None
        if root.has_flow and "phi0" not in held(root) and along_one_line(selection.phi):
            note = (
                "all angles lie along one line, so that phi0 and the shear rate come as a product: "
                "hold phi0 (initial_parameters.fixed_parameters), take more angles, or "
                "analysis_mode: static"
            )
            selection = replace(selection, notes=(*selection.notes, note))
        return selection

    def _angle_ranges(self) -> list[tuple[float, float]] | None:
        """Ranges of the angles to use; None for all angles."""
        filtering, ends = self.root.phi_filtering, self.root.preprocessing.phi_range
        if ends is not None:
            return [(ends[0], ends[1])]
        ranges = [(each.min_angle, each.max_angle) for each in filtering.target_ranges]
        return ranges if filtering.enabled and ranges else None

    def _at_keys(self) -> AbstractContextManager[None]:
        """Name the keys of this file in an `InputError` that names arguments or fields."""
        keys = dict(KEYS)
        if self.root.preprocessing.phi_range is not None:
            keys["phi_ranges"] = "preprocessing.phi_range"
        return rename_places({name: f"{self.path}: {key}" for name, key in keys.items()})

    def load_data(self, selection: Selection | None = None) -> TwoTimeData:
        """Read what the configuration selects, or has selected already."""
        selection, nlsq = selection or self.selection(), self.root.optimization.nlsq
        scratch = None if nlsq.scratch is None else Path(nlsq.scratch).expanduser()
        with self._at_keys():
            return selection.read(nlsq.memory, scratch)

    def problems(self) -> Iterator[Problem]:
        """What keeps the configuration from being fitted, besides what `parse_config` finds."""
        gap = self.root.analyzer_parameters.geometry.stator_rotor_gap
        for problem in gap_problems(FLOW, has_flow=self.root.has_flow, gap=gap):
            yield problem.renamed(KEYS)

    @property
    def anti_degeneracy(self) -> AntiDegeneracy:
        """How contrast and offset may differ, with the mode and the held values in force."""
        nlsq = self.root.optimization.nlsq
        given, constant = self.root.initial_parameters.per_angle_scaling, {}
        for name in SCALING:
            constant[name] = getattr(nlsq.anti_degeneracy.constant, name) or getattr(given, name)
        return nlsq.anti_degeneracy.in_force.model_copy(
            update={
                "per_angle_mode": nlsq.per_angle_mode,
                "constant": nlsq.anti_degeneracy.constant.model_copy(update=constant),
            }
        )

    def settings(self) -> FitSettings:
        """Everything but the data.

        Raises
        ------
        InputError
            If something is missing that the model needs.
        """
        from homodyne_fit.fitting.settings import FitSettings
        from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC

        root, nlsq = self.root, self.root.optimization.nlsq
        options: dict[str, Any] = {name: getattr(nlsq, name) for name in SearchOptions.model_fields}
        options["anti_degeneracy"] = self.anti_degeneracy
        with self._at_keys():
            return FitSettings(
                model=LAMINAR_FLOW if root.has_flow else STATIC,
                gap=root.analyzer_parameters.geometry.stator_rotor_gap,
                initial=starts(root),
                fixed=held(root),
                bounds=bounds(root),
                shear=root.model.shear,
                search=SearchOptions(**options),
            )

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
            given=bounds(root),
            initial=starts(root),
            fixed=held(root),
        )

    def _for_angles(self, selection: Selection) -> Iterator[Problem]:
        """What the number of angles does not allow."""
        keys = dict(KEYS)
        for name in SCALING:
            if getattr(self.root.initial_parameters.per_angle_scaling, name) is not None:
                key = f"initial_parameters.per_angle_scaling.{name}"
                keys[f"anti_degeneracy.constant.{name}"] = key
        scaling_bounds = self.bounds_for(selection, SCALING)
        for problem in self.anti_degeneracy.problems(len(selection.phi), scaling_bounds):
            yield problem.renamed(keys)

    def _located(self, problem: Problem) -> Problem:
        return problem.inside(str(self.path))

    def to_json(self) -> dict[str, Any]:
        """The configuration as it was understood, defaults included."""
        return self.root.model_dump(mode="json", by_alias=True)


def load_config(path: Path | str, overrides: Sequence[Override] = ()) -> Config:
    """Read and validate a YAML file.

    Parameters
    ----------
    overrides : sequence of (str, value)
        As in `parse_config`.

    Raises
    ------
    InputError
        If the file cannot be read or holds mistakes; see `parse_config`.
    """
    path = Path(path)
    return parse_config(text_of(path), path, overrides)


def parse_config(text: str, path: Path, overrides: Sequence[Override] = ()) -> Config:
    """Validate the text of a configuration.

    Parameters
    ----------
    path : Path
        Where the text is from, or will be.
    overrides : sequence of (str, value)
        Dotted paths of keys, and the values that they get in place of those of the text.

    Raises
    ------
    InputError
        If there are mistakes; the message has one line for each, with the dotted path of the
        key, the value and what is allowed.
    """
    reading = read(text, overrides)
    if reading.root is None or reading.problems:
        raise InputError(problem.inside(str(path)) for problem in reading.problems)
    return Config(path, reading.root, reading.foreign)


def text_of(path: Path) -> str:
    """Read a text file.

    Raises
    ------
    InputError
        If it cannot be read, or is none.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing_file(path) from None
    except OSError as error:
        raise InputError(
            f"{path}: the configuration cannot be read ({error.strerror or error})"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: a configuration is a text file, and this is none; for a data file, "
            "'homodyne_fit init' writes one"
        ) from error


def examine(path: Path, overrides: Sequence[Override] = ()) -> tuple[Config, Selection]:
    """Read a configuration and what it selects; no matrix is read.

    Parameters
    ----------
    overrides : sequence of (str, value)
        As in `parse_config`.

    Raises
    ------
    InputError
        If there are mistakes, in the text, between its keys, or in view of the data file. The
        message has one line for each.
    """
    reading = read(text_of(path), overrides)
    problems = [problem.inside(str(path)) for problem in reading.problems]
    if reading.root is None:
        raise InputError(problems)
    config = Config(path, reading.root, reading.foreign)
    missing = unexplained(config.problems(), reading.doubtful)
    problems += [problem.inside(str(path)) for problem in missing]
    selection = None
    doubtful = [key for key in reading.doubtful if not key.startswith(ABOUT_MODEL)]
    if not any(key.startswith(ABOUT_DATA) for key in doubtful):
        with collect(problems):
            selection = config.selection()
    if problems:
        raise InputError(problems)
    assert selection is not None
    return config, selection
