import json
import os
from pathlib import Path
from typing import get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel

from homodyne_fit.config import load_config, parse_config
from homodyne_fit.config.consistency import contradictions, questions
from homodyne_fit.config.effects import WITHOUT_EFFECT
from homodyne_fit.config.keys import Root
from homodyne_fit.config.reading import KNOWN_PATHS, read
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.options import LAYERS, MultiStart
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC

GAP = "analyzer_parameters: {geometry: {stator_rotor_gap: 2000000}}\n"
DT, N, Q, PHI = 0.1, 12, (0.004, 0.0054), (0.0, 45.0, 90.0)


def parsed(text):
    return parse_config(text, Path("c.yaml"))


def settings(text):
    return parsed(GAP + text).settings()


def problems(text):
    with pytest.raises(InputError) as caught:
        parsed(text)
    return str(caught.value).splitlines()


def one_problem(text):
    (line,) = problems(text)
    return line


def nlsq(text):
    return f"optimization: {{nlsq: {{{text}}}}}\n"


def initial(text):
    return f"initial_parameters: {{{text}}}\n"


def bounds(text):
    return f"parameter_space: {{bounds: [{text}]}}\n"


# What a mistake in a value is called, by text of the file; all say where, and in one line.
MISTAKES = {
    "gap: a word": (
        "analyzer_parameters: {geometry: {stator_rotor_gap: two}}",
        "analyzer_parameters.geometry.stator_rotor_gap: a number is needed (got 'two')",
    ),
    "weighting: without the noise of which weights are made": (
        "optimization: {nlsq: {weighting: speckle, uncertainty: white}}",
        "optimization.nlsq.weighting: weights are made of the noise of speckles; take uncertainty: "
        "speckle, or weighting: none",
    ),
    "gap: yes is no number": (
        "analyzer_parameters: {geometry: {stator_rotor_gap: yes}}",
        "analyzer_parameters.geometry.stator_rotor_gap: a number is needed (got True)",
    ),
    "gap: a list": (
        "analyzer_parameters: {geometry: {stator_rotor_gap: [1]}}",
        "analyzer_parameters.geometry.stator_rotor_gap: a number is needed",
    ),
    "gap: in mm": (
        "analyzer_parameters: {geometry: {stator_rotor_gap: 0.2}}",
        "analyzer_parameters.geometry.stator_rotor_gap: a gap of 0.2 Å is not plausible; is it "
        "in another unit? 0.2 mm is 2e+06 Å; if it is in Å, set "
        "analyzer_parameters.units_confirmed: [stator_rotor_gap]",
    ),
    "gap: negative": (
        "analyzer_parameters: {geometry: {stator_rotor_gap: -1}}",
        "analyzer_parameters.geometry.stator_rotor_gap: must be greater than 0 (got -1)",
    ),
    "gap: not finite": (
        "analyzer_parameters: {geometry: {stator_rotor_gap: .nan}}",
        "analyzer_parameters.geometry.stator_rotor_gap: a finite number is needed (got nan)",
    ),
    "dt: zero": (
        "analyzer_parameters: {dt: 0}",
        "analyzer_parameters.dt: must be greater than 0 (got 0)",
    ),
    "frame: a fraction": (
        "analyzer_parameters: {end_frame: 10.5}",
        "analyzer_parameters.end_frame: a whole number is needed (got 10.5)",
    ),
    "frame: empty": (
        "analyzer_parameters: {end_frame: }",
        "analyzer_parameters.end_frame: a whole number is needed (got nothing)",
    ),
    "frames left out": (
        "analyzer_parameters: {frame_step: 2}",
        "analyzer_parameters.frame_step: must be 1 (got 2)",
    ),
    "true or false": (
        "analyzer_parameters: {dt_override: perhaps}",
        "analyzer_parameters.dt_override: true or false is needed (got 'perhaps')",
    ),
    "a number for a path": (
        "experimental_data: {file_path: 3}",
        "experimental_data.file_path: text is needed (got 3)",
    ),
    "a value for a section": (
        "experimental_data: data.h5",
        "experimental_data: a mapping of keys is needed (got 'data.h5')",
    ),
    "a list for a section": ("optimization: []", "optimization: a mapping of keys is needed"),
    "mode: unknown": (
        "analysis_mode: laminar",
        "analysis_mode: must be 'laminar_flow', 'static', 'static_isotropic' or "
        "'static_anisotropic' (got 'laminar'; did you mean 'laminar_flow'?)",
    ),
    "angle mode: unknown": (
        nlsq("anti_degeneracy: {per_angle_mode: single}"),
        "optimization.nlsq.anti_degeneracy.per_angle_mode: must be 'auto', 'individual', "
        "'averaged', 'constant', 'fourier', 'hierarchical' or 'sequential' (got 'single')",
    ),
    "a layer: unknown": (
        nlsq("anti_degeneracy: {regularisation: {enable: true}}"),
        "optimization.nlsq.anti_degeneracy.regularisation: there is no such key (did you mean "
        "'regularization'?)",
    ),
    "a layer: out of range": (
        nlsq("anti_degeneracy: {shear_weighting: {min_weight: 1.5}}"),
        "optimization.nlsq.anti_degeneracy.shear_weighting.min_weight: must be at most 1 (got 1.5)",
    ),
    "λ of a penalty": (
        nlsq("anti_degeneracy: {regularization: {lambda: 0}}"),
        "optimization.nlsq.anti_degeneracy.regularization.lambda: must be greater than 0 (got 0)",
    ),
    "held contrast": (
        nlsq("anti_degeneracy: {constant: {contrast: [0.3, high]}}"),
        "optimization.nlsq.anti_degeneracy.constant.contrast.1: a number is needed (got 'high')",
    ),
    "shear: unknown": (
        "model: {shear: xpcsjax}",
        "model.shear: must be 'documented' or 'homodyne' (got 'xpcsjax')",
    ),
    "iterations: none": (
        nlsq("max_iterations: 0"),
        "optimization.nlsq.max_iterations: must be greater than 0 (got 0)",
    ),
    "bounds: reversed": (
        bounds("{name: D0, min: 10, max: 1}"),
        "parameter_space.bounds.D0: the lower bound, 10, is not below the upper, 1",
    ),
    "bounds: equal": (
        bounds("{name: phi0, min: 1, max: 1}"),
        "parameter_space.bounds.phi0: the lower bound, 1, is not below the upper, 1",
    ),
    "bounds: unknown name": (
        bounds("{name: gama_dot_t0, min: 1, max: 2}"),
        "parameter_space.bounds.0.name: there is no parameter 'gama_dot_t0' "
        "(did you mean 'gamma_dot_t0'?)",
    ),
    "bounds: one missing": (
        bounds("{name: D0, min: 1}"),
        "parameter_space.bounds.0.max: this key is missing",
    ),
    "bounds: twice": (
        bounds("{name: beta, min: 0, max: 1}, {name: beta, min: 0, max: 2}"),
        "parameter_space.bounds: beta is given twice",
    ),
    "bounds: twice, once by its other name": (
        bounds("{name: gamma_dot_0, min: 0, max: 1}, {name: gamma_dot_t0, min: 0, max: 2}"),
        "parameter_space.bounds: gamma_dot_t0 is given twice",
    ),
    "bounds: a mapping": (
        "parameter_space: {bounds: {D0: [1, 2]}}",
        "parameter_space.bounds: a list is needed",
    ),
    "bounds: of nothing": (
        bounds("D0"),
        "parameter_space.bounds.0: a mapping of keys is needed (got 'D0')",
    ),
    "start: unknown name": (
        initial("values: {D_ofset: 1}"),
        "initial_parameters.values.D_ofset: there is no parameter 'D_ofset' "
        "(did you mean 'D_offset'?)",
    ),
    "start: unknown name in the list": (
        initial("parameter_names: [D0, alhpa], values: null"),
        "initial_parameters.parameter_names.1: there is no parameter 'alhpa' "
        "(did you mean 'alpha'?)",
    ),
    "start: too many": (
        initial("parameter_names: [D0, alpha], values: [1, 2, 3]"),
        "initial_parameters: values has 3 entries for 2 parameter_names",
    ),
    "start: no names": (
        initial("values: [1, 2, 3]"),
        "initial_parameters: values is a list, so parameter_names must be one too",
    ),
    "start: a name twice": (
        initial("parameter_names: [D0, D0], values: [1, 2]"),
        "initial_parameters: D0 is given twice",
    ),
    "start: a word": (
        initial("parameter_names: [D0], values: [fast]"),
        "initial_parameters.values.D0: a number is needed (got 'fast')",
    ),
    "start: one number": (
        initial("values: 3"),
        "initial_parameters.values: a mapping, 'name: value', is needed (got 3)",
    ),
    "fixed: unknown name": (
        initial("fixed_parameters: {aplha: 0}"),
        "initial_parameters.fixed_parameters.aplha: there is no parameter 'aplha' "
        "(did you mean 'alpha'?)",
    ),
    "fixed: no value": (
        initial("fixed_parameters: {alpha: }"),
        "initial_parameters.fixed_parameters.alpha: a number is needed (got nothing)",
    ),
    "fixed: a list": (
        initial("fixed_parameters: [alpha]"),
        "initial_parameters.fixed_parameters: a mapping, 'name: value', is needed",
    ),
    "fixed: the scaling": (
        initial("fixed_parameters: {contrast: 0.3}"),
        "initial_parameters.fixed_parameters.contrast: contrast and offset cannot be held fixed; "
        "narrow the bounds, or take the per_angle_mode 'constant'",
    ),
    "fixed and active": (
        initial("fixed_parameters: {beta: 0}, active_parameters: [D0, beta]"),
        "initial_parameters: beta is in active_parameters and in fixed_parameters",
    ),
    "active: unknown name": (
        initial("active_parameters: [D0, phi_0]"),
        "initial_parameters.active_parameters.1: there is no parameter 'phi_0' "
        "(did you mean 'phi0'?)",
    ),
    "active: no list": (
        initial("active_parameters: D0"),
        "initial_parameters.active_parameters: a list is needed (got 'D0')",
    ),
    "angles: one end": (
        "phi_filtering: {target_ranges: [{min_angle: 1}]}",
        "phi_filtering.target_ranges.0.max_angle: this key is missing",
    ),
    "angles: no list": (
        "phi_filtering: {target_ranges: {min_angle: 1, max_angle: 2}}",
        "phi_filtering.target_ranges: a list is needed",
    ),
    "angles: three ends": (
        "preprocessing: {phi_range: [1, 2, 3]}",
        "preprocessing.phi_range: two angles are needed, as [-10, 10] (got [1, 2, 3])",
    ),
    "angles: a word": (
        "experimental_data: {phi_angles: [0, north]}",
        "experimental_data.phi_angles.1: a number is needed (got 'north')",
    ),
}

