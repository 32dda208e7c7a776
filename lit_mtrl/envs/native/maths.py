"""Points as triples of floats, and the shapes that Meta-World's rewards are made of, compiled.

Written so that every sum is taken in NumPy's order: distances are then equal to the official ones to the last bit.
"""

from __future__ import annotations

import math

from lit_mtrl.envs.native.cache import compiled


@compiled
def at(values, k):
    """The point that begins at ``values[k]``."""
    return values[k], values[k + 1], values[k + 2]


@compiled
def add(a, b):
    """The sum of two points."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@compiled
def sub(a, b):
    """Their difference."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@compiled
def times(a, b):
    """Coordinate by coordinate."""
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


@compiled
def norm(a):
    """Its length."""
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


@compiled
def norm2(x, y):
    """The length of a vector in the plane."""
    return math.sqrt(x * x + y * y)


@compiled
def distance(a, b):
    """How far apart they are."""
    return norm(sub(a, b))


@compiled
def clip(x, low, high):
    """As NumPy's: NaN stays NaN."""
    if x < low:
        return low
    return high if x > high else x


@compiled
def long_tail(x, low, high, margin):
    """1 for x in [low, high]; outside, at a distance of d margins, 1 / (9 d^2 + 1), which is 0.1 at one margin.

    DeepMind Control's ``tolerance`` with the long-tail sigmoid; with no margin it is 0 outside.
    """
    if low <= x <= high:
        return 1.0
    if margin == 0:
        return 0.0
    d = (low - x if x < low else x - high) / margin
    scaled = d * math.sqrt(1 / 0.1 - 1)
    return 1 / (scaled * scaled + 1)


@compiled
def gaussian(x, low, high, margin):
    """1 for x in [low, high]; outside, at a distance of d margins, exp(-d^2 ln 10), which is 0.1 at one margin.

    ``tolerance`` with the Gaussian sigmoid, its default; with no margin it is 0 outside.
    """
    if low <= x <= high:
        return 1.0
    if margin == 0:
        return 0.0
    d = (low - x if x < low else x - high) / margin
    scaled = d * math.sqrt(-2 * math.log(0.1))
    return math.exp(-0.5 * (scaled * scaled))


@compiled
def hamacher(a, b):
    """A b / (a + b - a b), the Hamacher product of numbers in [0, 1]: an "and" that is 0 if one of them is."""
    denominator = a + b - (a * b)
    return (a * b) / denominator if denominator > 0 else 0.0


@compiled
def within(x, a, b):
    """Whether x lies between a and b, in whichever order."""
    return b >= x >= a if b >= a else a >= x >= b


@compiled
def prism(x, zero, one):
    """Inside the box between the corners ``zero`` and ``one`` the product of the shares of the way from the first to
    the second along each axis; 1 outside.
    """
    if within(x[0], zero[0], one[0]) and within(x[1], zero[1], one[1]) and within(x[2], zero[2], one[2]):
        side = sub(one, zero)
        return (x[0] - zero[0]) / side[0] * ((x[1] - zero[1]) / side[1]) * ((x[2] - zero[2]) / side[2])
    return 1.0


@compiled
def quaternion(values, k):
    """``x, y, z, w`` of the rotation matrix, row by row, that begins at ``values[k]``, as SciPy chooses among the two
    of each rotation: the largest of x, y, z, w in absolute value is positive.
    """
    xx, xy, xz = values[k], values[k + 1], values[k + 2]
    yx, yy, yz = values[k + 3], values[k + 4], values[k + 5]
    zx, zy, zz = values[k + 6], values[k + 7], values[k + 8]
    trace = xx + yy + zz
    if xx >= yy and xx >= zz and xx >= trace:
        q = (1 - trace + 2 * xx, yx + xy, zx + xz, zy - yz)
    elif yy >= zz and yy >= trace:
        q = (yx + xy, 1 - trace + 2 * yy, zy + yz, xz - zx)
    elif zz >= trace:
        q = (zx + xz, zy + yz, 1 - trace + 2 * zz, yx - xy)
    else:
        q = (zy - yz, xz - zx, yx - xy, 1 + trace)
    length = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    return q[0] / length, q[1] / length, q[2] / length, q[3] / length
