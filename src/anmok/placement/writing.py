"""A plan as files: a ``serve.toml`` per device, what a router needs, and the plan itself."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anmok.errors import BadRequest
from anmok.files import write_beside
from anmok.placement.planning import Plan, Planned

FORMAT = 1
_PORT = 8000
_HEADER = "x-anmok-model"


def to_dict(plan: Plan) -> dict[str, Any]:
    """For JSON: what is infinite or not known is null."""
    return {
        "format": FORMAT,
        "ratio": _number(plan.ratio),
        "seed": plan.settings.seed,
        "reserve": plan.settings.reserve,
        "limits": asdict(plan.settings.limits),
        "devices": [_device(one) for one in plan.planned],
        "unplaced": [asdict(one) for one in plan.unplaced],
        "notes": list(plan.notes),
    }


def write_plan(folder: Path, plan: Plan, content: Mapping[str, Any], home: Path) -> list[str]:
    """Writes ``gpu0.toml`` and so on for each device that holds something, ``nginx.conf`` and ``plan.json``.

    Args:
        folder: made anew; an older plan in it goes away.
        plan: what to write.
        content: of the ``serve.toml`` that was planned for; an adapter's row says ``as`` what it is served.
        home: the folder that it lies in, which paths of adapters start from.

    Returns:
        The names of the files.

    Raises:
        BadRequest: the folder holds something that is no plan.
        CannotWrite: the disk refuses.
    """
    if folder.exists() and not (folder / "plan.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadRequest(f"--out {folder}: is there already and holds no plan; give another name")
    used = [one for one in plan.planned if one.held]
    texts = {f"{one.device.name}.toml": _served(one, plan, content, (home, folder)) for one in used}
    texts["nginx.conf"] = router(plan, content)
    texts["plan.json"] = json.dumps(to_dict(plan), ensure_ascii=False, indent=1) + "\n"
    with write_beside(folder, is_folder=True) as beside:
        for name, text in texts.items():
            (beside / name).write_text(text, encoding="utf-8", newline="\n")
    return sorted(texts)


def router(plan: Plan, content: Mapping[str, Any]) -> str:
    """For the ``http`` block of nginx: the model is read from the path, else from a header, and chosen by weight.

    ``/models/NAME/...`` and ``/v2/models/NAME/...`` name the model; every other route takes it from the header
    ``X-Anmok-Model``, since nginx does not read bodies.
    """
    servers: dict[str, list[str]] = {}
    for place, one in zip(_places(plan, content), (one for one in plan.planned if one.held), strict=True):
        for share in one.held:
            weight = max(1, round(100 * share.part))
            servers.setdefault(share.job.name, []).append(f"    server {place} weight={weight};")
    names = {name: f"anmok_{number}" for number, name in enumerate(servers)}
    lines = []
    for name, rows in servers.items():
        lines += [f"upstream {names[name]} {{  # {name}", "    least_conn;", *rows, "    keepalive 16;", "}"]
    header = _HEADER.replace("-", "_")
    lines += [f"map $http_{header} $anmok_by_header {{", '    default "";']
    lines += [f'    "{name}" {upstream};' for name, upstream in names.items()]
    lines += ["}", "map $uri $anmok_upstream {", "    default $anmok_by_header;"]
    for name, upstream in names.items():
        escaped = name.replace(".", "\\.")
        lines.append(f'    "~^/(?:v2/)?models/{escaped}(?:/|$)" {upstream};')
    lines += ["}", "server {", "    listen 127.0.0.1:8080;", "    client_max_body_size 64m;", "    location / {"]
    lines += ['        if ($anmok_upstream = "") { return 404; }', "        proxy_pass http://$anmok_upstream;"]
    lines += ["        proxy_http_version 1.1;", '        proxy_set_header Connection "";']
    lines += ["        proxy_set_header Host localhost;", "        proxy_buffering off;", "    }", "}"]
    return "\n".join(lines) + "\n"


def toml(content: Mapping[str, Any]) -> str:
    """Plain values first, then tables, then arrays of tables, as TOML 1.0.

    JSON strings are TOML strings but for the character DEL, which is escaped.
    """
    lines = [f"{key} = {_value(value)}" for key, value in content.items() if not _is_table(value)]
    for key, value in content.items():
        rows = [value] if isinstance(value, Mapping) else value if _is_table(value) else []
        mark = f"[{key}]" if isinstance(value, Mapping) else f"[[{key}]]"
        for row in rows:
            lines += ["", mark, *(f"{name} = {_value(one)}" for name, one in row.items())]
    return "\n".join(lines) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(one, Mapping) for one in value))


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _places(plan: Plan, content: Mapping[str, Any]) -> list[str]:
    """Host and port of each device that holds something."""
    host = str(content.get("host", "127.0.0.1"))
    host = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else f"[{host}]" if ":" in host else host
    return [f"{host}:{port}" for port in _ports(plan, content)]


def _ports(plan: Plan, content: Mapping[str, Any]) -> list[int]:
    start = int(content.get("port", _PORT))
    return [start + number for number, one in enumerate(plan.planned) if one.held]


def _control(plan: Plan, content: Mapping[str, Any]) -> int:
    """Where the control ports begin: as was said, but behind the ports of the devices where the two would meet."""
    port, control, count = int(content.get("port", _PORT)), int(content["control_port"]), len(plan.planned)
    return control if abs(control - port) >= count else port + count


def _served(one: Planned, plan: Plan, content: Mapping[str, Any], way: tuple[Path, Path]) -> str:
    """The settings of one device: all as they were, but for where it runs and what it holds."""
    number = plan.planned.index(one)
    rows = {_name(row): row for row in content.get("model", ())}
    settings = {key: value for key, value in content.items() if key != "model"}
    settings["device"] = one.device.address
    settings["port"] = int(content.get("port", _PORT)) + number
    if content.get("control_port"):
        settings["control_port"] = _control(plan, content) + number
    settings["memory"] = one.room_bytes - one.working_bytes
    settings["model"] = [_row(rows[share.job.name], *way) for share in one.held]
    return toml(settings)


def _row(row: Mapping[str, Any], home: Path, folder: Path) -> dict[str, Any]:
    name = str(row["name"])
    if name.startswith(("./", "../")):
        name = Path(os.path.relpath((home / name).resolve(), folder.resolve())).as_posix()
        name = name if name.startswith("../") else f"./{name}"
    served = {key: value for key, value in row.items() if key != "as"}
    return {**served, "name": name, **({"as": _name(row)} if _name(row) != name else {}), "pinned": True}


def _name(row: Mapping[str, Any]) -> str:
    """What callers say."""
    return str(row.get("as", row["name"]))


def _device(one: Planned) -> dict[str, Any]:
    return {
        "name": one.device.name,
        "device": one.device.address,
        "kind": one.device.kind,
        "slowness": one.device.slowness,
        "memory_bytes": one.device.memory_bytes,
        "room_bytes": one.room_bytes,
        "weights_bytes": one.weights_bytes,
        "working_bytes": one.working_bytes,
        "load": round(one.load, 4),
        "busy": round(one.busy, 4),
        "headroom": one.headroom,
        "models": [{"name": share.job.name, "part": round(share.part, 4)} for share in one.held],
        "expected": [{key: _number(value) for key, value in asdict(row).items()} for row in one.expected],
    }


def _number(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None