# Texts that are no configuration at all.
NO_CONFIGURATION = {
    "empty": ("", "the configuration is empty; 'homodyne_fit init' writes one from a data file"),
    "only a comment": (
        "# nothing\n",
        "the configuration is empty; 'homodyne_fit init' writes one from a data file",
    ),
    "a list": ("- a\n- b\n", "a configuration is a mapping, 'key: value', not a list"),
    "a word": ("hello", "a configuration is a mapping, 'key: value', not a single value"),
    "an open bracket": (
        "output: [a\nmodel: b\n",
        "not valid YAML: line 2, column 6: expected ',' or ']', but got ':' "
        "(while parsing a flow sequence, line 1)",
    ),
    "a tab": (
        "output:\n\tdirectory: x\n",
        "not valid YAML: line 2, column 1: found character '\\t' that cannot start any token; "
        "indent with spaces",
    ),
    "uneven indents": (
        "analyzer_parameters:\n  dt: 1\n   end_frame: 2\n",
        "not valid YAML: line 3, column 13: mapping values are not allowed here",
    ),
    "a key twice": (
        "analyzer_parameters:\n  dt: 1\n  end_frame: 5\n  dt: 2\n",
        "not valid YAML: line 4, column 3: the key 'dt' is given twice",
    ),
    "no such day": (
        "metadata: {date: 2024-02-30}\n",
        "not valid YAML: day",
    ),
    "a scalar of another type": ("metadata: !!float x\n", "not valid YAML: could not convert"),
    "no date": ("metadata: !!timestamp x\n", "not valid YAML: "),
    "a control character": ("output: \x00\n", "not valid YAML: unacceptable character"),
    "an object of Python": (
        "output: !!python/object/apply:os.getcwd []\n",
        "not valid YAML: line 1, column 9: could not determine a constructor for the tag",
    ),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_says_where(text, message):
    assert one_problem(text) == f"c.yaml: {message}"


PRIOR = "optimization: {method: mcmc}\nparameter_space: {bounds: [{name: D0, min: 1, max: 9, %s}]}"

WRONG_PRIORS = {
    "type: Gamma": "type: must be Uniform, Normal, TruncatedNormal, LogNormal, BetaScaled (got "
    "'Gamma')",
    "type: LogNormal, prior_mu: 3": "prior_sigma is missing: a prior of type LogNormal needs it",
    "prior_mu: 3, prior_sigma: 0": "prior_sigma: must be greater than 0 (got 0)",
}


@pytest.mark.parametrize(("keys", "message"), WRONG_PRIORS.items(), ids=WRONG_PRIORS)
def test_a_wrong_prior_matters_to_the_posterior_alone(keys, message):
    text = f"analysis_mode: static\n{PRIOR % keys}"
    assert one_problem(text) == f"c.yaml: parameter_space.bounds.0: {message}"
    least_squares = text.replace("mcmc", "nlsq")
    assert "parameter_space.bounds" in " ".join(parsed(least_squares).ignored)


def test_shards_of_time_are_refused_with_the_reason():
    problem = one_problem("optimization: {mcmc: {shard_by: time}}")
    assert problem.startswith("c.yaml: optimization.mcmc.shard_by: frames cannot be shared out: ")


@pytest.mark.parametrize(("text", "message"), NO_CONFIGURATION.values(), ids=NO_CONFIGURATION)
def test_what_is_no_configuration_says_why_in_one_line(text, message):
    assert one_problem(text).startswith(f"c.yaml: {message}")


def test_every_mistake_has_a_line_of_its_own():
    lines = problems(
        "analysismode: static\n"
        "analyzer_parameters: {dt: fast, scattering: {wavevectr_q: 1}}\n"
        "parameter_space: {bounds: [{name: D1, min: 2, max: x}]}\n"
    )
    assert lines == [
        "c.yaml: analysismode: there is no such key (did you mean 'analysis_mode'?)",
        "c.yaml: analyzer_parameters.scattering.wavevectr_q: there is no such key "
        "(did you mean 'wavevector_q'?)",
        "c.yaml: analyzer_parameters.dt: a number is needed (got 'fast')",
        "c.yaml: parameter_space.bounds.0.name: there is no parameter 'D1'; there are D0, alpha, "
        "D_offset, gamma_dot_t0, beta, gamma_dot_t_offset, phi0, contrast, offset",
        "c.yaml: parameter_space.bounds.0.max: a number is needed (got 'x')",
    ]


def sections(model=Root, path="", wrap=lambda inner: inner):
    """Every section of the configuration: dotted path, its model, and text around its keys."""
    yield path, model, wrap
    for key, field in model.model_fields.items():
        annotation = field.annotation
        is_list = get_origin(annotation) is list
        inner = get_args(annotation)[0] if is_list else annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):

            def around(text, key=key, is_list=is_list, wrap=wrap):
                return wrap(f"{key}: [{{{text}}}]" if is_list else f"{key}: {{{text}}}")

            yield from sections(inner, f"{path}.{key}" if path else key, around)


