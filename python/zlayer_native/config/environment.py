"""Values from variables: `ZLAYER_` and the key, in capitals, with `__` between block and key.

    ZLAYER_DATA_DIR=/srv/zlayer
    ZLAYER_HTTP__BIND=127.0.0.1:3669
    ZLAYER_CLUSTER__HEARTBEAT_MIN_TTL=15s
    ZLAYER_CLUSTER__SERVERS=10.0.0.1:3670,10.0.0.2:3670

`texts` has how lists and labels are written. Labels are added to those of the file; lists replace
it. A variable that is set to nothing is null: right where a key may be left out, and a problem
elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from zlayer_native.config.keys import kinds
from zlayer_native.config.origins import Layer, Origin
from zlayer_native.config.problems import PROBLEMS_MAX, Problem, SyntaxProblem, nearest
from zlayer_native.config.texts import read_text

PREFIX = "ZLAYER_"
#: They say how the command line reaches a server, and are no keys of this document.
CLIENT_VARIABLES = frozenset(
    {"ZLAYER_ADDR", "ZLAYER_TOKEN", "ZLAYER_TOKEN_FILE", "ZLAYER_CACERT", "ZLAYER_CONFIG"}
)
_EXPECTED = "a key of the configuration, such as ZLAYER_DATA_DIR or ZLAYER_CLUSTER__MODE"


def read_environment(env: Mapping[str, str]) -> tuple[Layer, list[Problem]]:
    """The values of all `ZLAYER_` variables, and what is wrong with them."""
    known = {PREFIX + "__".join(map(str, path)).upper(): path for path in kinds()}
    layer = Layer()
    problems: list[Problem] = []
    for name in sorted(env):
        if not name.startswith(PREFIX) or name in CLIENT_VARIABLES:
            continue
        if len(problems) > PROBLEMS_MAX:
            break
        origin = Origin("env", name if name.isprintable() else ascii(name))
        path = known.get(name)
        if path is None:
            # Without the prefix that all have: it would make everything look near.
            names = [each.removeprefix(PREFIX) for each in (*known, *CLIENT_VARIABLES)]
            near = nearest(name.removeprefix(PREFIX), names)
            hint = f", did you mean {PREFIX}{near}?" if near else ""
            problems.append(Problem((), f"unknown variable{hint}", _EXPECTED, origin=origin))
            continue
        try:
            value, found = read_text(env[name], path, origin)
        except SyntaxProblem as problem:
            told = Problem(path, problem.text, problem.expected, origin=origin, unread=True)
            problems.append(told)
            continue
        problems += found
        layer.put(path, value, origin)
    return layer, problems
