import copy
from pathlib import Path

import pytest
import yaml

from homodyne_fit.config import parse_config
from homodyne_fit.config.overrides import overridden, parse_override
from homodyne_fit.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1", ("a.b", 1)),
        ("a=x=y", ("a", "x=y")),
        ("a.b=[1, 2]", ("a.b", [1, 2])),
        ("a.b=", ("a.b", None)),
        ("a.b={c: true}", ("a.b", {"c": True})),
    ],
)
def test_the_value_is_yaml(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", ".a=1"])
def test_the_form_is_key_and_value(text):
    with pytest.raises(InputError, match=r"--set .*: write it as KEY\.PATH=VALUE"):
        parse_override(text)


def test_a_value_that_is_no_yaml():
    with pytest.raises(InputError, match=r"--set a=\[: the value is not valid YAML"):
        parse_override("a=[")


class TestOverridden:
    def test_keys_are_replaced_and_added(self):
        raw = {"a": {"b": 1, "c": 2}, "empty": None}
        before = copy.deepcopy(raw)
        given = [("a.b", 5), ("a.d.e", 6), ("empty.x", 7), ("f", 8), ("a.b", 9)]
        assert overridden(raw, given) == {
            "a": {"b": 9, "c": 2, "d": {"e": 6}},
            "empty": {"x": 7},
            "f": 8,
        }
        assert raw == before

    def test_an_anchor_of_yaml_is_not_followed(self):
        raw = yaml.safe_load("a: &x {k: 1}\nb: *x")
        assert overridden(raw, [("a.k", 2)]) == {"a": {"k": 2}, "b": {"k": 1}}

    def test_bounds_are_found_by_name(self):
        raw = {"bounds": [{"name": "D0", "min": 1}, {"name": "gamma_dot_0", "max": 2}]}
        given = [("bounds.D0.min", 5), ("bounds.gamma_dot_t0.max", 6), ("bounds.beta.min", 7)]
        assert overridden(raw, given)["bounds"] == [
            {"name": "D0", "min": 5},
            {"name": "gamma_dot_0", "max": 6},
            {"name": "beta", "min": 7, "max": 2.0},
        ]

    @pytest.mark.parametrize("raw", [{}, {"bounds": None}])
    def test_one_of_two_bounds_where_there_are_none(self, raw):
        given = [("bounds.phi0.max", 50), ("bounds.D0.max", 5e4), ("bounds.DO.max", 5)]
        assert overridden(raw, given)["bounds"] == [
            {"name": "phi0", "min": -10.0, "max": 50},
            {"name": "D0", "max": 5e4},
            {"name": "DO", "max": 5},
        ]

    def test_a_list_beside_its_names(self):
        section = {"parameter_names": ["D0", "gamma_dot_0"], "values": [1, 2]}
        given = [("i.values.gamma_dot_t0", 5), ("i.values.alpha", 6)]
        changed = overridden({"i": section}, given)["i"]["values"]
        assert changed == {"D0": 1, "gamma_dot_0": 5, "alpha": 6}

    @pytest.mark.parametrize("raw", [{"a": 1}, {"a": [1, 2]}, {"a": "text"}])
    def test_a_value_has_no_keys(self, raw):
        with pytest.raises(InputError, match=r"a\.b cannot be set: a has no keys in this"):
            overridden(raw, [("a.b", 1)])


class TestInAConfiguration:
    text = "analysis_mode: static\nexperimental_data: {file_path: a.h5}\n"

    def parsed(self, *overrides):
        return parse_config(self.text, Path("c.yaml"), overrides)

    def test_it_counts(self):
        config = self.parsed(
            ("analyzer_parameters.start_frame", 7),
            ("initial_parameters.values.D0", "2e4"),
            ("parameter_space.bounds", [{"name": "D0", "min": 1e3, "max": 1e5}]),
            ("parameter_space.bounds.D0.max", 5e4),
        )
        assert config.root.analyzer_parameters.start_frame == 7
        assert config.settings().initial == {"D0": 2e4}
        assert config.settings().bounds == {"D0": (1e3, 5e4)}

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            (
                ("analyzer_parameters.dt", "fast"),
                r"^c\.yaml: analyzer_parameters\.dt: a number is needed \(got 'fast'\)$",
            ),
            (("analyzer_parameters.stat_frame", 1), "stat_frame: there is no such key .*start_f"),
            (("analysis_mode", "fluid"), "analysis_mode: must be"),
        ],
    )
    def test_a_mistake_is_reported_where_it_is(self, override, message):
        with pytest.raises(InputError, match=message):
            self.parsed(override)