ALL_KEYS = [
    pytest.param(path, key, wrap, id=f"{path}.{key}" if path else key)
    for path, model, wrap in sections()
    for key in (field.alias or name for name, field in model.model_fields.items())
    if len(key) > 3  # of two or three letters, another may be as near
]


@pytest.mark.parametrize(("section", "key", "wrap"), ALL_KEYS)
def test_a_misspelt_key_gets_the_nearest_name(section, key, wrap):
    misspelt = key[:2] + key[3:]
    where = f"{section}.{misspelt}" if section else misspelt
    expected = f"c.yaml: {where}: there is no such key (did you mean '{key}'?)"
    assert expected in problems(wrap(f"{misspelt}: 1"))


ODD = (
    *("", "true", "3", "-1", "x", "1e400", ".nan", "0x10", "2024-02-03", "'1e3'"),
    *("[]", "[1, a]", "[[1]]", "[~]", "[{}]", "[{name: D0}]", "[true, 1]"),
    *("{}", "{a: 1}", "{3: 4}", "{~: 1}", "{D0: }", "!!set {a}"),
)


@pytest.mark.parametrize("path", KNOWN_PATHS)
def test_whatever_a_key_is_given_is_read_or_named_in_one_line(path):
    *outer, key = path.split(".")
    for value in ODD:
        text = f"{key}: {value}"
        for section in reversed(outer):
            listed = section in ("bounds", "target_ranges")
            text = f"{section}: [{{{text}}}]" if listed else f"{section}: {{{text}}}"
        try:
            root, _ = read(text)
            problems_of_value = [*questions(root), *contradictions(root)]
        except InputError as error:
            problems_of_value = error.problems
        for problem in problems_of_value:
            assert problem.where.startswith(path.partition(".")[0])
            assert problem.what
            assert "\n" not in problem.what


