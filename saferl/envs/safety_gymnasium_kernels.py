"""Compiled loops of Safety-Gymnasium's observations and costs, over mujoco's own arrays."""

import math

import numba


@numba.njit(cache=True)
def read_sensors(sensordata, copied_from, copied_to, angles_from, angles_to, turns_from, turns_to, out):
    """Fill the sensor entries of an observation ``out`` from mujoco's ``sensordata``.

    Args:
        sensordata: (nsensordata,) float64.
        copied_from, copied_to: (n,) where an entry is copied from and to.
        angles_from, angles_to: (m,) where a joint angle (rad) is, and where its sine goes; the cosine follows.
        turns_from, turns_to: (q,) where a quaternion begins, and where its rotation matrix does, row by row.
        out: (obs_dim,) float64, written.
    """
    for i in range(copied_from.size):
        out[copied_to[i]] = sensordata[copied_from[i]]
    for i in range(angles_from.size):
        angle = sensordata[angles_from[i]]
        out[angles_to[i]] = math.sin(angle)
        out[angles_to[i] + 1] = math.cos(angle)
    for i in range(turns_from.size):
        w, x, y, z = sensordata[turns_from[i] : turns_from[i] + 4]
        k = turns_to[i]
        out[k] = w * w + x * x - y * y - z * z
        out[k + 1] = 2 * (x * y - w * z)
        out[k + 2] = 2 * (x * z + w * y)
        out[k + 3] = 2 * (x * y + w * z)
        out[k + 4] = w * w - x * x + y * y - z * z
        out[k + 5] = 2 * (y * z - w * x)
        out[k + 6] = 2 * (x * z - w * y)
        out[k + 7] = 2 * (y * z + w * x)
        out[k + 8] = w * w - x * x - y * y + z * z


@numba.njit(cache=True)
def read_lidars(xpos, xmat, agent, bodies, offsets, bins, reach, out):
    """Fill the pseudo lidars of an observation ``out``, which must be 0 there.

    A bin reads 1 - distance / reach of the nearest object in its direction; neighbours get a share of it by the angle.

    Args:
        xpos, xmat: (nbody, 3) m and (nbody, 9), mujoco's body positions and rotations.
        agent: body of the robot, in whose frame directions are.
        bodies, offsets: (k,) what is seen, and where in ``out`` the lidar that sees it begins.
        bins: bins of a full turn.
        reach: m, distance from which a lidar reads 0.
        out: (obs_dim,) float64, written.
    """
    bin_size = 2 * math.pi / bins
    for i in range(bodies.size):
        # Objects are seen at height 0, in the frame of the robot.
        dx = xpos[bodies[i], 0] - xpos[agent, 0]
        dy = xpos[bodies[i], 1] - xpos[agent, 1]
        dz = -xpos[agent, 2]
        x = dx * xmat[agent, 0] + dy * xmat[agent, 3] + dz * xmat[agent, 6]
        y = dx * xmat[agent, 1] + dy * xmat[agent, 4] + dz * xmat[agent, 7]
        closeness = max(0.0, reach - math.hypot(x, y)) / reach
        angle = math.atan2(y, x) % (2 * math.pi)
        k = int(angle / bin_size)
        share = (angle - bin_size * k) / bin_size  # of the next bin; the one before gets the rest
        k %= bins  # a hair below a full turn rounds up to it
        after, before = offsets[i] + (k + 1) % bins, offsets[i] + (k - 1) % bins
        out[offsets[i] + k] = max(out[offsets[i] + k], closeness)
        out[after] = max(out[after], share * closeness)
        out[before] = max(out[before], (1 - share) * closeness)


@numba.njit(cache=True)
def hazard_cost(xpos, agent, bodies, size, weight):
    """Sum over hazards ``bodies`` of ``weight`` times the depth (m) of body ``agent`` within radius ``size`` (m)."""
    cost = 0.0
    for body in bodies:
        dx, dy = xpos[body, 0] - xpos[agent, 0], xpos[body, 1] - xpos[agent, 1]
        distance = math.sqrt(dx * dx + dy * dy)
        if distance <= size:
            cost += weight * (size - distance)
    return cost


@numba.njit(cache=True)
def agent_contacts(pairs, is_agent, is_group, excluded):
    """Number of contacts between the robot and a group of geoms in which geom ``excluded`` takes no part.

    Args:
        pairs: (ncon, 2) int32, the geoms of each contact.
        is_agent, is_group: (ngeom,) bool.
        excluded: a geom, or -1.
    """
    count = 0
    for i in range(pairs.shape[0]):
        a, b = pairs[i, 0], pairs[i, 1]
        if (is_agent[a] or is_agent[b]) and (is_group[a] or is_group[b]) and a != excluded and b != excluded:
            count += 1
    return count
