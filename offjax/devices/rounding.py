"""How matrix products round, and accelerators' rounding on CPUs.

Accelerators may round the factors of a float32 product to fewer bits of mantissa and
sum in float32: TF32 keeps 10, bfloat16 keeps 7. On CPUs, which multiply in float32,
every factor is rounded before its product. It is slower, and shows what a precision
does to scores without an accelerator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

PRECISIONS = {
    "default": None,
    "float32": "highest",
    "tf32": "tensorfloat32",
    "bfloat16": "BF16_BF16_F32",
}
"""Name → JAX's. "default" is the device's choice: TF32 on GPUs, bfloat16 on TPUs,
float32 on CPUs. "bfloat16" keeps sums in float32."""
MANTISSA = {"tf32": 10, "bfloat16": 7}
"""Bits of the mantissa that are kept; the exponent's are float32's 8 in both."""


def rounded(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`fn` with the factors of all its float32 products rounded, for CPUs.

    Args:
      fn: a traceable function; what it differentiates inside is rounded, too, but it
        is not to be differentiated itself.
      name: of `PRECISIONS`; those that round nothing give `fn` itself.
    """
    if name not in MANTISSA:
        return fn

    def run(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)

        def flat(*leaves: Any) -> Any:
            return fn(*jax.tree.unflatten(structure, leaves))

        traced, shapes = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        found = core.jaxpr_as_fun(_closed(traced, MANTISSA[name]))(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return run


def _closed(closed: Any, bits: int) -> Any:
    return core.ClosedJaxpr(_rewritten(closed.jaxpr, bits), closed.consts)


def _rewritten(jaxpr: Any, bits: int) -> Any:
    """The program with a rounding before each factor, in inner programs, too."""
    equations = []
    for equation in jaxpr.eqns:
        params = {name: _inner(x, bits) for name, x in equation.params.items()}
        factors = equation.invars
        if equation.primitive is core.primitives.dot_general_p:
            factors = []
            for factor in equation.invars:
                if factor.aval.dtype == jnp.float32:
                    rounding = _rounding(factor, bits)
                    equations.append(rounding)
                    factor = rounding.outvars[0]
                factors.append(factor)
        equations.append(equation.replace(params=params, invars=factors))
    return jaxpr.replace(eqns=equations)


def _rounding(factor: Any, bits: int) -> Any:
    """The equation that rounds a variable, or a constant, into a new one."""
    template = jax.make_jaxpr(lambda x: jax.lax.reduce_precision(x, 8, bits))(
        jax.ShapeDtypeStruct(factor.aval.shape, factor.aval.dtype)
    )
    (equation,) = template.jaxpr.eqns
    return equation.replace(invars=[factor])


def _inner(value: Any, bits: int) -> Any:
    """A parameter of an equation, its programs rewritten."""
    if isinstance(value, core.ClosedJaxpr):
        return _closed(value, bits)
    if isinstance(value, core.Jaxpr):
        return _rewritten(value, bits)
    if type(value) is tuple:  # a switch's branches
        return tuple(_inner(x, bits) for x in value)
    return value
