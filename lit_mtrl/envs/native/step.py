"""A compiled step of one environment of many: MuJoCo's functions called by address."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_mtrl.envs.native.cache import compiled
from lit_mtrl.envs.native.maths import at, clip, distance
from lit_mtrl.envs.native.pointers import call2, call4, doubles, ints, words
from lit_mtrl.envs.native.task import TARGET

SUBSTEPS = 5


class Rows(NamedTuple):
    """Everything that compiled code needs to know of N environments, row i of each array being of environment i.

    functions: addresses of ``mj_step``, ``mj_forward`` and ``mj_setState``, and the number of MuJoCo's integration
        state.
    contacts: of `Layout`, in its order.
    model, data: addresses.
    edited: ``[N, 3, 2]``, address and count of the model's arrays that resets change.
    fields: ``[N, 6]``, addresses of the mocap body's position and orientation, the controls, and the positions of hand,
        right and left claw.
    observe, evaluate: addresses of the task's functions.
    low, high: ``[N, 3]``, of the mocap body.
    scale: ``[N]``, metres per action, float32.
    space_low, space_high: ``[N, 39]``, of the observation.
    gather: ``[K, 3]``, address, count and place in ``values`` of what is read from the simulation.
    touch: ``[M, 2]``, geom and place in ``values``.
    ranges: ``[N, 4]``, first and last of ``gather`` and of ``touch``.
    pads: ``[N, 2]``, geoms of the left and the right pad.
    values: ``[N, V]``, what a task reads, see `lit_mtrl.envs.native.task`.
    frame: ``[N, 2, 18]``, hand, gripper and objects now and a step ago.
    actions: ``[N, 4]``, float32.
    obs: ``[N, 39]``, clipped, float64.
    out: ``[N, 8]``, see `lit_mtrl.envs.native.task.OUT`.
    """

    functions: NDArray
    contacts: NDArray
    model: NDArray
    data: NDArray
    edited: NDArray
    fields: NDArray
    observe: NDArray
    evaluate: NDArray
    low: NDArray
    high: NDArray
    scale: NDArray
    space_low: NDArray
    space_high: NDArray
    gather: NDArray
    touch: NDArray
    ranges: NDArray
    pads: NDArray
    values: NDArray
    frame: NDArray
    actions: NDArray
    obs: NDArray
    out: NDArray


class Starts(NamedTuple):
    """States that episodes begin from, as official resets left them; row s of each array is start s.

    state: ``[S, n]``, MuJoCo's integration state.
    model: ``[S, m]``, what the reset changed in the model.
    values: ``[S, V]``, what a task reads.
    frame: ``[S, 18]``, hand, gripper and objects.
    obs: ``[S, 39]``, float32.
    """

    state: NDArray
    model: NDArray
    values: NDArray
    frame: NDArray
    obs: NDArray


@compiled
def pressure(rows, i, geom, pad):
    """The sum of the normal forces between two geoms."""
    data = rows.data[i]
    contacts, force = words(data + rows.contacts[1])[0], doubles(words(data + rows.contacts[2])[0])
    total = 0.0
    for _ in range(ints(data + rows.contacts[0])[0]):
        pair, first = ints(contacts + rows.contacts[4]), ints(contacts + rows.contacts[5])[0]
        if (pair[0] == geom or pair[1] == geom) and (pair[0] == pad or pair[1] == pad) and first >= 0:
            total += force[first]
        contacts += rows.contacts[3]
    return total


@compiled
def move(rows, i, action):
    """What the official ``step`` does to the simulation: the hand's target moves, the gripper is driven, time passes.

    The displacement is in single precision, as the action is.
    """
    position, orientation, controls = doubles(rows.fields[i, 0]), doubles(rows.fields[i, 1]), doubles(rows.fields[i, 2])
    for k in range(3):
        moved = position[k] + np.float64(clip(action[k], np.float32(-1), np.float32(1)) * rows.scale[i])
        position[k] = clip(moved, rows.low[i, k], rows.high[i, k])
    for k in range(4):
        orientation[k] = 1.0 - k % 2
    controls[0], controls[1] = action[3], -action[3]
    for _ in range(SUBSTEPS):
        call2(rows.functions[0], rows.model[i], rows.data[i])
    call2(rows.functions[1], rows.model[i], rows.data[i])


@compiled
def read(rows, i):
    """Fill the row's ``values`` from the simulation."""
    for g in range(rows.ranges[i, 0], rows.ranges[i, 1]):
        source, place = doubles(rows.gather[g, 0]), rows.gather[g, 2]
        for k in range(rows.gather[g, 1]):
            rows.values[i, place + k] = source[k]
    for g in range(rows.ranges[i, 2], rows.ranges[i, 3]):
        geom = rows.touch[g, 0]
        both = pressure(rows, i, geom, rows.pads[i, 0]) > 0 and pressure(rows, i, geom, rows.pads[i, 1]) > 0
        rows.values[i, rows.touch[g, 1]] = 1.0 if both else 0.0


