"""Parameters that several networks of one agent have in common.

A module with a true attribute ``shared`` says that its parameters are one set for the actor, all critics and the
targets: `lit_mtrl.nets.ensemble.Ensemble` does not stack them, and `share` makes the networks use the same ones.
"""

from __future__ import annotations

from torch import nn

from lit_mtrl.core.errors import require


def shared_modules(net: nn.Module) -> list[nn.Module]:
    """The modules of ``net`` that say they are shared, in order."""
    return [module for module in net.modules() if getattr(module, "shared", False)]


def share(source: nn.Module, target: nn.Module) -> list[nn.Parameter]:
    """Make the shared modules of ``target`` use the parameters of those of ``source``; returns these parameters.

    Nothing happens where only one of them has such modules. Raises `ConfigError` if sizes differ.
    """
    found = list(zip(shared_modules(source), shared_modules(target), strict=False))
    for ours, theirs in found:
        for name, parameter in ours.named_parameters(recurse=False):
            sizes = tuple(parameter.shape), tuple(theirs.get_parameter(name).shape)
            require(
                sizes[0] == sizes[1],
                f"actor.network, critic.network: they share a table that is {' x '.join(map(str, sizes[0]))} in one and"
                f" {' x '.join(map(str, sizes[1]))} in the other; give both the same size (network.parameter_sets)",
            )
            setattr(theirs, name, parameter)
    return [parameter for ours, _ in found for parameter in ours.parameters()]
