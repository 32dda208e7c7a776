"""What a class must have to be used where a configuration names it: its base class declares it.

- Its constructor takes what the base's users pass, and the values of its yaml; it has no other argument without
  default.
- It defines the base's abstract methods, and what it redefines can be called as in the base.
- Its objects have the attributes that the base annotates.

So a base says what it needs in Python's own words, and there is no list of requirements elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lit_mtrl.config.kinds import Choice, Flag, Kind, Number, Text, Whole, like
from lit_mtrl.core.errors import PAGE, ConfigError, require
from lit_mtrl.core.suggest import unknown_key

EMPTY = inspect.Parameter.empty


def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What ``target`` takes, with annotations as objects where they can be had."""
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:  # of a name that is imported for type checkers alone
        return inspect.signature(target).parameters


def kind_of_parameter(parameter: inspect.Parameter, default: object) -> Kind:
    """The kind of a value that a constructor takes: of its annotation, else of its own default, else of ``default``,
    the yaml's.

    Null is a value where the annotation or the default says so, or where there is no annotation.
    """
    declared, own = parameter.annotation, None if parameter.default is EMPTY else parameter.default
    options = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    untyped = declared is EMPTY
    null = "as the class has it" if untyped or NoneType in options or parameter.default is None else ""
    if untyped or isinstance(declared, str):
        return type(like(own if own is not None else default))(null=null)
    kinds = {_kind_of_type(option): None for option in options if option is not NoneType}
    if set(kinds) == {Whole(), Number()}:
        return Number(null=null)
    (kind,) = kinds if len(kinds) == 1 else (Kind(),)
    return Choice(null=null, of=kind.of) if isinstance(kind, Choice) else type(kind)(null=null)


def made_by(factory: inspect.Parameter, otherwise: type) -> type:
    """What a factory that a constructor takes makes: ``Critic`` of ``Callable[..., Critic]``."""
    returned = get_args(factory.annotation)[-1:]
    return returned[0] if returned and isinstance(returned[0], type) else otherwise


def require_arguments(
    target: type, takes: Mapping[str, inspect.Parameter], values: Mapping[str, Any], more: Mapping[str, Any], key: str
) -> None:
    """`ConfigError` unless the constructor takes ``values``, of the group ``key``, and ``more``, which its users pass,
    and needs nothing else.
    """
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        for name in more:
            require(
                name in takes, f"{key}._target_={_name(target)}: its constructor must take '{name}', too; see {PAGE}"
            )
        known = [f"{key}.{name}" for name in takes if name not in more]
        for name in values:
            near = unknown_key(f"{key}.{name}", known)
            none = f"{key}.{name}: unknown key; {_name(target)} takes no '{name}'; take it out of the yaml"
            require(name in takes, near if "did you mean" in near else none)
    for name, parameter in takes.items():
        given = name in values or name in more or parameter.default is not EMPTY
        given = given or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        require(given, f"{key}.{name}: is missing, and {_name(target)} needs it; give it")


def require_methods(target: type, base: type, where: str) -> None:
    """`ConfigError` for a method that ``base`` leaves to its classes and ``target`` does not define, or that cannot be
    called as that of ``base``.
    """
    abstract = getattr(base, "__abstractmethods__", frozenset())
    lacking = sorted(name for name in abstract if _undefined(target, name))
    require(not lacking, f"{where}: does not define {', '.join(lacking)}; see {PAGE}")
    for name in vars(base):
        ours, theirs = inspect.getattr_static(base, name), inspect.getattr_static(target, name, None)
        if theirs is ours or not inspect.isfunction(ours) or not inspect.isfunction(theirs) or name == "__init__":
            continue
        if any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(ours).parameters.values()):
            continue  # it may be called with anything
        try:
            _call(theirs, ours)
        except TypeError as error:
            asked = f"{name}{inspect.signature(ours)}".replace("'", "")
            raise ConfigError(f"{where}: {name}: {error}; it is called as {asked}; see {PAGE}") from error


def require_base_constructor(made: object, where: str) -> None:
    """`ConfigError` for a PyTorch module whose constructor does not call that of its base."""
    lacking = hasattr(type(made), "register_parameter") and "_modules" not in vars(made)
    require(not lacking, f"{where}: its constructor does not call super().__init__; see {PAGE}")


def require_attributes(made: object, base: type, where: str) -> None:
    """`ConfigError` for an attribute that ``base`` annotates and ``made`` has not."""
    lacking = [name for name in inspect.get_annotations(base) if not hasattr(made, name)]
    require(not lacking, f"{where}: its objects have no {', '.join(lacking)}; set it in its constructor; see {PAGE}")


def _undefined(target: type, name: str) -> bool:
    found = inspect.getattr_static(target, name, None)
    # PyTorch gives every module a `forward` that raises.
    raises = getattr(found, "__name__", "") == "_forward_unimplemented"
    return found is None or raises or getattr(found, "__isabstractmethod__", False)


def _call(method: Callable[..., Any], as_in: Callable[..., Any]) -> None:
    """`TypeError` unless ``method`` takes all arguments of ``as_in``, those with a default under the same name."""
    takes = [p for p in inspect.signature(as_in).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    needed = [p.name for p in takes if p.default is EMPTY and p.kind is not p.KEYWORD_ONLY]
    inspect.signature(method).bind(*needed, **{p.name: None for p in takes if p.name not in needed})


def _kind_of_type(declared: Any) -> Kind:
    words = get_args(declared) if get_origin(declared) is Literal else ()
    if words and all(isinstance(word, str) for word in words):
        return Choice(of=words)
    kinds = {bool: Flag(), int: Whole(), float: Number(), str: Text()}
    return kinds.get(declared, Kind()) if isinstance(declared, type) else Kind()


def _name(target: type) -> str:
    return f"{target.__module__}.{target.__qualname__}"
