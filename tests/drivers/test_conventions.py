"""A walk over every backend that is installed, and over every class of a device: the conventions, held by a machine.

What a rule does not hold for is named here, with the reason. Nothing is opened and no maker's library is imported.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_type_hints

import pytest
from processes import LIMIT_S

import drivers
from drivers import Backend, Checked, protocols
from drivers.backend import Proof
from drivers.protocols import ROLES, members
from drivers.registry import GROUP

ROOT = Path(drivers.__file__).parent.parent
POINTS = sorted(
    (point for point in entry_points(group=GROUP) if point.value.startswith(("drivers.", "mock_hardware."))),
    key=lambda point: point.name,
)
BACKENDS = {point.name: point.load() for point in POINTS}
REAL = {name: backend for name, backend in BACKENDS.items() if not name.startswith("mock.")}

WITHOUT_FAMILY = {"region", "always-on"}
"""A part of another backend's panel, and a lamp that nothing talks to: they reach no instrument by themselves."""

UNITS = {
    *("s", "ms", "us", "ns", "hz", "khz", "mhz", "fps"),
    *("px", "um", "mm", "nm", "deg", "degc", "rel", "x"),
    *("v", "mv", "a", "ma", "w", "mw", "uw", "j", "db"),
    *("bit", "bits", "bytes", "mb", "dn", "e", "levels", "frames"),
}
"""Endings of names of numbers."""

PURE = {
    *("x", "y", "width", "height", "levels", "depth", "value"),
    *("baud", "port", "number", "index", "count", "buffers", "decimals", "repeats", "retries", "averages", "lines"),
}
"""Names of whole numbers that need no unit: places, sizes on a panel, and what is counted."""


IN_THE_UNIT = {"low", "high", "scale"}
"""Numbers in the unit that the option ``unit`` names."""


def modules(*rooms):
    """Modules of the named rooms of drivers; of all of them when none is named."""
    for info in pkgutil.walk_packages(drivers.__path__, "drivers."):
        room = info.name.split(".")[1]
        if (not rooms or room in rooms) and room != "testing":
            yield importlib.import_module(info.name)


def classes(*rooms):
    """Public classes that the modules of these rooms define."""
    for module in modules(*rooms):
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and not name.startswith("_"):
                yield kind


def devices():
    """Classes that have every method of `protocols.Device`."""
    methods = {name for name in members(protocols.Device) if callable(getattr(protocols.Device, name, None))}
    return [kind for kind in classes() if kind.__module__ != protocols.__name__ and methods <= set(dir(kind))]


def has_unit(name):
    return name.rpartition("_")[2] in UNITS and "_" in name


def is_number(hint):
    return any(kind in (int, float) for kind in (hint, *getattr(hint, "__args__", ())))


def described(kind):
    """The docstrings of a dataclass and of those that it extends."""
    return "\n".join(inspect.cleandoc(base.__doc__ or "") for base in kind.__mro__ if dataclasses.is_dataclass(base))


def test_there_are_backends():
    assert {"region", "mock.camera", "genicam.gige"} <= set(BACKENDS)
    assert len(devices()) >= 4


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_entry_point_names_a_backend_of_its_name(point):
    backend = BACKENDS[point.name]
    assert isinstance(backend, Backend)
    assert backend.name == point.name
    assert re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", point.name)
    assert point.value.partition(":")[2].isupper()


@pytest.mark.parametrize("name", BACKENDS)
def test_options_are_a_frozen_checked_dataclass_that_describes_each(name):
    kind = BACKENDS[name].options
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert issubclass(kind, Checked)
    text = described(kind)
    missing = [item.name for item in dataclasses.fields(kind) if not re.search(rf"\b{item.name}\b", text)]
    assert not missing, f"{kind.__name__} says nothing of {missing}"


@pytest.mark.parametrize("name", REAL)
def test_numbers_among_the_options_have_a_range_and_a_unit(name):
    kind = BACKENDS[name].options
    hints = get_type_hints(kind)
    for item in dataclasses.fields(kind):
        hint = hints[item.name]
        if not is_number(hint):
            continue
        assert "range" in item.metadata, f"{name}: {item.name} has no range: option(low, high, default)"
        low, high = item.metadata["range"]
        assert low < high
        whole = float not in (hint, *getattr(hint, "__args__", ()))
        counted = whole and item.name.rpartition("_")[2] in PURE
        in_its_unit = "unit" in hints and item.name in IN_THE_UNIT
        assert has_unit(item.name) or counted or in_its_unit, f"{name}: {item.name} has no unit in its name"


