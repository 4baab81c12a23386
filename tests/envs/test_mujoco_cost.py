"""Costs on MuJoCo models, against closed forms."""

import math
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import saferl.envs

mujoco = pytest.importorskip("mujoco", reason="mujoco is not installed")

from saferl.envs.mjcf import MjcfRobot  # noqa: E402
from saferl.envs.mujoco_cost import (  # noqa: E402
    ContactForce,
    JointLimit,
    MujocoCost,
    Unhealthy,
    VelocityLimit,
    make_with_cost,
)

GUIDE = Path(__file__).parents[2] / "docs" / "your_own_robot.md"

ARM = """<mujoco>
  <compiler angle="radian"/><option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="shoulder">
      <joint name="hinge" type="hinge" axis="0 0 1" range="-1 1" limited="true" margin="0"/>
      <geom type="capsule" fromto="0 0 0 1 0 0" size="0.05" mass="1" contype="0" conaffinity="0"/>
      <body name="hand" pos="2 0 0"><geom size="0.05" mass="0.1" contype="0" conaffinity="0"/></body>
    </body>
  </worldbody>
  <actuator><motor name="turn" joint="hinge" ctrlrange="-1 1"/></actuator>
</mujoco>"""

BOXES = """<mujoco>
  <option timestep="0.002" gravity="0 0 -10"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1"/>
    <body name="lower" pos="0 0 0.5"><freejoint/><geom type="box" size="0.5 0.5 0.5" mass="3"/></body>
    <body name="upper" pos="0 0 1.5"><freejoint/><geom type="box" size="0.5 0.5 0.5" mass="2"/></body>
    <body name="far" pos="3 0 5"><joint type="slide" axis="1 0 0"/><geom size="0.1" mass="1"/></body>
  </worldbody>
  <actuator><motor joint="joint" ctrlrange="-1 1"/></actuator>
</mujoco>""".replace('<joint type="slide"', '<joint name="joint" type="slide"')


def robot(tmp_path: Path, xml: str, **kwargs) -> MjcfRobot:
    file = tmp_path / "robot.xml"
    file.write_text(xml)
    return MjcfRobot(file, lambda model, data: 0.0, **{"reset_noise": 0.0, **kwargs})


@pytest.mark.parametrize(("body", "radius"), [("shoulder", 0.0), ("hand", 2.0)])
def test_speed_of_a_rotating_body_is_radius_times_rate(tmp_path, body, radius):
    env = MujocoCost(robot(tmp_path, ARM), VelocityLimit(1.0, body=body))
    env.reset()
    for _ in range(20):
        *_, info = env.step([1.0])
        rate = env.unwrapped.data.qvel[0]
        assert info["margin"] == pytest.approx(radius * rate - 1.0, abs=1e-9)
        assert info["cost"] == float(radius * rate > 1.0)
    assert rate > 0.1


def test_axes_choose_the_components_of_the_speed(tmp_path):
    base = robot(tmp_path, ARM)
    base.reset()
    base.set_state(np.array([0.3]), np.array([2.0]))
    for axes, speed in (("x", 4 * math.sin(0.3)), ("y", 4 * math.cos(0.3)), ("xy", 4.0), ("z", 0.0)):
        assert VelocityLimit(0.0, "hand", axes).bind(base)(base.data) == pytest.approx(speed)


@pytest.mark.parametrize(
    ("constraint", "angle", "expected"),
    [
        (JointLimit(), 0.75, -0.25),
        (JointLimit(slack=0.5), 0.75, 0.25),
        (JointLimit({"hinge": (-0.2, 0.6)}), 0.75, 0.15),
        (JointLimit({"hinge": (-0.2, 0.6)}), -0.5, 0.3),
    ],
)
def test_joint_margin_is_the_distance_beyond_the_range(tmp_path, constraint, angle, expected):
    base = robot(tmp_path, ARM)
    base.set_state(np.array([angle]), np.zeros(1))
    assert constraint.bind(base)(base.data) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("bodies", "force"),
    [
        (("upper",), 20.0),  # carries its own weight: 2 kg x 10 m/s^2
        (("lower",), 50.0 + 20.0),  # the floor carries both, and the upper box presses from above
        (("far",), 0.0),
        (None, 70.0),
    ],
)
def test_contact_force_of_stacked_boxes_at_rest_is_their_weight(tmp_path, bodies, force):
    env = MujocoCost(robot(tmp_path, BOXES), ContactForce(15.0, bodies))
    env.reset()
    for _ in range(300):  # 3 s
        *_, info = env.step([0.0])
    assert info["margin"] == pytest.approx(force - 15.0, abs=0.1)
    assert info["cost"] == float(force > 15)


