"""Install the simulators whose own pins no current Python can meet: ``python -m saferl.install_envs``.

Safety-Gymnasium 1.0.0 pins gymnasium 0.28 and mujoco 2.3, Bullet-Safety-Gym 1.4.0 pins gymnasium 0.28; both run on
today's releases. So what they need comes first, as saferl declares it, and they come without their dependencies.
Of icu-sepsis 2.0.1 only the data are read, so that the old gym which it needs stays away.
"""

import argparse
import subprocess
import sys

# What Safety-Gymnasium uses: saferl's extra "mujoco" (a test compares the two lists).
MUJOCO_PACKAGES = ("mujoco>=3.2,<4", "xmltodict", "pyyaml", "imageio[ffmpeg]", "moviepy>=2", "packaging")
SAFETY_GYMNASIUM = "safety-gymnasium==1.0.0"

BULLET_PACKAGES = ("pybullet>=3.2.6",)  # saferl's extra "bullet"
BULLET_SAFETY_GYM = "bullet-safety-gym==1.4.0"
ICU_SEPSIS = "icu-sepsis==2.0.1"


def commands(bullet: bool, medical: bool = False) -> list[list[str]]:
    """The pip commands, in order.

    ``bullet`` adds Bullet-Safety-Gym and pybullet (about 0.3 GB), ``medical`` the data of ICU-Sepsis (2 MB).
    """
    pip = [sys.executable, "-m", "pip", "install"]
    steps = [[*pip, *MUJOCO_PACKAGES], [*pip, "--no-deps", SAFETY_GYMNASIUM]]
    if bullet:
        steps += [[*pip, *BULLET_PACKAGES], [*pip, "--no-deps", BULLET_SAFETY_GYM]]
    if medical:
        steps.append([*pip, "--no-deps", ICU_SEPSIS])
    return steps


def main(argv: list[str] | None = None) -> int:
    """Run the commands one after the other; the exit code is that of the first that fails, or 0."""
    parser = argparse.ArgumentParser(prog="python -m saferl.install_envs", description="Install simulators with pip.")
    parser.add_argument("--bullet", action="store_true", help="also install pybullet and Bullet-Safety-Gym (0.3 GB)")
    parser.add_argument("--medical", action="store_true", help="also install the data of ICU-Sepsis (2 MB)")
    given = parser.parse_args(argv)
    for command in commands(given.bullet, given.medical):
        code = subprocess.call(command)
        if code != 0:
            print(f"saferl.install_envs: this command failed: {' '.join(command)}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
