"""The settings of a cache, and who decides them: an argument, the environment, a file, the default, in that order.

Guarantees: what is nearest to the call wins, each setting for itself; a value that cannot be used is a ValueError
that names the variable, or the file and the key, and what is accepted; nothing is read before the first cache is
made, and no file twice.  Nothing configured is what is best for most.
Assumes: who may write these files and the environment may run programs as this user: no file is read from the working
directory, which may be anybody's.
Not here: what the settings do (cache.py); options of one store, which go with the call that opens it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from math import inf
from threading import TIMEOUT_MAX
from typing import Any, Generic, NamedTuple, TypeVar

from .errors import (
    bad_setting,
    cap_too_small,
    contradicting_settings,
    not_settings,
    unknown_setting,
    unreadable_settings,
)  # fmt: skip
from .freshness import DEFAULT as REVALIDATE_DEFAULT, Revalidate, parse_revalidate
from .mm import debug, dirty
from .units import PAGE_SIZE, parse_size

T = TypeVar("T")

PREFIX = "PAGEIN_"
FILE_VARIABLE = "PAGEIN_CONFIG"
"""Names the only file to read."""
SITE_FILE = "/etc/pagein.toml"
FILE_BYTES_MAX = 1 << 20
"""A file of settings has hundreds of bytes; something else was named by mistake, and may not end."""
FILES_MAX = 16
"""Combinations of files whose settings are kept: a process has one, unless it changes PAGEIN_CONFIG."""
MEMORY_SHARE = 4
"""The default cap: a quarter of the memory that this process may use."""
DEFAULT, ARGUMENT = "default", "argument"


class Found(NamedTuple, Generic[T]):
    """The value of a setting, and where it comes from: `ARGUMENT`, a variable, a file, or `DEFAULT`."""

    value: T
    origin: str


class Setting(NamedTuple, Generic[T]):
    """One setting: the key in a file, and the argument of `PageCache`; with `PREFIX`, in capitals, the variable.

    *checked* takes what was given and the words that name it in an error, and returns it or raises TypeError or
    ValueError.  *read* makes of the text in a variable what *checked* takes; of what it cannot read, the text.
    """

    name: str
    checked: Callable[[Any, str], T]
    read: Callable[[str], object]
    default: Callable[[], T]
    meaning: str

    @property
    def variable(self) -> str:
        """The variable of the environment."""
        return PREFIX + self.name.upper()

    def found(self, argument: object = None) -> Found[T]:
        """The value in force if *argument* is given to a call; None is no argument.

        Raises: ValueError for what is configured wrongly, and OSError for a file that cannot be read; ValueError or
        TypeError for *argument*.
        """
        configured = _in_files()  # first: a mistake in a file is told, whatever else is given
        if argument is not None:
            return Found(self.checked(argument, self.name), ARGUMENT)
        if text := os.environ.get(self.variable, "").strip():
            return Found(_configured(self, self.read(text), self.variable), self.variable)
        return configured.get(self.name) or Found(self.default(), DEFAULT)


# -- what is accepted --------------------------------------------------------------------------------


def _cap(value: Any, where: str) -> int:
    size_bytes = parse_size(value, what=where)
    if size_bytes < PAGE_SIZE:
        raise cap_too_small(size_bytes, where)
    return size_bytes


def _number(fits: Callable[[float], bool], accepted: str) -> Callable[[Any, str], float]:
    def checked(value: Any, where: str) -> float:
        if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
            raise bad_setting(where, accepted, value, kind=TypeError)
        try:
            number = float(value)
        except OverflowError:  # an integer of hundreds of digits
            number = inf
        if not fits(number):  # nor is nan
            raise bad_setting(where, accepted, value)
        return number

    return checked


_share = _number(lambda share: 0 <= share <= 1, "a share of the cache, from 0 to 1")
_limit = _number(lambda share: 0 < share <= 1, "a share of the cache, more than 0 and at most 1")
_age = _number(lambda seconds: 0 < seconds, "a number of seconds, more than 0")
_patience = _number(lambda seconds: 0 < seconds <= TIMEOUT_MAX, "a finite number of seconds, more than 0")


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise bad_setting(where, "true or false (in a variable also 1, yes, on, 0, no, off)", value, kind=TypeError)
    return value


def _revalidate(value: Any, where: str) -> Revalidate:
    parse_revalidate(value, where)
    return value  # type: ignore[no-any-return]  # it is one


def _read_number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _read_flag(text: str) -> object:
    return _FLAGS.get(text.lower(), text)


# -- the settings ------------------------------------------------------------------------------------


def _default_cap_bytes() -> int:
    """A share of the memory of the machine, or of less if a control group allows less."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([memory_bytes, *_group_limits()]) // MEMORY_SHARE


