"""The files of which pages are made: templates, style and scripts."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2

__all__ = ["render_page"]

# Scripts that all pages need, in the order in which they need each other.
COMMON = ("arrays.js", "charts.js", "matrices.js")


def render_page(template: str, script: str, **values: Any) -> str:
    """A page that holds all it needs.

    Parameters
    ----------
    template, script : str
        Names of the template and of the script of this page.
    **values
        What the template shows; ``numbers`` is JSON for the script.
    """
    folder = files("homodyne_fit").joinpath("report")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(
            lambda name: folder.joinpath("templates", name).read_text(encoding="utf-8")
        ),
    )
    style, *scripts = (
        folder.joinpath("page", name).read_text(encoding="utf-8")
        for name in ("page.css", *COMMON, script)
    )
    return environment.get_template(template).render(
        style=style, script="\n".join(scripts), **values
    )
