"""The systems that come with saferl: each a function that returns a ``System``. Angles in rad, lengths in m, time in s.

A system of one's own is written the same way: names, drift, matrices, input sets.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from saferl.reachability.system import Box, System


def double_integrator(max_acceleration: float = 1.0) -> System:
    """Position x and velocity v: x' = v, v' = u, |u| <= max_acceleration (m/s^2)."""

    def flow(states: Any, control: Any, disturbance: Any, dt: float) -> tuple[Any, ...]:
        _, v = states
        (u,) = control
        return v * dt + u * dt**2 / 2, u * dt

    return System(
        name="double_integrator",
        states=("x [m]", "v [m/s]"),
        drift=lambda x, v: (v, 0.0),
        control_matrix=((0,), (1,)),
        control=Box(-max_acceleration, max_acceleration),
        control_names=("acceleration [m/s^2]",),
        flow=flow,
    )


def dubins_car(speed: float = 1.0, max_turn_rate: float = 1.0) -> System:
    """A car of constant speed v (m/s), |u| <= max_turn_rate (rad/s): x' = v cos(th), y' = v sin(th), th' = u."""

    def flow(states: Any, control: Any, disturbance: Any, dt: float) -> tuple[Any, ...]:
        _, _, heading = states
        (u,) = control
        chord = speed * dt * np.sinc(u * dt / 2 / np.pi)  # of the arc
        return chord * np.cos(heading + u * dt / 2), chord * np.sin(heading + u * dt / 2), u * dt

    return System(
        name="dubins_car",
        states=("x [m]", "y [m]", "heading [rad]"),
        drift=lambda x, y, heading: (speed * np.cos(heading), speed * np.sin(heading), 0.0),
        control_matrix=((0,), (0,), (1,)),
        control=Box(-max_turn_rate, max_turn_rate),
        control_names=("turn rate [rad/s]",),
        flow=flow,
    )


def air3d(evader_speed: float = 5.0, pursuer_speed: float = 5.0, max_turn_rate: float = 1.0) -> System:
    """Pursuit and evasion of two cars, in the evader's frame: x ahead, y to its left, psi the pursuer's heading.

    x' = -v_e + v_p cos psi + u y, y' = v_p sin psi - u x, psi' = d - u; u evades, d pursues, both within max_turn_rate.
    Source: Mitchell, Bayen and Tomlin (2005), the game of two identical vehicles.
    """

    def flow(states: Any, control: Any, disturbance: Any, dt: float) -> tuple[Any, ...]:
        # The frame turns by -u dt; evader and pursuer move on arcs, whose chords are dt sinc(turn / 2).
        x, y, psi = states
        (u,), (d,) = control, disturbance
        turn = u * dt
        evader = evader_speed * dt * np.sinc(turn / 2 / np.pi)
        pursuer, heading = pursuer_speed * dt * np.sinc(d * dt / 2 / np.pi), psi - turn + d * dt / 2
        ahead = (np.cos(turn) - 1) * x + np.sin(turn) * y - evader * np.cos(turn / 2) + pursuer * np.cos(heading)
        left = (np.cos(turn) - 1) * y - np.sin(turn) * x + evader * np.sin(turn / 2) + pursuer * np.sin(heading)
        return ahead, left, (d - u) * dt

    return System(
        name="air3d",
        states=("x [m]", "y [m]", "psi [rad]"),
        drift=lambda x, y, psi: (pursuer_speed * np.cos(psi) - evader_speed, pursuer_speed * np.sin(psi), 0.0),
        control_matrix=lambda x, y, psi: ((y,), (-x,), (-1.0,)),
        control=Box(-max_turn_rate, max_turn_rate),
        control_names=("turn rate of the evader [rad/s]",),
        disturbance_matrix=((0,), (0,), (1,)),
        disturbance=Box(-max_turn_rate, max_turn_rate),
        flow=flow,
    )


