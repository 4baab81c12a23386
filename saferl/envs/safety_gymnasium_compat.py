"""Safety-Gymnasium 1.0.0 on a current Python, gymnasium, mujoco and numpy: every change, and why.

The package was written for gymnasium 0.28, mujoco 2.3 and numpy 1.23, and its own ``__init__`` can't be imported beside
today's releases. ``load()`` imports its sub-modules, unchanged, under an empty parent package and replaces seven
symbols in them; nothing outside the package is touched. What differs in the physics of today's mujoco is set back in
the XML of a world (``physics="legacy"``), or left as mujoco now does it (``physics="native"``).

Source: comparison of compiled models and of recorded one-step transitions of both stacks (see
``tests/oracles/test_safety_gymnasium_golden.py``, which repeats it).
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from saferl.envs.errors import MissingPackageError

VERSION = "1.0.0"
INSTALL_LINE = "python -m saferl.install_envs"

PHYSICS = ("legacy", "native")


_legacy: ContextVar[bool] = ContextVar("legacy", default=True)


@contextmanager
def world_physics(physics: str) -> Iterator[None]:
    """Build the worlds of the block with ``physics``; the package itself has no way to hand it through."""
    token = _legacy.set(physics == "legacy")
    try:
        yield
    finally:
        _legacy.reset(token)


def load() -> None:
    """Import Safety-Gymnasium and patch it, once per process.

    Raises: MissingPackageError with the line that installs what is missing.
    """
    _check_installed()
    _load()


@functools.cache
def _load() -> None:
    if "safety_gymnasium" not in sys.modules:  # a stack on which the real package imports needs no stand-in
        sys.modules["safety_gymnasium"] = _parent_package()
    _make_colours_hashable()
    _accept_arrays_in_joint_lookup()
    _return_scalar_hinge_angles()
    _give_viewers_their_size()
    importlib.import_module("safety_gymnasium.world").xmltodict = _WorldXml  # type: ignore[attr-defined]


def use_headless_rendering() -> None:
    """Choose EGL where there is no display: with MUJOCO_GL unset mujoco takes GLFW, which needs one.

    Raises: MissingPackageError where EGL's library is missing.
    """
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("MUJOCO_GL", "egl") != "egl":
        return
    os.environ["MUJOCO_GL"] = "egl"
    try:
        importlib.import_module("mujoco.egl")
    except (ImportError, AttributeError) as error:  # PyOpenGL raises the latter where it finds no library
        del os.environ["MUJOCO_GL"]  # mujoco itself would not be imported with it
        raise MissingPackageError(
            f"pictures without a display need EGL, which does not load ({error}); on Debian it is installed by "
            "`apt-get install libegl1 libgl1-mesa-dri`."
        ) from None


def _check_installed() -> None:
    for package in ("mujoco", "xmltodict", "yaml", "imageio", "packaging"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(f"Safety-Gymnasium tasks need the package {package}; run `{INSTALL_LINE}`.")
    try:
        found = importlib.metadata.version("safety-gymnasium")
    except importlib.metadata.PackageNotFoundError:
        raise MissingPackageError(f"Safety-Gymnasium {VERSION} is not installed; run `{INSTALL_LINE}`.") from None
    if found != VERSION:
        raise MissingPackageError(
            f"Safety-Gymnasium {found} is installed, saferl needs {VERSION}; run `{INSTALL_LINE}`."
        )


def _parent_package() -> ModuleType:
    """A package that finds the real sub-modules but runs none of the real ``__init__``.

    What broke: ``__init__`` imports wrappers and vector environments that use gymnasium.wrappers.compatibility and
    .autoreset, which gymnasium 1.0 removed, and registers hundreds of ids whose steps return six values.
    """
    spec = importlib.util.find_spec("safety_gymnasium")
    if spec is None or spec.submodule_search_locations is None:  # a file of that name comes first in sys.path
        raise MissingPackageError(f"{spec and spec.origin} hides the package safety_gymnasium; rename that file.")
    package = ModuleType("safety_gymnasium")
    package.__spec__ = spec
    package.__file__ = spec.origin
    package.__path__ = list(spec.submodule_search_locations)
    package.__version__ = VERSION  # type: ignore[attr-defined]
    package.make = _make_as_the_package_does  # type: ignore[attr-defined]
    return package


def _make_as_the_package_does(task_id: str, **kwargs: Any) -> Any:
    """The package's own environment with six values a step, for scripts that call ``safety_gymnasium.make``."""
    return make_velocity(task_id, **kwargs) if "Velocity" in task_id else make_navigation(task_id, **kwargs)