def test_defaults_are_those_of_an_empty_section():
    assert parsed("analysis_mode: laminar_flow").root == Root()
    assert parsed("".join(f"{key}:\n" for key in Root.model_fields if key != "analysis_mode")).root
    assert parsed("phi_filtering: {target_ranges: }\noutput:\n").root == Root()


def test_numbers_with_an_exponent_need_no_point():
    # YAML 1.1 takes 2e6 for text.
    analyzer = parsed(
        "analyzer_parameters: {dt: 1e-3, geometry: {stator_rotor_gap: 2e6}}"
    ).root.analyzer_parameters
    assert analyzer.dt == 1e-3
    assert analyzer.geometry.stator_rotor_gap == 2e6


def test_merged_mappings_are_not_taken_for_keys_given_twice():
    config = parsed(
        "metadata: {a: &base {start_frame: 3, end_frame: 9}, b: &more {<<: *base, end_frame: 8}}\n"
        "analyzer_parameters: {<<: *more, end_frame: 7}\n"
    )
    analyzer = config.root.analyzer_parameters
    assert (analyzer.start_frame, analyzer.end_frame) == (3, 7)


def test_what_was_understood_can_be_written_as_json():
    described = parsed(
        GAP + initial("values: {gamma_dot_0: 1e-3}") + bounds("{name: D0, min: 1, max: 2}")
    ).to_json()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["initial_parameters"]["values"] == {"gamma_dot_t0": 1e-3}
    assert Root.model_validate(described).model_dump(mode="json", by_alias=True) == described


