"""The files of which pages are made: templates, styles and scripts."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2

__all__ = ["PAGE", "render_page"]

# Scripts of a page, in the order in which they need each other; its own comes after them.
PAGE = ("arrays.js", "charts.js", "matrices.js")


def render_page(template: str, *scripts: str, style: str = "page.css", **values: Any) -> str:
    """A page, or a part of one, that holds all it needs.

    Parameters
    ----------
    template : str
        Its name.
    *scripts : str
        Names of the scripts.
    style : str
        Name of the style sheet.
    **values
        What the template shows; ``numbers`` is JSON for the scripts.
    """
    folder = files("homodyne_fit").joinpath("report")

    def text(of: str, name: str) -> str:
        return folder.joinpath(of, name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: text("templates", name)),
    )
    return environment.get_template(template).render(
        style=text("page", style),
        script="\n".join(text("page", name) for name in scripts),
        **values,
    )
