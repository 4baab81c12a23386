"""What every command shares: key=value arguments by Hydra, and one line on stderr for what the user can mend."""

import argparse
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_module
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONFIG_MODULE = "saferl.conf"
HYDRA_VERSION_BASE = "1.3"


def manual(name: str) -> str:
    """The settings part of ``saferl/conf/<name>.yaml`` with its comments, indented: what --help shows."""
    file = resources.files(CONFIG_MODULE).joinpath(f"{name}.yaml")
    if not file.is_file():  # a YAML of the user's own, found through --config-dir
        return "  (its own file explains them)\n"
    text = file.read_text(encoding="utf-8")
    settings = re.split(r"^hydra:", text, maxsplit=1, flags=re.MULTILINE)[0]
    settings = re.sub(r"^defaults:\n(?:  .*\n)+\n?", "", settings, flags=re.MULTILINE)
    lines = [line for line in settings.splitlines() if line and not line.startswith(("#", "name:"))]
    keys = [line.partition(" # ") for line in lines]
    width = max(len(key) for key, _, _ in keys)
    shown = "\n".join(f"  {key:{width}}  {comment}".rstrip() for key, _, comment in keys) + "\n"
    return shown.replace("$", "$$")  # Hydra fills in words that begin with one dollar


OmegaConf.register_new_resolver("manual", manual, replace=True)


class UsageError(ValueError):
    """A mistake that the user can mend: its message is one line, and a command ends with exit code 2."""


def guarded(command: str, main: Callable[[], int]) -> int:
    """Run ``main``; a UsageError becomes one line on stderr and exit code 2. Anything else is a bug and is raised.

    Whoever reads the output may stop reading (``--help | head``): then the rest is not written, exit code 141.
    """
    try:
        return main()
    except BrokenPipeError:
        try:
            print(flush=True)  # fails again if it was this pipe, and not a worker's
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
            return 141
        raise
    except UsageError as error:
        line = " ".join(str(error).split())
        print(f"saferl.{command}: {line}", file=sys.stderr)
        return 2


def run_hydra(config_name: str, flags: argparse.Namespace, job: Callable[[DictConfig], None]) -> None:
    """Run ``job`` through Hydra with the words of ``check_flags``. Raises: the first UsageError that ``job`` raised."""
    mistakes: list[UsageError] = []

    def quiet(settings: DictConfig) -> None:  # Hydra adds lines of its own to whatever is raised
        try:
            job(settings)
        except UsageError as error:
            mistakes.append(error)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that what is not a user's mistake comes with its traceback
    sys.argv = [sys.argv[0], *flags.words, *flags.overrides]
    hydra.main(f"pkg://{CONFIG_MODULE}", config_name, HYDRA_VERSION_BASE)(quiet)()
    if mistakes:
        raise mistakes[0]


def single_run(
    command: str,
    words: Sequence[str],
    check: Callable[[DictConfig], Any],
    job: Callable[[DictConfig], None],
    instead: str,
) -> int:
    """A command without sweeps, whose settings are in ``conf/<command>.yaml``; returns exit code 0.

    Args:
        command: its name.
        words: of the command line.
        check: raises UsageError for settings that won't do; called before Hydra makes anything.
        job: the work, called with the settings.
        instead: what to do instead of -m.
    Raises: UsageError for a wrong word, and what ``check`` and ``job`` raise.
    """
    flags = check_flags(words)
    if flags.multirun:
        raise UsageError(f"{command} takes no -m; {instead}.")
    if not (flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion):
        check(composed(command, flags.overrides))
    run_hydra(command, flags, job)
    return 0