@compiled
def see(rows, i):
    """The row's observation: hand, gripper and objects now and a step ago, the goal; clipped to its space."""
    frame, obs = rows.frame[i], rows.obs[i]
    for k in range(18):
        frame[1, k] = frame[0, k]
    hand, right, left = doubles(rows.fields[i, 3]), doubles(rows.fields[i, 4]), doubles(rows.fields[i, 5])
    apart = distance(at(right, 0), at(left, 0)) / 0.1
    for k in range(3):
        frame[0, k] = hand[k]
    frame[0, 3] = clip(apart, 0.0, 1.0)
    for k in range(4, 18):
        frame[0, k] = 0.0
    call2(rows.observe[i], rows.values[i].ctypes.data, frame[0].ctypes.data + 4 * 8)
    for k in range(18):
        obs[k], obs[18 + k] = frame[0, k], frame[1, k]
    for k in range(3):
        obs[36 + k] = rows.values[i, TARGET + k]
    for k in range(39):
        obs[k] = clip(obs[k], rows.space_low[i, k], rows.space_high[i, k])


@compiled
def step_row(rows, i, action):
    """A step of one environment; its observation is in ``rows.obs``, the rest in ``rows.out``.

    action: ``[4]``, float32.
    """
    move(rows, i, action)
    read(rows, i)
    see(rows, i)
    call4(
        *(rows.evaluate[i], rows.obs[i].ctypes.data, action.ctypes.data),
        *(rows.values[i].ctypes.data, rows.out[i].ctypes.data),
    )


@compiled
def restart(rows, todo, slots, starts, obs):
    """Begin episodes from starts that are kept.

    todo: ``[m]``, int64, the rows.
    slots: ``[m]``, int64, where in ``starts``.
    obs: ``[N, 39]``, float32; the rows' first observations are written.
    """
    for j in range(len(todo)):
        i, slot = todo[j], slots[j]
        copy_model(rows, i, starts.model[slot], False)
        call4(rows.functions[2], rows.model[i], rows.data[i], starts.state[slot].ctypes.data, rows.functions[3])
        # Number by number: numba compiles that many times faster than copies of slices.
        for k in range(starts.values.shape[1]):
            rows.values[i, k] = starts.values[slot, k]
        for k in range(starts.frame.shape[1]):
            rows.frame[i, 0, k] = starts.frame[slot, k]
        for k in range(starts.obs.shape[1]):
            obs[i, k] = starts.obs[slot, k]


@compiled
def copy_model(rows, i, numbers, away):
    """The part of a row's model that resets change, to ``numbers`` if ``away``, else from there."""
    place = 0
    for g in range(rows.edited.shape[1]):
        there = doubles(rows.edited[i, g, 0])
        for k in range(rows.edited[i, g, 1]):
            if away:
                numbers[place] = there[k]
            else:
                there[k] = numbers[place]
            place += 1