def car4d(max_acceleration: float = 1.0, max_turn_rate: float = 1.0) -> System:
    """The extended car: x' = v cos, y' = v sin, v' = a, heading' = w, |a| and |w| bounded (m/s^2, rad/s)."""
    return System(
        name="car4d",
        states=("x [m]", "y [m]", "v [m/s]", "heading [rad]"),
        drift=lambda x, y, v, heading: (v * np.cos(heading), v * np.sin(heading), 0.0, 0.0),
        control_matrix=((0, 0), (0, 0), (1, 0), (0, 1)),
        control=Box((-max_acceleration, -max_turn_rate), (max_acceleration, max_turn_rate)),
        control_names=("acceleration [m/s^2]", "turn rate [rad/s]"),
    )


def bicycle(wheelbase: float = 2.7, max_acceleration: float = 3.0, max_steering: float = 0.5) -> System:
    """The kinematic bicycle about its rear axle: as ``car4d``, with heading' = v tan(steering) / wheelbase.

    The control is (acceleration, tan of the steering angle), which makes it affine; |steering| <= max_steering (rad).
    """
    steer = float(np.tan(max_steering))
    return System(
        name="bicycle",
        states=("x [m]", "y [m]", "v [m/s]", "heading [rad]"),
        drift=lambda x, y, v, heading: (v * np.cos(heading), v * np.sin(heading), 0.0, 0.0),
        control_matrix=lambda x, y, v, heading: ((0, 0), (0, 0), (1, 0), (0, v / wheelbase)),
        control=Box((-max_acceleration, -steer), (max_acceleration, steer)),
        control_names=("acceleration [m/s^2]", "tan of the steering angle"),
    )


def planar_quadrotor(
    mass: float = 1.0, inertia: float = 0.1, max_thrust: float = 20.0, max_torque: float = 1.0
) -> System:
    """A quadrotor in a vertical plane: thrust in [0, max_thrust] (N) along its axis, |torque| <= max_torque (N m).

    x' = vx, z' = vz, roll' = w, vx' = -T sin(roll) / m, vz' = T cos(roll) / m - 9.81, w' = torque / inertia.
    """
    return System(
        name="planar_quadrotor",
        states=("x [m]", "z [m]", "roll [rad]", "vx [m/s]", "vz [m/s]", "w [rad/s]"),
        drift=lambda x, z, roll, vx, vz, w: (vx, vz, w, 0.0, -9.81, 0.0),
        control_matrix=lambda x, z, roll, vx, vz, w: (
            (0, 0),
            (0, 0),
            (0, 0),
            (-np.sin(roll) / mass, 0),
            (np.cos(roll) / mass, 0),
            (0, 1 / inertia),
        ),
        control=Box((0.0, -max_torque), (max_thrust, max_torque)),
        control_names=("thrust [N]", "torque [N m]"),
    )


def inverted_pendulum(mass: float = 1.0, length: float = 1.0, max_torque: float = 5.0, damping: float = 0.0) -> System:
    """Angle 0 is upright: m l^2 angle'' = m g l sin(angle) - damping angle' + torque, |torque| <= max_torque (N m)."""
    inertia = mass * length**2
    return System(
        name="inverted_pendulum",
        states=("angle [rad]", "rate [rad/s]"),
        drift=lambda angle, rate: (rate, 9.81 / length * np.sin(angle) - damping / inertia * rate),
        control_matrix=((0,), (1 / inertia,)),
        control=Box(-max_torque, max_torque),
        control_names=("torque [N m]",),
    )


def point_robot() -> System:
    """saferl/PointRobot-v0: ``car4d`` with unit bounds; its flow over dt is the environment's own Euler step."""

    def flow(states: Any, control: Any, disturbance: Any, dt: float) -> tuple[Any, ...]:
        _, _, v, heading = states
        return dt * v * np.cos(heading), dt * v * np.sin(heading), dt * control[0], dt * control[1]

    car = car4d()
    return System(
        name="point_robot",
        states=car.states,
        drift=car.drift,
        control_matrix=car.control_matrix,
        control=car.control,
        control_names=car.control_names,
        flow=flow,
    )


