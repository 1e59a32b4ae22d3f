"""The station-file stanzas of the drivers' documentation can be pasted: each is TOML, and its options are valid."""

import importlib
import pkgutil
import re
import textwrap
import tomllib

import pytest

import drivers
from drivers import ROLES, Backend
from drivers.options import parse

ROOMS = "cameras", "interlocks", "modulators", "monitors", "sources"
BLOCK = re.compile(r"::\n\n((?: {4}.*\n|\n)+)")


def modules():
    for room in ROOMS:
        package = importlib.import_module(f"{drivers.__name__}.{room}")
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(info.name)


def backends(module):
    return {found.name: found for found in vars(module).values() if isinstance(found, Backend)}


def stanzas(module):
    blocks = [textwrap.dedent(block) for block in BLOCK.findall(f"{module.__doc__}\n")]
    return [block for block in blocks if block.lstrip().startswith("[devices.")]


@pytest.mark.parametrize("module", [module for module in modules() if backends(module)], ids=lambda m: m.__name__)
def test_every_backend_has_stanzas_that_can_be_pasted(module):
    known, shown = backends(module), set()
    for stanza in stanzas(module):
        for name, table in tomllib.loads(stanza)["devices"].items():
            found = known[table["backend"]]
            assert table.get("role", name) in ROLES
            parse(found.options, table.get("options", {}), f"devices.{name}")
            shown.add(found.name)
    assert shown == set(known)