class TestReading:
    def test_a_file(self, tmp_path):
        path = tmp_path / "c.yaml"
        path.write_text("﻿analysis_mode: static\r\n", encoding="utf-8")
        config = load_config(path)
        assert config.path == path
        assert config.root.analysis_mode == "static"

    def test_no_file(self, tmp_path):
        (tmp_path / "fit.yaml").touch()
        with pytest.raises(InputError, match=r"no such file \(did you mean 'fit\.yaml'\?\)"):
            load_config(tmp_path / "fits.yaml")
        with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
            load_config(tmp_path / "nowhere" / "fit.yaml")
        with pytest.raises(InputError, match=r"the configuration cannot be read \(Is"):
            load_config(tmp_path)

    def test_no_text(self, tmp_path):
        (tmp_path / "c.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
        with pytest.raises(InputError, match="is a text file, and this is none"):
            load_config(tmp_path / "c.h5")


FOREIGN = [(path.rpartition(".")[0], path.rpartition(".")[2]) for path in sorted(WITHOUT_EFFECT)]


class TestForeignKeys:
    @staticmethod
    def nested(section, key):
        """A configuration that has the key in the section, and its dotted path."""
        value = {key: 1}
        for part in reversed([*section.split(".")] if section else []):
            value = {part: [value] if part in ("bounds", "target_ranges") else value}
        return json.dumps(value), f"{section}.{key}" if section else key

    @pytest.mark.parametrize(("section", "key"), FOREIGN, ids=map(".".join, FOREIGN))
    def test_each_is_accepted_and_named(self, section, key):
        text, path = self.nested(section, key)
        if section.endswith(("bounds", "target_ranges")):
            entry = (
                "name: D0, min: 1, max: 2" if "bounds" in section else "min_angle: 1, max_angle: 2"
            )
            text = text.replace("[{", "[{" + entry + ", ")
        config = parsed(text)
        assert config.foreign == ((path, WITHOUT_EFFECT[path]),)
        assert path in config.ignored

    def test_none_is_a_key_that_is_used(self):
        used = {
            (f"{path}.{key}" if path else key)
            for path, model, _ in sections()
            for key in (field.alias or name for name, field in model.model_fields.items())
        }
        named = {f"{section}.{key}" if section else key for section, key in FOREIGN}
        assert not used & named

    def test_one_in_many_entries_is_named_once(self):
        entries = "{name: D0, min: 1, max: 2, unit: a}, {name: beta, min: 1, max: 2, unit: b}"
        assert parsed(bounds(entries)).ignored == ("parameter_space.bounds.unit",)

    def test_none_is_foreign_in_another_section(self):
        assert "workflow: there is no such key" in one_problem("workflow: auto")
        assert "output.workflow: there is no such key" in one_problem("output: {workflow: auto}")


class TestWithoutEffect:
    @pytest.mark.parametrize(
        ("text", "named"),
        [
            (initial("values: {contrast: 0.3, D0: 1000}"), ["initial_parameters.values.contrast"]),
            (
                initial("values: {D0: 1000}, fixed_parameters: {D0: 2000}"),
                ["initial_parameters.values.D0"],
            ),
            (
                nlsq("per_angle_scaling: true, anti_degeneracy: {per_angle_mode: averaged}"),
                ["optimization.nlsq.per_angle_scaling"],
            ),
            (
                "experimental_data: {file_path: a, data_folder_path: b, data_file_name: c}",
                ["experimental_data.data_folder_path", "experimental_data.data_file_name"],
            ),
            (
                initial("parameter_names: [D0], values: null"),
                ["initial_parameters.parameter_names"],
            ),
            (
                initial("per_angle_scaling: {contrast: [0.3], offset: null}"),
                ["initial_parameters.per_angle_scaling.contrast"],
            ),
            (
                nlsq("anti_degeneracy: {fourier_order: 1, constant: {offset: 1}}"),
                [
                    "optimization.nlsq.anti_degeneracy.constant.offset",
                    "optimization.nlsq.anti_degeneracy.fourier_order",
                ],
            ),
            (
                nlsq("multi_start: {enable: false, n_starts: 5, seed: 1}"),
                ["optimization.nlsq.multi_start.n_starts", "optimization.nlsq.multi_start.seed"],
            ),
            (
                nlsq("anti_degeneracy: {regularization: {enable: false, lambda: 2}}"),
                ["optimization.nlsq.anti_degeneracy.regularization.lambda"],
            ),
            (
                nlsq("anti_degeneracy: {enable: false, shear_weighting: {enable: true}}"),
                ["optimization.nlsq.anti_degeneracy.shear_weighting"],
            ),
            (
                "phi_filtering: {enabled: false, target_ranges: [{min_angle: 1, max_angle: 2}]}",
                ["phi_filtering.target_ranges"],
            ),
            (
                "analysis_mode: static\nmodel: {shear: homodyne}\n" + GAP,
                ["analyzer_parameters.geometry.stator_rotor_gap", "model.shear"],
            ),
            (
                "analysis_mode: static\n"
                + initial(
                    "values: {beta: 0}, fixed_parameters: {phi0: 0}, "
                    "active_parameters: [D0, alpha, D_offset, gamma_dot_t0, contrast]"
                )
                + bounds("{name: D0, min: 1, max: 2}, {name: gamma_dot_0, min: 1, max: 2}"),
                [
                    "initial_parameters.values.beta",
                    "initial_parameters.fixed_parameters.phi0",
                    "initial_parameters.active_parameters.gamma_dot_t0",
                    "parameter_space.bounds.gamma_dot_t0",
                ],
            ),
        ],
    )
    def test_is_named(self, text, named):
        config = parsed(text)
        assert list(config.ignored) == named
        assert all(reason and reason[-1] != "." for _, reason in config.without_effect)
        if "static" in text:
            config.settings()

    @pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
    def test_robust_losses_of_other_programs(self, loss):
        config = parsed(nlsq(f"loss: {loss}"))
        paths = [path for path, _ in config.without_effect]
        assert ("optimization.nlsq.loss" in paths) == (loss != "linear")

    def test_nothing_is_named_without_reason(self):
        text = "analysis_mode: laminar_flow\noptimization: {nlsq: {per_angle_scaling: false}}\n"
        assert parsed(GAP + text).ignored == ()


class TestSettings:
    def test_defaults(self):
        found = settings("")
        assert found.model is LAMINAR_FLOW
        assert found.gap == 2e6
        assert (found.initial, found.fixed, found.bounds) == ({}, {}, {})
        assert found.search.anti_degeneracy.per_angle_mode == "auto"
        assert found.search.multi_start == MultiStart()
        assert found.shear == "documented"
        assert found.search.threads is None

    @pytest.mark.parametrize("mode", ["static", "static_isotropic", "static_anisotropic"])
    def test_static_modes_need_no_gap(self, mode):
        found = parsed(f"analysis_mode: {mode}").settings()
        assert found.model is STATIC
        assert found.gap is None

    def test_flow_needs_a_gap(self):
        with pytest.raises(
            InputError, match="stator_rotor_gap: no value is given: laminar_flow needs"
        ):
            parsed("analysis_mode: laminar_flow").settings()

    def test_start_values_by_name_or_in_a_list(self):
        by_name = settings(initial("values: {D0: 2000, beta: 0.5}"))
        listed = settings(initial("parameter_names: [beta, alpha, D0], values: [0.5, null, 2000]"))
        assert by_name.initial == listed.initial == {"D0": 2000, "beta": 0.5}

    def test_an_alias_is_the_parameter(self):
        found = settings(
            initial("values: {gamma_dot_0: 1e-3}")
            + bounds("{name: gamma_dot_0, min: 1e-4, max: 1e-2}")
        )
        assert found.initial == {"gamma_dot_t0": 1e-3}
        assert found.bounds == {"gamma_dot_t0": (1e-4, 1e-2)}
        assert settings(initial("fixed_parameters: {gamma_dot_0: 1}")).fixed == {"gamma_dot_t0": 1}
        listed = settings(initial("parameter_names: [gamma_dot_0], values: [0.002]"))
        assert listed.initial == {"gamma_dot_t0": 0.002}

    def test_fixed_parameters(self):
        found = settings(initial("fixed_parameters: {D_offset: 5}, values: {D_offset: 1, beta: 1}"))
        assert found.fixed == {"D_offset": 5}
        assert found.initial == {"beta": 1}

    def test_what_is_not_active_is_held_at_its_value(self):
        names = "D0, alpha, gamma_dot_0, phi0"
        found = settings(
            initial(
                f"active_parameters: [{names}], fixed_parameters: {{beta: 0.2}}, "
                "values: {D0: 2000, D_offset: 7, gamma_dot_t_offset: 0}"
            )
        )
        assert found.fixed == {"beta": 0.2, "D_offset": 7, "gamma_dot_t_offset": 0}
        assert found.initial == {"D0": 2000}

    def test_what_is_not_active_needs_a_value(self):
        with pytest.raises(
            InputError, match="held, and need a value: alpha, D_offset, gamma_dot_t0"
        ):
            settings(initial("active_parameters: [D0]"))

    def test_bounds(self):
        found = settings(bounds("{name: D0, min: 1, max: 9}, {name: contrast, min: 0.1, max: 0.2}"))
        in_force = found.bounds_for(0.0054, 0.1, 100)
        assert in_force["D0"] == (1, 9)
        assert in_force["contrast"] == (0.1, 0.2)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                initial("values: {D0: 50}") + bounds("{name: D0, min: 100, max: 1e5}"),
                "the start of D0, 50, is outside its bounds, 100 to",
            ),
            (initial("values: {gamma_dot_0: -1}"), "the start of gamma_dot_t0, -1, is not above 0"),
            (initial("values: {D_offset: -2e30}"), r"the start of D_offset, -2e\+30, is beyond"),
            (initial("values: {phi0: 12}"), "the start of phi0, 12, is outside its bounds, -10 to"),
            (
                initial("values: {beta: 0.5}") + bounds("{name: beta, min: 0, max: 0.4}"),
                "the start of beta, 0.5, is outside its bounds, 0 to 0.4",
            ),
        ],
    )
    def test_a_start_outside_its_bounds(self, text, message):
        with pytest.raises(
            InputError, match=rf"c.yaml: initial_parameters\.values\.\w+: {message}"
        ):
            settings(text)

    @pytest.mark.parametrize(
        ("text", "mode"),
        [
            ("", "auto"),
            ("per_angle_scaling: true", "auto"),
            ("per_angle_scaling: false", "averaged"),
            ("anti_degeneracy: {per_angle_mode: averaged}", "averaged"),
            (
                "per_angle_scaling: false, anti_degeneracy: {per_angle_mode: individual}",
                "individual",
            ),
        ],
    )
    def test_scaling_mode(self, text, mode):
        assert settings(nlsq(text)).search.anti_degeneracy.per_angle_mode == mode

    def test_layers(self):
        found = settings(
            nlsq(
                "anti_degeneracy: {per_angle_mode: fourier, fourier_order: 1, "
                "constant: {contrast: 0.3}, hierarchical: {enable: false}, "
                "regularization: {enable: true, mode: relative}, "
                "gradient_monitoring: {response: hierarchical}, shear_weighting: {enable: true}}"
            )
        ).search.anti_degeneracy
        assert (found.per_angle_mode, found.fourier_order) == ("fourier", 1)
        assert found.constant.contrast == [0.3]
        assert not found.hierarchical.enable
        assert found.regularization.mode == "cv"
        assert found.regularization.weight == pytest.approx(10.0)
        assert found.gradient_monitoring.response == "restart"
        assert found.shear_weighting.enable

    @pytest.mark.parametrize(
        "text",
        [
            nlsq("anti_degeneracy: {per_angle_mode: constant}")
            + initial("per_angle_scaling: {contrast: [0.3, 0.4], offset: 1.01}"),
            nlsq("anti_degeneracy: {per_angle_mode: constant, constant: {contrast: [0.3, 0.4]}}")
            + initial("per_angle_scaling: {contrast: null, offset: [1.01]}"),
        ],
    )
    def test_values_that_the_mode_constant_holds(self, text):
        constant = settings(text).search.anti_degeneracy.constant
        assert (constant.contrast, constant.offset) == ([0.3, 0.4], [1.01])
        assert parsed(GAP + text).ignored == ()

    def test_other_modes_hold_none(self):
        found = settings(
            initial("per_angle_scaling: {contrast: [0.3, 0.4]}")
        ).search.anti_degeneracy
        assert found.per_angle_mode == "auto"

    def test_layers_are_off_where_the_section_is(self):
        found = settings(
            nlsq("anti_degeneracy: {enable: false, shear_weighting: {enable: true, alpha: 2}}")
        ).search.anti_degeneracy
        assert found.per_angle_mode == "auto"
        for name in LAYERS:
            assert getattr(found, name).enable is False

    def test_weighting(self):
        assert settings("").search.weighting == "none"
        assert settings(nlsq("weighting: speckle")).search.weighting == "speckle"

    def test_how_to_search(self):
        found = settings(
            nlsq(
                "multi_start: {enable: false}, max_iterations: 7, "
                "standard_error_tolerance: 0.01, threads: 3"
            )
            + "model: {shear: homodyne}"
        )
        assert not found.search.multi_start.enable
        assert found.search.max_nfev == 7
        assert found.search.tolerance == 0.01
        assert found.search.threads == 3
        assert found.shear == "homodyne"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    c2 = 1 + rng.random((len(Q) * len(PHI), N, N))
    write_aps_u(folder / "data.h5", c2, Q, PHI, np.arange(len(c2)), DT)
    write_array(folder / "three.npz", c2[:3] + np.swapaxes(c2[:3], 1, 2))
    return folder