def test_unhealthy_is_the_opposite_of_is_healthy():
    env = MujocoCost(gymnasium.make("Hopper-v5", terminate_when_unhealthy=False), Unhealthy())
    env.reset(seed=0)
    env.action_space.seed(0)
    costs = []
    for _ in range(100):
        *_, info = env.step(env.action_space.sample())
        costs.append(info["cost"])
        assert info["margin"] == (-1.0 if env.unwrapped.is_healthy else 1.0)
    assert 0 < sum(costs) < 100


def test_a_function_is_a_constraint(tmp_path):
    env = MujocoCost(robot(tmp_path, ARM), lambda model, data: data.body("hand").xpos[1] - 0.01)
    env.reset()
    for _ in range(30):
        *_, info = env.step([1.0])
        assert info["margin"] == pytest.approx(2 * math.sin(env.unwrapped.data.qpos[0]) - 0.01, abs=1e-9)
        assert info["cost"] == float(info["margin"] > 0)
    assert info["cost"] == 1.0


@pytest.mark.parametrize("name", ["Hopper-v5", "Ant-v5"])
def test_wrapping_changes_no_bit_of_the_trajectory(name):
    plain, wrapped = gymnasium.make(name), MujocoCost(gymnasium.make(name), ContactForce(1.0))
    np.testing.assert_array_equal(plain.reset(seed=1)[0], wrapped.reset(seed=1)[0])
    generator = np.random.default_rng(0)
    for step in range(60):
        action = generator.uniform(-1, 1, plain.action_space.shape).astype(np.float32)
        ours, theirs = wrapped.step(action), plain.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:4] == theirs[1:4]
        if theirs[2]:
            np.testing.assert_array_equal(plain.reset(seed=step)[0], wrapped.reset(seed=step)[0])


def test_start_has_its_margin_and_no_cost():
    env = MujocoCost(gymnasium.make("InvertedPendulum-v5"), JointLimit({"slider": (-1e-6, 1e-6)}))
    _, info = env.reset(seed=0)
    assert info["cost"] == 0.0
    assert info["margin"] == pytest.approx(abs(env.unwrapped.data.qpos[0]) - 1e-6)
    assert info["margin"] > 0


def test_registered_cheetah_pays_for_speed_along_x_only():
    env = saferl.envs.make("saferl/HalfCheetahSpeed-v0")
    env.reset(seed=0)
    base = env.unwrapped
    for velocity in (1.5, 2.5, -2.5):
        base.set_state(base.init_qpos, np.array([velocity, 3.0, *np.zeros(base.model.nv - 2)]))
        *_, info = env.step(np.zeros(6, np.float32))
        assert info["margin"] == pytest.approx(abs(base.data.qvel[0]) - 2.0, abs=1e-9)


def test_guide_works_as_printed_and_takes_ten_lines(tmp_path, monkeypatch):
    text = GUIDE.read_text()
    model, code = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("xml", "python"))
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "cart.xml").write_text(model)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    try:
        exec(compile(code, str(GUIDE), "exec"), names)
        env = names["env"]
        _, info = env.reset(seed=0)
        assert info["cost"] == 0.0
        costs, steps, truncated = 0.0, 0, False
        while not truncated:
            _, reward, _, truncated, info = env.step([1.0])
            position = env.unwrapped.data.qpos[0]
            assert reward == pytest.approx(-abs(position - 0.9))
            assert info["margin"] == pytest.approx(abs(position) - 0.8)
            assert info["cost"] == float(info["margin"] > 0)
            costs, steps = costs + info["cost"], steps + 1
        assert steps == 100
        assert 0 < costs < 100  # the cart pushed to the right leaves its range on the way
        vector = gymnasium.make_vec("lab/Cart-v0", num_envs=2, vectorization_mode="sync")
        assert vector.reset(seed=0)[1]["margin"].shape == (2,)
    finally:
        gymnasium.registry.pop("lab/Cart-v0", None)


