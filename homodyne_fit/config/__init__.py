"""The YAML configuration as typed objects.

Only this package knows the keys: `Config.load_data` and `Config.settings` return the objects of a
fit.
"""

from __future__ import annotations

from homodyne_fit.config.configuration import Config, load_config, parse_config

__all__ = ["Config", "load_config", "parse_config"]
