"""Rooms of the house: what each may import, none of them one above it."""

import ast
import re
from pathlib import Path

import pytest

import homodyne_fit
import nlsq_stratified

# From the ground up. A room imports only those named beside it, all of which stand before it.
ROOMS = {
    "nlsq_stratified": "",
    "homodyne_fit.errors": "",
    "homodyne_fit.progress": "errors",
    "homodyne_fit.atomic": "errors",
    "homodyne_fit.validation": "errors",
    "homodyne_fit.model": "nlsq_stratified errors",
    "homodyne_fit.data": "validation atomic progress errors",
    "homodyne_fit.simulation": "data model nlsq_stratified validation atomic errors",
    "homodyne_fit.kernel": "data model nlsq_stratified errors",
    "homodyne_fit.noise": "kernel model nlsq_stratified",
    "homodyne_fit.fitting": "noise kernel data model nlsq_stratified validation progress errors",
    "homodyne_fit.posterior": (
        "fitting noise kernel data model nlsq_stratified validation progress errors"
    ),
    "homodyne_fit.config": (
        "posterior fitting data model nlsq_stratified validation progress errors"
    ),
    "homodyne_fit.report": "posterior fitting data model nlsq_stratified atomic errors",
    "homodyne_fit.results": (
        "report posterior fitting kernel data model nlsq_stratified atomic errors"
    ),
    "homodyne_fit.analysis": (
        "results report config posterior fitting simulation data model nlsq_stratified "
        "validation progress errors"
    ),
    "homodyne_fit.cli": (
        "analysis results report config posterior fitting kernel simulation data model "
        "nlsq_stratified validation atomic progress errors"
    ),
}
# Public names, which are imported from their rooms when they are first used.
DOORS = ("homodyne_fit", "homodyne_fit.__main__")
PACKAGES = [Path(package.__file__).parent for package in (homodyne_fit, nlsq_stratified)]
SOURCES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]


def module_of(path: Path) -> str:
    package = next(package for package in PACKAGES if path.is_relative_to(package))
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), None)


def imported(source: str) -> list[str]:
    """What a file imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def allowed(room: str) -> set[str]:
    return {room, *(name for name in ROOMS if name.split(".")[-1] in ROOMS[room].split())}


def forbidden_imports(module: str, source: str) -> list[str]:
    room = room_of(module)
    assert room or module in DOORS, f"{module} is in no room"
    if room is None:
        return []
    rooms = {name: room_of(name) for name in imported(source)}
    return [name for name, other in rooms.items() if other and other not in allowed(room)]


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_module_imports_only_what_its_room_may(path):
    assert forbidden_imports(module_of(path), path.read_text(encoding="utf-8")) == []


def test_rooms_import_only_rooms_below():
    for i, (room, names) in enumerate(ROOMS.items()):
        below = {name.split(".")[-1] for name in list(ROOMS)[:i]}
        assert set(names.split()) <= below, room


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        (
            "homodyne_fit.fitting.fit",
            "def late():\n    from homodyne_fit.report.html import write_report\n",
            ["homodyne_fit.report.html.write_report"],
        ),
        ("homodyne_fit.data.units", "import homodyne_fit.config", ["homodyne_fit.config"]),
        ("nlsq_stratified.chunks", "import homodyne_fit.errors", ["homodyne_fit.errors"]),
        ("homodyne_fit.config.keys", "from homodyne_fit.fitting.options import FitSettings", []),
    ],
)
def test_an_import_upward_is_found(module, source, found):
    assert forbidden_imports(module, source) == found


LAYOUT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
LAYOUT = LAYOUT.split("## Layout\n")[1].split("\n### ")[0]


def test_the_table_of_rooms_is_this_one():
    rows = re.findall(r"^\| `(.*?)` \| .* \| ?(.*?) ?\|$", LAYOUT, flags=re.M)
    table = {
        name.strip("/").removesuffix(".py"): set(imports.split(", ")) for name, imports in rows
    }
    rooms = {room.split(".")[-1]: set(names.split()) for room, names in ROOMS.items()}
    assert {name: imports - {""} for name, imports in table.items()} == rooms


def test_the_folders_of_the_layout_are_those_on_disk():
    folders = {init.parent.name for package in PACKAGES for init in package.rglob("__init__.py")}
    drawn = set(re.findall(r"`(\w+)/`", LAYOUT))
    assert drawn - {"benchmarks"} == folders - {"homodyne_fit"}