def imported(key: str, word: str, form: str = "package.module:function") -> Any:
    """What the word package.module:name of a setting stands for; modules in the current folder are found.

    Args:
        key: the setting, for messages.
        word: its value.
        form: what is expected, for messages.
    Raises: UsageError for a word of another form, or one that can't be imported.
    """
    module, colon, name = word.partition(":")
    if not colon:
        raise UsageError(f"{key}={word}: expected {form}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does, also for an installed command
    try:
        thing = importlib.import_module(module)
        for part in name.split("."):
            thing = getattr(thing, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{key}={word}: {error}") from error
    return thing


def unknown(kind: str, word: str, known: Iterable[str], form: str = "{}") -> str:
    """One line for a word that is not among ``known``; ``form`` shows how the close match is typed, as "agent={}"."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f" Did you mean {form.format(close[0])}?" if close else ""
    listed = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return f"no {kind} named '{word}'.{hint} Known: {listed}."


def check_flags(argv: Sequence[str], forbidden: Sequence[str] = ("--experimental-rerun",)) -> argparse.Namespace:
    """Hydra's own flags parsed once before Hydra does, so that a wrong one costs a line and not a page.

    Returns: Hydra's namespace; ``overrides`` are the key=value words and ``words`` (ours) the rest. Hydra understands
        the two only in this order: words, overrides.
    Raises: UsageError for an unknown flag, or for one that would unpickle a file.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; settings are written key=value, and --help lists them.")

    parser.error = refuse  # type: ignore[method-assign]
    for flag in forbidden:
        if any(word.split("=")[0] == flag for word in argv):
            raise UsageError(f"{flag} reads a pickle, and saferl unpickles nothing; use resume=RUN.")
    parsed = parser.parse_intermixed_args(list(argv))
    parsed.words = [word for word in argv if word not in parsed.overrides]
    return parsed


def composed(config_name: str, overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """The configuration of ``saferl/conf/<config_name>.yaml`` under ``overrides``.

    Args:
        config_name: file name without its ending.
        overrides: ``key=value`` words.
        config_dir: a folder of the user's own YAML that is searched first.
    Raises: UsageError with the close match for a wrong key, group choice or value.
    """
    if config_dir and not Path(config_dir).is_dir():
        raise UsageError(f"--config-dir {config_dir} is not a folder.")
    search = [f"hydra.searchpath=['file://{Path(config_dir).resolve()}']"] if config_dir else []
    try:
        with initialize_config_module(CONFIG_MODULE, version_base=HYDRA_VERSION_BASE):
            config = compose(config_name, overrides=[*overrides, *search])
            OmegaConf.resolve(config)
            return config
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(one_line(error, config_name, overrides)) from error


def one_line(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """Hydra's complaint about ``overrides`` in one line, with the close match where a name is wrong."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return unknown(group, choice, error.options, f"{group}={{}}")
    if isinstance(error, OverrideParseException):
        return f"can't read '{error.override}': settings are written key=value, for example seed=1; --help lists them."
    text = str(error)
    missing = re.search(r"Could not override '([^']+)'", text)
    if missing:
        key = missing.group(1)
        if key.startswith("hydra."):
            return f"no key named '{key}'; +{key}=... adds it, and --cfg hydra lists Hydra's own."
        groups = [word for word in overrides if word.split("=")[0] in ("agent",)]
        known = _keys(config_name, groups)
        node = key.rpartition(".")[0]
        siblings = [each for each in known if each.rpartition(".")[0] == node]
        return unknown("key", key, siblings or known, "{}=")
    return " ".join(line.strip() for line in text.splitlines()[:2])


def _keys(config_name: str, overrides: Sequence[str]) -> list[str]:
    """Every key, dotted, of the configuration."""
    try:
        with initialize_config_module(CONFIG_MODULE, version_base=HYDRA_VERSION_BASE):
            config = OmegaConf.to_container(compose(config_name, overrides=list(overrides)))
    except HydraException:
        return []

    def walk(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict) or not node:
            return [prefix]
        return [key for name, child in node.items() for key in walk(child, f"{prefix}.{name}" if prefix else str(name))]

    return walk(config, "")


def sweep_choices(overrides: Sequence[str]) -> list[list[str]]:
    """Override lists that together hold every value of every sweep at least once; the first holds all first values.

    For ``seed=0,1 agent=bc,fisor``: [seed=0 agent=bc], [seed=1 agent=bc], [seed=0 agent=fisor]. So a wrong value
    is found before the first job of a sweep starts, without composing the whole product.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UsageError(one_line(error, "config", overrides)) from error
    values = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_discrete_sweep()
        else [str(each.input_line)]
        for each in parsed
    ]
    first = [choices[0] for choices in values]
    return [first] + [
        first[:index] + [choice] + first[index + 1 :] for index, choices in enumerate(values) for choice in choices[1:]
    ]
