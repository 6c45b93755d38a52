"""The YAML configuration as typed objects.

Behind `load_config` nothing knows a key: `Config.load_data` and `Config.settings` give the objects
that a fit works with.
"""

from __future__ import annotations

from homodyne_fit.config.configuration import Config, load_config, parse_config

__all__ = ["Config", "load_config", "parse_config"]