# Safety-Gymnasium's Point, found by benchmarks/point_reduction.py; beside each, what its XML file implies.
POINT_ACCELERATION = 2.891  # m/s^2, 0.015 N on 5.19 g; the drive saturates at |action[0]| = 0.05
POINT_DAMPING = 1.927  # 1/s, 0.01 N s/m on 5.19 g; the top speed is 1.5 m/s
POINT_LEVER = 0.01927  # m, how far the centre of mass lies ahead of the body's origin
POINT_TURN_RATE = 3.0  # rad/s, where the motor's 0.015 N m and the hinge's damping balance; at |action[1]| >= 0.95


def safety_gymnasium_point(along_x: bool = False) -> System:
    """Safety-Gymnasium's Point (Circle, Goal, Run, ...): a damped puck that is pushed along its heading and turned.

    x' = vx + r w sin(th), y' = vy - r w cos(th), vx' = a u cos(th) - k x', vy' = a u sin(th) - k y', th' = w, with the
    position of the body's origin, which the costs are about, and the velocity of the centre of mass, which has no
    jumps. Controls: u in [-1, 1] of the full force, w the turn rate, |w| <= 3 rad/s; ``point_action`` translates.
    A control step is 0.02 s.

    Right: side slip (there is no sideways friction, so that a velocity state for each axis is needed and none is
    lost), drag, and the swing of the origin about the centre of mass.
    Wrong: w follows the command within about 5 ms, here at once; a reversal costs the heading up to 0.03 rad. Between
    commands of -0.95 and 0.95 the real motor chatters and its mean turn rate is not proportional to them; here every
    rate between is to be had. Contacts (vases, pillars, walls that stop) are not in it at all.
    Errors against MuJoCo under random bang-bang commands held for 0.1 s, root mean square (worst): one step
    0.1 (0.6) mm, 0.0003 (0.0025) m/s, 0.007 (0.03) rad; 1 s 3 (12) mm, 0.006 (0.02) m/s, 0.025 (0.06) rad.

    Args:
        along_x: only x, vx and heading, which is closed: all that a wall across x needs.
    Source: assets/xmls/point.xml of safety_gymnasium 1.0; constants by least squares, see above.
    """
    a, k, r, w = POINT_ACCELERATION, POINT_DAMPING, POINT_LEVER, POINT_TURN_RATE
    names = ("drive", "turn rate [rad/s]")
    if along_x:
        return System(
            name="safety_gymnasium_point_x",
            states=("x [m]", "vx [m/s]", "heading [rad]"),
            drift=lambda x, vx, th: (vx, -k * vx, 0.0),
            control_matrix=lambda x, vx, th: (
                (0, r * np.sin(th)),
                (a * np.cos(th), -k * r * np.sin(th)),
                (0, 1),
            ),
            control=Box((-1, -w), (1, w)),
            control_names=names,
        )
    return System(
        name="safety_gymnasium_point",
        states=("x [m]", "y [m]", "vx [m/s]", "vy [m/s]", "heading [rad]"),
        drift=lambda x, y, vx, vy, th: (vx, vy, -k * vx, -k * vy, 0.0),
        control_matrix=lambda x, y, vx, vy, th: (
            (0, r * np.sin(th)),
            (0, -r * np.cos(th)),
            (a * np.cos(th), -k * r * np.sin(th)),
            (a * np.sin(th), k * r * np.cos(th)),
            (0, 1),
        ),
        control=Box((-1, -w), (1, w)),
        control_names=names,
    )


def point_action(control: Any) -> Any:
    """Safety-Gymnasium's actions (N, 2) in [-1, 1] for controls (N, 2) of ``safety_gymnasium_point``.

    Exact for the drive and for full turns; between, the turn is the command whose steady rate would be the asked one
    if the motor did not chatter.
    """
    u = np.asarray(control, float)
    return np.stack([np.clip(0.05 * u[..., 0], -0.05, 0.05), np.clip(u[..., 1] / POINT_TURN_RATE, -1, 1)], axis=-1)


SYSTEMS: dict[str, Callable[..., System]] = {
    "double_integrator": double_integrator,
    "dubins_car": dubins_car,
    "air3d": air3d,
    "car4d": car4d,
    "bicycle": bicycle,
    "planar_quadrotor": planar_quadrotor,
    "inverted_pendulum": inverted_pendulum,
    "point_robot": point_robot,
    "safety_gymnasium_point": safety_gymnasium_point,
}