def test_every_example_constraint_of_the_guide_can_be_built():
    rows = re.findall(r"^\| `([A-Z].*?)` \|", GUIDE.read_text(), re.MULTILINE)
    assert len(rows) == 4
    for row in rows:
        eval(row)  # our own page


def test_robot_starts_at_its_keyframe_and_sees_what_it_is_told(tmp_path):
    xml = ARM.replace("</mujoco>", '<keyframe><key qpos="0.5"/></keyframe></mujoco>')
    env = robot(tmp_path, xml, observation=lambda model, data: data.body("hand").xpos)
    seen, _ = env.reset(seed=0)
    np.testing.assert_allclose(seen, [2 * math.cos(0.5), 2 * math.sin(0.5), 0], atol=1e-12)
    seen, *_ = env.step([1.0])
    angle = env.data.qpos[0]
    np.testing.assert_allclose(seen, [2 * math.cos(angle), 2 * math.sin(angle), 0], atol=1e-12)


def test_robot_ends_where_it_is_told(tmp_path):
    env = robot(tmp_path, ARM, terminated=lambda model, data: data.qpos[0] > 0.05)
    env.reset()
    ends = []
    for _ in range(20):
        seen, _, ended, _, _ = env.step([1.0])
        assert ended == (seen[0] > 0.05)
        ends.append(ended)
    assert set(ends) == {False, True}


def test_unstable_simulation_truncates_the_episode(tmp_path):
    env = robot(tmp_path, ARM)
    env.reset()
    assert env.step([0.0])[3:] == (False, {"diverged": False})
    env.data.qvel[:] = 1e12  # beyond what mujoco allows
    assert env.step([0.0])[3:] == (True, {"diverged": True})


def hopper() -> gymnasium.Env:
    return gymnasium.make("Hopper-v5")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: VelocityLimit(-1), "limit must be >= 0 m/s"),
        (lambda path: VelocityLimit(1, axes="w"), "made of x, y and z"),
        (lambda path: MujocoCost(hopper(), VelocityLimit(1, body="torsoo")), "Did you mean 'torso'"),
        (lambda path: MujocoCost(hopper(), JointLimit({"foot": (0, 1)})), "no joint named 'foot'"),
        (lambda path: MujocoCost(hopper(), JointLimit(slack=9)), "a range is empty"),
        (lambda path: MujocoCost(robot(path, BOXES), JointLimit()), "limits no joint"),
        (lambda path: ContactForce(1, "torso"), "tuple of names"),
        (lambda path: MujocoCost(gymnasium.make("Reacher-v5"), Unhealthy()), "has no is_healthy"),
        (lambda path: MujocoCost(gymnasium.make("CartPole-v1"), Unhealthy()), "no MuJoCo model"),
        (lambda path: MujocoCost(hopper(), 3), "a Constraint or a function; got 3"),
        (lambda path: MujocoCost(hopper(), lambda model, data: math.nan).reset(), "must be a number"),
        (lambda path: make_with_cost("Hopper-v5", "speed"), "allowed: velocity, joint, contact, unhealthy"),
        (lambda path: MjcfRobot(path / "none.xml", lambda m, d: 0), "no MJCF file"),
        (lambda path: robot(path, "<mujoco><nonsense/></mujoco>"), "MuJoCo refuses it"),
        (lambda path: robot(path, re.sub("<actuator>.*</actuator>", "", ARM)), "no actuator"),
        (lambda path: robot(path, ARM.replace(' ctrlrange="-1 1"', "")), "actuator turn has no ctrlrange"),
        (lambda path: robot(path, ARM, frame_skip=0), "frame_skip must be >= 1"),
        (lambda path: robot(path, ARM).step([0.0, 0.0]), "an action of 1 finite numbers"),
    ],
)
def test_a_mistake_gives_one_line(tmp_path, call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(tmp_path)
    assert "\n" not in str(error.value)


def test_without_mujoco_one_line_says_what_to_install():
    code = "import sys; sys.modules['mujoco'] = None; import saferl; saferl.envs.make('saferl/AntContact-v0')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "pip install 'saferl[mujoco]'" in done.stderr.strip().splitlines()[-1]