def make_navigation(task_id: str, **kwargs: Any) -> Any:
    """The package's Builder of a navigation task, ``SafetyPointGoal1-v0``; ``kwargs`` are the Builder's."""
    name = task_id.removeprefix("Safety").split("-")[0]
    second_capital = next(i for i in range(1, len(name)) if name[i].isupper())
    config = {"agent_name": name[:second_capital]}
    if name[second_capital:].startswith("Race"):
        config["floor_conf.type"] = "village"
    with np.errstate(over="ignore"):  # gymnasium compares float64's bounds with the package's float32 ones
        return importlib.import_module("safety_gymnasium.builder").Builder(task_id, config, **kwargs)


def make_velocity(task_id: str, **kwargs: Any) -> Any:
    """The package's environment of a velocity task; ``SafetyAntVelocity-v1`` is in ``safety_ant_velocity_v1``."""
    name, version = task_id.split("-")
    robot = name.removeprefix("Safety").removesuffix("Velocity")
    snake = {"HalfCheetah": "half_cheetah"}.get(robot, robot.lower())
    module = importlib.import_module(f"safety_gymnasium.tasks.safe_velocity.safety_{snake}_velocity_{version}")
    with _ignore_total_mass_warning():
        return getattr(module, f"{name}Env")(**kwargs)


class _HashableArray(np.ndarray):
    """An array that is hashed by identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def _make_colours_hashable() -> None:
    # What broke: twelve dataclasses of assets have an array of COLOR as a default, and Python >= 3.11 refuses
    # defaults without a hash. Must run before a module of assets is imported.
    colours = importlib.import_module("safety_gymnasium.assets.color").COLOR
    for name, colour in colours.items():
        colours[name] = colour.view(_HashableArray)


class _ModelWithIntegerJoints:
    """A mujoco model whose ``jnt`` takes what ``sensor(...).objid`` gives: an array of one integer."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def jnt(self, joint: Any) -> Any:
        return self._model.jnt(int(np.ravel(joint)[0]))


def _accept_arrays_in_joint_lookup() -> None:
    # What broke: mujoco's named access now takes an int or a str only, and Car, Doggo and Ant pass an array.
    agent_class = importlib.import_module("safety_gymnasium.bases.base_agent").BaseAgent
    original = agent_class._init_jnt_sensors

    @functools.wraps(original)
    def init_jnt_sensors(self: Any) -> None:
        engine = self.engine
        self.engine = SimpleNamespace(model=_ModelWithIntegerJoints(engine.model), data=engine.data)
        try:
            original(self)
        finally:
            self.engine = engine

    agent_class._init_jnt_sensors = init_jnt_sensors


def _return_scalar_hinge_angles() -> None:
    # What broke: numpy 2.4 raises for float(array of one element), which Doggo and Ant do with a hinge angle.
    agent_class = importlib.import_module("safety_gymnasium.bases.base_agent").BaseAgent
    original = agent_class.get_sensor

    @functools.wraps(original)
    def get_sensor(self: Any, name: str) -> Any:
        value = original(self, name)
        is_angle = self.sensor_conf.sensors_angle_components and name in self.sensor_info.hinge_pos_names
        return value[0] if is_angle else value

    agent_class.get_sensor = get_sensor


def _give_viewers_their_size() -> None:
    # What broke: gymnasium 1.0's viewers have the required arguments width and height.
    rendering = importlib.import_module("gymnasium.envs.mujoco.mujoco_rendering")
    keyboard = importlib.import_module("safety_gymnasium.utils.keyboard_viewer").KeyboardViewer
    underlying = importlib.import_module("safety_gymnasium.bases.underlying")

    def off_screen_viewer(model: Any, data: Any) -> Any:
        screen = model.vis.global_
        return rendering.OffScreenViewer(model, data, screen.offwidth, screen.offheight)

    def init_keyboard_viewer(self: Any, model: Any, data: Any, custom_key_press_callback: Any) -> None:
        rendering.WindowViewer.__init__(self, model, data, None, None)
        self._custom_key_press_callback = custom_key_press_callback

    underlying.OffScreenViewer = off_screen_viewer  # type: ignore[attr-defined]
    keyboard.__init__ = init_keyboard_viewer


class _WorldXml:
    """Stands for the module ``xmltodict`` in ``safety_gymnasium.world``: the one place that sees a world's XML."""

    @staticmethod
    def parse(text: str) -> Any:
        return importlib.import_module("xmltodict").parse(text)

    @staticmethod
    def unparse(tree: Any) -> str:
        world = tree["mujoco"]
        _replace_textures(world)
        if _legacy.get():
            _restore_collider(world)
            _restore_weld_torque(world)
            _restore_racecar_inertia(world)
        return importlib.import_module("xmltodict").unparse(tree)


