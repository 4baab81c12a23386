"""The reduction of Safety-Gymnasium's Point (saferl.reachability) against MuJoCo: its constants and its errors.

python benchmarks/point_reduction.py [rollouts]
"""

import sys

import numpy as np
from numpy.typing import NDArray

from saferl.evaluation.simulators import SafetyPointSimulator
from saferl.reachability.systems import POINT_LEVER, POINT_TURN_RATE, safety_gymnasium_point

Array = NDArray[np.float64]
STEPS = 50  # of 0.02 s
HOLD = 5  # steps for which a random command is held


def rollouts(count: int, seed: int) -> tuple[Array, Array]:
    """States (count, STEPS + 1, 6) and actions (count, STEPS, 2) of MuJoCo under random bang-bang commands."""
    generator = np.random.default_rng(seed)
    simulator = SafetyPointSimulator()
    speed, course = 1.5 * np.sqrt(generator.uniform(size=count)), generator.uniform(-np.pi, np.pi, count)
    states = np.zeros((count, STEPS + 1, 6))
    states[:, 0, :2] = generator.uniform(-1, 1, (count, 2))
    states[:, 0, 2], states[:, 0, 3] = speed * np.cos(course), speed * np.sin(course)
    states[:, 0, 4] = generator.uniform(-np.pi, np.pi, count)
    drive = generator.uniform(-0.05, 0.05, (count, STEPS // HOLD))
    turn = generator.choice([-1.0, 0.0, 1.0], (count, STEPS // HOLD))
    actions = np.repeat(np.stack([drive, turn], axis=-1), HOLD, axis=1)
    for step in range(STEPS):
        states[:, step + 1] = simulator.step(states[:, step], actions[:, step])
    return states, actions


def constants(states: Array, actions: Array) -> dict[str, float]:
    """Least squares over single steps: a, k, r of the motion, the full turn rate and the lag of the turn.

    Summed over a step, d(v_o) = a int u (cos, sin) dt - k d(position) - r d(w (-sin, cos)), where v_o is the velocity
    of the origin; the states hold the velocity of the centre of mass, from which it is taken back with POINT_LEVER.
    """
    before, after = states[:, :-1].reshape(-1, 6), states[:, 1:].reshape(-1, 6)
    commands = actions.reshape(-1, 2)
    dt = 0.02

    def swing(rows: Array) -> Array:  # w (-sin, cos), (n, 2)
        return rows[:, 5:] * np.stack([-np.sin(rows[:, 4]), np.cos(rows[:, 4])], axis=1)

    change = (after[:, 2:4] - POINT_LEVER * swing(after)) - (before[:, 2:4] - POINT_LEVER * swing(before))
    middle = (before[:, 4] + after[:, 4]) / 2
    push = np.clip(commands[:, :1] / 0.05, -1, 1) * dt * np.stack([np.cos(middle), np.sin(middle)], axis=1)
    columns = [push, -(after[:, :2] - before[:, :2]), -(swing(after) - swing(before))]
    table = np.stack([each.ravel() for each in columns], axis=1)
    a, k, r = np.linalg.lstsq(table, change.ravel(), rcond=None)[0]
    turns = np.abs(commands[:, 1]) == 1
    table = np.stack([commands[turns, 1] * dt, -(after[turns, 5] - before[turns, 5])], axis=1)
    rate, lag = np.linalg.lstsq(table, (after[turns, 4] - before[turns, 4]), rcond=None)[0]
    return {"acceleration m/s^2": a, "damping 1/s": k, "lever m": r, "turn rate rad/s": rate, "lag s": lag}


def predictions(states: Array, actions: Array) -> Array:
    """The reduction's states (count, STEPS + 1, 5) from the first ones, under the same commands."""
    system = safety_gymnasium_point()
    predicted = np.empty((*states.shape[:2], 5))
    predicted[:, 0] = states[:, 0, :5]
    for step in range(STEPS):
        control = np.stack([actions[:, step, 0] / 0.05, POINT_TURN_RATE * actions[:, step, 1]])
        predicted[:, step + 1] = (
            predicted[:, step]
            + np.stack(np.broadcast_arrays(*system.displacement(tuple(predicted[:, step].T), control, (), 0.02))).T
        )
    return predicted


def errors(states: Array, predicted: Array) -> dict[str, tuple[float, float]]:
    """Root mean square and largest error over rollouts (count, 5): position (m), velocity (m/s), heading (rad)."""
    difference = predicted - states[..., :5]
    parts = {
        "position m": np.hypot(difference[:, 0], difference[:, 1]),
        "velocity m/s": np.hypot(difference[:, 2], difference[:, 3]),
        "heading rad": np.abs(difference[:, 4]),
    }
    return {name: (float(np.sqrt(np.mean(each**2))), float(each.max())) for name, each in parts.items()}


def one_step(states: Array, actions: Array) -> tuple[Array, Array]:
    """Real and predicted states one step ahead of every state on the way, (count * STEPS, 5)."""
    system = safety_gymnasium_point()
    before, after = states[:, :-1].reshape(-1, 6)[:, :5], states[:, 1:].reshape(-1, 6)[:, :5]
    control = np.stack([actions[..., 0].ravel() / 0.05, POINT_TURN_RATE * actions[..., 1].ravel()])
    change = np.broadcast_arrays(*system.displacement(tuple(before.T), control, (), 0.02))
    return after, before + np.stack(change, axis=1)


def main() -> None:
    """Print constants and errors."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    for name, value in constants(*rollouts(count, seed=0)).items():
        print(f"{name:20} {value:.5f}")
    states, actions = rollouts(count, seed=1)  # not those of the fit
    table = {
        "one step": errors(*one_step(states, actions)),
        "1 s": errors(states[:, -1], predictions(states, actions)[:, -1]),
    }
    for span, row in table.items():
        for name, (rms, worst) in row.items():
            print(f"{span:9} {name:13} rms {rms:.5f}  worst {worst:.5f}")


if __name__ == "__main__":
    main()
