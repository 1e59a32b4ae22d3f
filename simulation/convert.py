"""Walk a model and put other modules in place of its linear layers and attention products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from torch import nn

from simulation.model import Product

LinearFactory = Callable[[str, nn.Linear], nn.Module]
ProductFactory = Callable[[str, Product], nn.Module]


def replace_products(
    model: nn.Module, linear_factory: LinearFactory, product_factory: ProductFactory, *, keep: Iterable[str] = ()
) -> list[str]:
    """Replace in place; a copy is the caller's ``copy.deepcopy``.

    Parameters
    ----------
    model
        Any module with `torch.nn.Linear` layers and `Product` attention products inside.
    linear_factory, product_factory
        From a module's name and the module to what replaces it, which should hold the original parameters.
    keep
        Names, or shell patterns of names, that stay digital: ``("lm_head", "blocks.0.*")``.

    Returns
    -------
    Names of what was replaced, in the model's order.
    """
    keep = tuple(keep)
    replaced = []
    for name, module in list(model.named_modules()):
        if not name or any(fnmatchcase(name, kept) for kept in keep):
            continue
        if isinstance(module, nn.Linear):
            model.set_submodule(name, linear_factory(name, module))
        elif isinstance(module, Product):
            model.set_submodule(name, product_factory(name, module))
        else:
            continue
        replaced.append(name)
    return replaced