def _replace_textures(world: Any) -> None:
    """Draw the sky as a gradient, and paint what the package's wheel does not ship in one colour.

    The sky is six pictures of 3259 x 3259 pixels that are decoded at every reset (0.4 s, 0.8 GB of memory), seen or
    not. Race tasks name textures (village_floor.PNG, ...) that no release ships.
    """
    folder = Path(world["compiler"].get("@texturedir", ""))
    for texture in world["asset"]["texture"]:
        if texture.get("@type") == "skybox":
            texture.clear()
            texture.update({"@type": "skybox", "@builtin": "gradient", "@rgb1": "0.4 0.6 0.8", "@rgb2": "0 0 0"})
            texture.update({"@width": "32", "@height": "32"})
        elif "@file" in texture and not (folder / texture["@file"]).exists():
            del texture["@file"]
            texture.update({"@builtin": "flat", "@rgb1": "0.6 0.6 0.5", "@width": "8", "@height": "8"})


def _restore_collider(world: Any) -> None:
    # mujoco >= 3.3.7 collides convex shapes by its own GJK with several contacts, before by libccd with one:
    # the cylinder wheels of Racecar against its own box. The flag is unknown to releases before it was the default.
    mujoco = importlib.import_module("mujoco")
    if not hasattr(mujoco.mjtDisableBit, "mjDSBL_NATIVECCD"):
        return
    option = world.get("option") or {}
    option["flag"] = {**(option.get("flag") or {}), "@nativeccd": "disable"}
    world["option"] = option


def _restore_weld_torque(world: Any) -> None:
    # mujoco 3 regularises the rotational rows of a weld by the body's rotational inverse weight, 2.3.3 by its
    # translational one. A box of half-size s has 1.5 / s^2 as their ratio, so this scale of the torque restores it.
    sizes = {body.get("@name"): body["geom"]["@size"] for body in world["worldbody"]["body"] if _is_box(body)}
    for weld in world["equality"]["weld"]:
        half_size = float(sizes[weld["@body2"]].split()[0])  # m
        weld["@torquescale"] = repr(math.sqrt(1.5) / half_size)


def _is_box(body: Any) -> bool:
    geom = body.get("geom")
    return isinstance(geom, dict) and geom.get("@type") == "box"


def _restore_racecar_inertia(world: Any) -> None:
    # mujoco 3 integrates the chassis mesh of Racecar to 24.3 g, 2.3.3 to 17.6 g, and no option gives the old rule.
    chassis = _find_body(world["worldbody"]["body"], "car_body")
    if chassis is not None:
        chassis["inertial"] = {  # kg, m, kg m^2: what 2.3.3 compiles
            "@mass": "0.017605537618291808",
            "@pos": "0.15557992747876107 -0.0003826658731145229 6.812385950941158e-10",
            "@quat": "0.001766899788279318 0.7071045736417905 -0.001766899788279318 0.7071045736417905",
            "@diaginertia": "0.0002706324171671688 0.0002385001307776043 4.125453652032671e-05",
        }


def _find_body(bodies: Any, name: str) -> Any | None:
    """The first body called ``name`` below ``bodies``, a node or a list of nodes of the XML tree."""
    for body in bodies if isinstance(bodies, list) else [bodies]:
        if body.get("@name") == name:
            return body
        if "body" in body:
            found = _find_body(body["body"], name)
            if found is not None:
                return found
    return None


@functools.cache
def contact_margins_add_up() -> bool:
    """Whether this mujoco takes the sum of two geoms' margins (>= 3.5.0) as a contact's margin, not the greater one."""
    mujoco = importlib.import_module("mujoco")
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><geom type='plane' size='1 1 1' margin='0.1'/>"
        "<body pos='0 0 0.15'><freejoint/><geom type='sphere' size='0.1' margin='0.1'/></body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return bool(data.ncon == 1 and data.contact.includemargin[0] > 0.15)


@contextmanager
def _ignore_total_mass_warning() -> Iterator[None]:
    """Keep mujoco from reporting, for each HalfCheetah made, that gymnasium's XML uses ``settotalmass``.

    It would print the line and append it to a file MUJOCO_LOG.TXT in the current folder. Other warnings go on.
    """
    mujoco = importlib.import_module("mujoco")
    previous = mujoco.get_mju_user_warning()

    def warn(message: str) -> None:
        if "settotalmass" not in message:
            if previous is None:
                warnings.warn(message, stacklevel=2)
            else:
                previous(message)

    mujoco.set_mju_user_warning(warn)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)


def restore_velocity_physics(env: Any) -> None:
    """Set back two changes of mujoco in a velocity task, whose XML is gymnasium's and is not seen by the hook.

    Args: env: the task, a gymnasium MujocoEnv, changed in place.
    """
    mujoco = importlib.import_module("mujoco")
    if contact_margins_add_up():
        # Hopper, Ant and Humanoid give every geom the same margin; twice half of it is what 2.3.3 used.
        env.model.geom_margin[:] *= 0.5

    set_state = env.set_state

    def set_state_and_normalise(qpos: Any, qvel: Any) -> None:
        # mujoco >= 3.2 leaves a quaternion in qpos as it is, 2.3.3 normalised it in place, and it is observed.
        set_state(qpos, qvel)
        mujoco.mj_normalizeQuat(env.model, env.data.qpos)

    env.set_state = set_state_and_normalise