def _group_limits(groups: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> Iterator[int]:
    """How many bytes the control groups of this process allow it, and those that they are in; of either version.

    A container may be told a path that it does not see: then its own group is what is mounted, on the way up of it.
    """
    try:
        with open(groups) as lines:
            told = [line.rstrip("\n").split(":", 2) for line in lines]
    except (OSError, UnicodeError):  # not Linux, or not to be seen
        return
    for _, controllers, path in (one for one in told if len(one) == 3):
        if not controllers:
            top, limit = mount, "memory.max"
        elif "memory" in controllers.split(","):
            top, limit = f"{mount}/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            try:
                with open("/".join([top, *parts[:depth], limit])) as file:
                    yield int(file.read())
            except (OSError, ValueError):  # none there; or "max"
                pass


# fmt: off
SIZE = Setting("size", _cap, str, _default_cap_bytes,
               "hard cap of a cache over all its files; by default a quarter of memory")
DIRTY_BACKGROUND = Setting("dirty_background", _share, _read_number, lambda: dirty.BACKGROUND_SHARE,
                           "share of the cache: with more to be written, write-back begins; "
                           "by default at most half of dirty_limit")
DIRTY_LIMIT = Setting("dirty_limit", _limit, _read_number, lambda: dirty.LIMIT_SHARE,
                      "share of the cache: more never waits to be written; writers wait instead")
DIRTY_AGE_S = Setting("dirty_age_s", _age, _read_number, lambda: dirty.AGE_S,
                      "seconds after which what was written goes to its store anyway")
REVALIDATE = Setting("revalidate", _revalidate, _read_number, lambda: REVALIDATE_DEFAULT,
                     "when a source is looked at again: open, always, never, or a number of seconds")
DEBUG = Setting("debug", _flag, _read_flag, lambda: False,
                "assert the contract of stores at run time")
DEBUG_READ_TIMEOUT_S = Setting("debug_read_timeout_s", _patience, _read_number, lambda: debug.READ_TIMEOUT_S,
                               "with debug: seconds after which a read that nobody ended is a violation")
# fmt: on
SETTINGS: tuple[Setting[Any], ...] = (
    SIZE,
    DIRTY_BACKGROUND,
    DIRTY_LIMIT,
    DIRTY_AGE_S,
    REVALIDATE,
    DEBUG,
    DEBUG_READ_TIMEOUT_S,
)  # fmt: skip


def dirty_shares(background: float | None = None, limit: float | None = None) -> tuple[Found[float], Found[float]]:
    """`DIRTY_BACKGROUND` and `DIRTY_LIMIT`, with these arguments.  Raises: ValueError also if one excludes the other.

    As in Linux, who only lowers the limit need not lower the other.
    """
    begin, most = DIRTY_BACKGROUND.found(background), DIRTY_LIMIT.found(limit)
    if begin.origin == DEFAULT:
        begin = Found(min(begin.value, most.value / 2), DEFAULT)
    if begin.value > most.value:
        lower, upper = (
            f"dirty_background ({begin.value:g}, {begin.origin})",
            f"dirty_limit ({most.value:g}, {most.origin})",
        )
        raise contradicting_settings(lower, upper)
    return begin, most


def in_force() -> list[tuple[Setting[Any], Found[Any]]]:
    """Every setting as a cache made now, without arguments, would have it.  Raises: as `Setting.found`."""
    background, limit = dirty_shares()
    shares = {DIRTY_BACKGROUND.name: background, DIRTY_LIMIT.name: limit}
    return [(setting, shares.get(setting.name) or setting.found()) for setting in SETTINGS]


def misspelt_variables() -> dict[str, str]:
    """Variables that are no settings, but look like one: which.

    Not an error: others use the prefix, too.  Kubernetes sets PAGEIN_PORT for a service of that name.
    """
    known = {FILE_VARIABLE, *(setting.variable for setting in SETTINGS)}
    unknown = [name for name in os.environ if name.upper().startswith(PREFIX) and name not in known]
    known_rests = [name.removeprefix(PREFIX) for name in known]  # what they share would make any two alike
    nearest = {name: _nearest(name.upper().removeprefix(PREFIX), known_rests) for name in sorted(unknown)}
    return {name: PREFIX + meant for name, meant in nearest.items() if meant is not None}


# -- files -------------------------------------------------------------------------------------------


def files() -> list[str]:
    """Where settings are looked for: the first file that has one decides it."""
    if named := os.environ.get(FILE_VARIABLE):
        return [os.path.abspath(named)]
    home = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(home):  # then the XDG base directory specification says to ignore it
        home = os.path.expanduser("~/.config")
    own = os.path.join(home, "pagein", "pagein.toml")
    return [own, SITE_FILE] if os.path.isabs(own) else [SITE_FILE]  # a user without a home has no file of his own


def is_there(path: str) -> bool:
    """Whether there is a file.  A directory that we may not search has none for us: HOME may still be another's."""
    return os.path.exists(path)


def _in_files() -> Mapping[str, Found[Any]]:
    return _settings_of(tuple(files()), is_named=bool(os.environ.get(FILE_VARIABLE)))


@lru_cache(maxsize=FILES_MAX)
def _settings_of(paths: tuple[str, ...], *, is_named: bool) -> Mapping[str, Found[Any]]:
    settings: dict[str, Found[Any]] = {}
    for path in reversed(paths):
        if is_named or is_there(path):
            settings.update(_settings_in(path))
    return settings


def _settings_in(path: str) -> dict[str, Found[Any]]:
    import tomllib

    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise unreadable_settings(path, error) from error
    if len(data) > FILE_BYTES_MAX:
        raise not_settings(path, f"it has more than {FILE_BYTES_MAX} bytes")
    try:
        given = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError; lists in lists in lists
        raise not_settings(path, str(error)) from error
    known = {setting.name: setting for setting in SETTINGS}
    for key in given:
        if key not in known:
            raise unknown_setting(key, path, known, nearest=_nearest(key, known))
    return {key: Found(_configured(known[key], value, f"{key} in {path}"), path) for key, value in given.items()}


def _configured(setting: Setting[T], value: object, where: str) -> T:
    try:
        return setting.checked(value, where)
    except TypeError as error:  # whoever wrote a file or a variable called no function
        raise ValueError(str(error)) from None


def _nearest(name: str, known: Iterable[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