class TestData:
    @staticmethod
    def load(folder, text, name="data.h5", q=0.0054):
        path = folder / "c.yaml"
        path.write_text(
            f"{text}\nexperimental_data: {{file_path: {name}}}\n"
            if "experimental_data" not in text
            else text
        )
        config = load_config(path)
        return config.load_data()

    analyzer = "analyzer_parameters: {{scattering: {{wavevector_q: 0.0054}}, {}}}"

    def test_wave_vector(self, folder):
        for q in Q:
            data = self.load(folder, f"analyzer_parameters: {{scattering: {{wavevector_q: {q}}}}}")
            np.testing.assert_allclose(data.q, q)
            assert data.phi.tolist() == list(PHI)

    @pytest.mark.parametrize(
        ("text", "phi"),
        [
            ("phi_filtering: {target_ranges: [{min_angle: 40, max_angle: 50}]}", [45]),
            ("phi_filtering: {target_ranges: [{min_angle: -10, max_angle: 50}]}", [0, 45]),
            ("phi_filtering: {target_ranges: [{min_angle: 350, max_angle: 10}]}", [0]),
            (
                "phi_filtering: {target_ranges: [{min_angle: 80, max_angle: 91}, "
                "{min_angle: -1, max_angle: 1, description: along}]}",
                [0, 90],
            ),
            (
                "phi_filtering: {enabled: false, target_ranges: [{min_angle: 1, max_angle: 2}]}",
                [0, 45, 90],
            ),
            ("phi_filtering: {enabled: true}", [0, 45, 90]),
            ("preprocessing: {phi_range: [30, 100]}", [45, 90]),
            ("preprocessing: {phi_range: null}", [0, 45, 90]),
        ],
    )
    def test_angles(self, folder, text, phi):
        assert self.load(folder, self.analyzer.format("") + "\n" + text).phi.tolist() == phi

    def test_angles_chosen_twice(self, folder):
        with pytest.raises(InputError, match="both select angles; keep one"):
            self.load(
                folder,
                "preprocessing: {phi_range: [0, 1]}\n"
                "phi_filtering: {target_ranges: [{min_angle: 0, max_angle: 1}]}",
            )

    def test_frames(self, folder):
        whole = self.load(folder, self.analyzer.format(""))
        part = self.load(folder, self.analyzer.format("start_frame: 3, end_frame: 8"))
        assert part.n_frames == 6
        np.testing.assert_array_equal(part.c2, whole.c2[:, 2:8, 2:8])

    def test_frame_time(self, folder):
        assert self.load(folder, self.analyzer.format(f"dt: {DT}")).dt == DT
        with pytest.raises(
            InputError,
            match=r"analyzer_parameters\.dt: .*: 0.5 s is given, .* says 0.1 s.*dt_override",
        ):
            self.load(folder, self.analyzer.format("dt: 0.5"))
        assert self.load(folder, self.analyzer.format("dt: 0.5, dt_override: true")).dt == 0.5

    def test_what_an_array_does_not_say(self, folder):
        data = self.load(
            folder,
            self.analyzer.format("dt: 0.25")
            + "\nexperimental_data: {file_path: three.npz, phi_angles: [10, 20, 30]}",
        )
        assert data.dt == 0.25
        assert data.phi.tolist() == [10, 20, 30]
        np.testing.assert_array_equal(data.q, 0.0054)

    def test_folder_and_name(self, folder):
        data = self.load(
            folder,
            self.analyzer.format("")
            + f"\nexperimental_data: {{data_folder_path: {folder}, data_file_name: data.h5}}",
        )
        assert data.source == str(folder / "data.h5")