@pytest.mark.parametrize("name", BACKENDS)
def test_what_is_needed_comes_with_what_to_type(name):
    backend = BACKENDS[name]
    assert not backend.needs or backend.install.startswith("pip install "), backend.install
    extra = re.search(r"labctl\[([a-z-]+)\]", backend.install)
    if extra:
        assert re.search(rf"^{extra[1]} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE), extra[1]


@pytest.mark.parametrize("name", REAL)
def test_families_say_how_they_are_proven_by_a_test_that_is_there(name):
    families = BACKENDS[name].families
    assert families or name in WITHOUT_FAMILY
    assert len({family.name for family in families}) == len(families)
    for family in families:
        if family.proof is not Proof.NOT_RUN:
            assert (ROOT / family.test).is_file(), family.test
            assert family.proven_by


@pytest.mark.parametrize("name", REAL)
def test_module_shows_a_stanza_for_the_station_file(name):
    backend = BACKENDS[name]
    module = importlib.import_module(next(point for point in POINTS if point.name == name).module)
    text = inspect.cleandoc(module.__doc__ or "")
    assert f'backend = "{name}"' in text
    assert "[devices." in text
    assert backend.roles


@pytest.mark.parametrize("kind", list(classes()), ids=lambda kind: kind.__name__)
def test_public_class_says_what_it_is(kind):
    assert kind.__doc__
    if not (dataclasses.is_dataclass(kind) and kind.__doc__.startswith(f"{kind.__name__}(")):
        assert kind.__doc__.strip()[0] not in "(", kind.__doc__
        assert kind.__doc__.strip().splitlines()[0].endswith((".", "?", ":", "``.")), kind.__doc__


@pytest.mark.parametrize("kind", devices(), ids=lambda kind: kind.__name__)
def test_methods_that_wait_take_a_timeout_like_their_protocols(kind):
    roles = [role.protocol for role in ROLES.values()]
    known = [protocols.Device, protocols.SequencePanel, protocols.TriggeredCamera, protocols.Restorable, *roles]
    for protocol in known:
        methods = {name for name in members(protocol) if inspect.isfunction(getattr(protocol, name, None))}
        if not methods <= set(dir(kind)):
            continue
        for name in methods:
            wanted = inspect.signature(getattr(protocol, name)).parameters
            given = inspect.signature(getattr(kind, name)).parameters
            assert list(given)[: len(wanted)] == list(wanted), f"{kind.__name__}.{name}"
            if "timeout_s" in wanted:
                assert given["timeout_s"].default == wanted["timeout_s"].default, f"{kind.__name__}.{name}"
            more = list(given.values())[len(wanted) :]
            assert all(parameter.default is not parameter.empty for parameter in more), f"{kind.__name__}.{name}"


@pytest.mark.parametrize("kind", list(classes()), ids=lambda kind: kind.__name__)
def test_real_numbers_among_parameters_have_a_unit(kind):
    for name, method in vars(kind).items():
        if name.startswith("_") and name != "__init__":
            continue
        if not inspect.isfunction(method) or (dataclasses.is_dataclass(kind) and name == "__init__"):
            continue
        hints = {key: hint for key, hint in method.__annotations__.items() if key != "return"}
        for key, hint in hints.items():
            if str(hint) in ("float", "float | None"):
                assert has_unit(key) or has_unit(name) or "[" in (method.__doc__ or "") + (kind.__doc__ or ""), (
                    f"{kind.__name__}.{name}: {key}"
                )


def test_makers_libraries_are_imported_by_load_and_nowhere_else():
    """Through `drivers.libraries.loading.load`, when a device is opened: quietly, and not by whoever lists backends."""
    theirs = {module.partition(".")[0] for backend in BACKENDS.values() for module in backend.needs}
    found = []
    for file in sorted((ROOT / "drivers").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found += [f"{file.relative_to(ROOT)}:{node.lineno} {n}" for n in names if n.partition(".")[0] in theirs]
    assert not found


def test_every_backend_imports_where_no_makers_library_is_installed():
    theirs = sorted({module.partition(".")[0] for backend in BACKENDS.values() for module in backend.needs})
    script = f"""
import importlib, sys
theirs = {theirs!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in theirs:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
for module in {[point.module for point in POINTS]!r}:
    importlib.import_module(module)
print(sorted(set(theirs) & {{name.partition(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
