"""The schema for editors accepts what the reader accepts."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from homodyne_fit.cli import main
from homodyne_fit.config import parse_config
from homodyne_fit.config.effects import WITHOUT_EFFECT
from homodyne_fit.config.keys import Root
from homodyne_fit.config.schema import json_schema
from homodyne_fit.config.template import configuration
from homodyne_fit.data.formats.plain_array import write_array
from homodyne_fit.errors import InputError

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

GOOD = [
    "analysis_mode: static",
    "analyzer_parameters:\noutput:\nphi_filtering: {target_ranges: }",
    "analyzer_parameters: {dt: null, start_frame: 2, geometry: {stator_rotor_gap: 2000000}}",
    "experimental_data: {mask_frames: [1, 2], phi_angles: [0, 90]}",
    "experimental_data: {mask_frames: bad.txt}",
    "initial_parameters: {values: {D0: 1000, gamma_dot_0: null}, active_parameters: null}",
    "initial_parameters: {parameter_names: [D0, alpha], values: [1000, null]}",
    "initial_parameters: {fixed_parameters: {D_offset: 0}, per_angle_scaling: {contrast: [0.3]}}",
    "parameter_space: {bounds: [{name: gamma_dot_0, min: 0.001, max: 0.1, prior_mu: 3}]}",
    "optimization: {nlsq: {anti_degeneracy: {per_angle_mode: constant, constant: {offset: 1}}}}",
    "optimization: {nlsq: {anti_degeneracy: {regularization: {mode: relative, lambda: 2}}}}",
    "optimization: {nlsq: {anti_degeneracy: {gradient_monitoring: {response: hierarchical}}}}",
    "optimization: {cmc: {anything: [goes]}, mcmc: }",
]
BAD = [
    "analysis_mode: laminar",
    "outptu: {}",
    "analyzer_parameters: {dt: fast}",
    "analyzer_parameters: {dt: 0}",
    "analyzer_parameters: {dt_override: perhaps}",
    "analyzer_parameters: {end_frame: 1.5}",
    "analyzer_parameters: {units_confirmed: [gap]}",
    "experimental_data: {mask_frames: 3}",
    "experimental_data: data.h5",
    "initial_parameters: {values: {D1: 3}}",
    "initial_parameters: {fixed_parameters: [alpha]}",
    "initial_parameters: {fixed_parameters: {alpha: null}}",
    "parameter_space: {bounds: [{name: D0, min: 1}]}",
    "optimization: {nlsq: {loss: l3}}",
    "optimization: {nlsq: {max_iterations: 0}}",
    "optimization: {nlsq: {anti_degeneracy: {shear_weighting: {min_weight: 1.5}}}}",
    "optimization: {nlsq: {anti_degeneracy: {fourier_order: 0}}}",
]


def test_it_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", GOOD)
def test_what_is_read_is_accepted(text):
    parse_config(text, Path("c.yaml"))
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize("text", BAD)
def test_what_is_refused_is_refused(text):
    with pytest.raises(InputError):
        parse_config(text, Path("c.yaml"))
    assert not VALIDATOR.is_valid(yaml.safe_load(text))


def test_defaults_are_accepted():
    VALIDATOR.validate(Root().model_dump(mode="json", by_alias=True))


def test_what_init_writes_is_accepted(tmp_path):
    write_array(tmp_path / "a.npz", [[[1.0, 2.0, 3.0], [2.0, 1.0, 2.0], [3.0, 2.0, 1.0]]])
    text, _ = configuration(tmp_path / "a.npz", tmp_path)
    VALIDATOR.validate(yaml.safe_load(text))


def described(schema=SCHEMA, path=""):
    """Every key: its dotted path, and its part of the schema."""
    for key, part in schema.get("properties", {}).items():
        where = f"{path}.{key}".removeprefix(".")
        yield where, part
        references = re.findall(r"#/\$defs/(\w+)", json.dumps(part))
        for name in references:
            yield from described(SCHEMA["$defs"][name], where)


KEYS = dict(described())


@pytest.mark.parametrize("path", KEYS)
def test_every_key_says_what_it_means(path):
    text = KEYS[path]["description"]
    assert text.endswith(".")
    assert "\n" not in text
    assert KEYS[path].get("deprecated", False) == (path in WITHOUT_EFFECT)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("analyzer_parameters.dt", " s."),
        ("analyzer_parameters.scattering.wavevector_q", "Å⁻¹"),
        ("analyzer_parameters.geometry.stator_rotor_gap", "Å"),
        ("experimental_data.phi_angles", "degrees"),
        ("phi_filtering.target_ranges.min_angle", "degrees"),
        ("preprocessing.phi_range", "degrees"),
        ("parameter_space.bounds", "Å²/s"),
        ("optimization.nlsq.standard_error_tolerance", "standard errors"),
    ],
)
def test_quantities_have_units(path, unit):
    assert unit in KEYS[path]["description"]


def test_keys_without_effect_say_why():
    for path, why in WITHOUT_EFFECT.items():
        assert KEYS[path]["description"] == f"Without effect: {why}."


def test_check_prints_it(capsys):
    assert main(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