class TestPath:
    @staticmethod
    def data_path(config, text):
        config.write_text(f"experimental_data: {{{text}}}")
        return load_config(config).data_path

    def test_starts_at_the_configuration(self, tmp_path, monkeypatch):
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path)
        for name in ("data.h5", "sub/data.h5"):
            (tmp_path / name).touch()
        config = tmp_path / "sub" / "c.yaml"
        assert self.data_path(config, "file_path: data.h5") == config.parent / "data.h5"

    def test_or_else_here(self, tmp_path, monkeypatch):
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data.h5").touch()
        assert self.data_path(tmp_path / "sub" / "c.yaml", "file_path: data.h5") == Path("data.h5")

    def test_a_missing_file_is_missed_beside_the_configuration(self, tmp_path):
        config = tmp_path / "c.yaml"
        assert self.data_path(config, "file_path: data.h5") == tmp_path / "data.h5"

    @pytest.mark.skipif(os.name != "posix", reason="the home folder of POSIX")
    def test_may_start_at_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        config = tmp_path / "c.yaml"
        home = tmp_path / "home" / "data.h5"
        assert self.data_path(config, "file_path: ~/data.h5") == home
        assert self.data_path(config, "data_folder_path: '~', data_file_name: data.h5") == home

    def test_is_needed(self, tmp_path):
        with pytest.raises(InputError, match=r"experimental_data\.file_path is missing"):
            self.data_path(tmp_path / "c.yaml", "data_folder_path: here")
