"""The files for an operator, read as their programs would: none was run by Docker, systemd, Prometheus or Grafana."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector
from typer.main import get_command

from anmok.cli import app
from anmok.errors import BadData
from anmok.server.metrics import REASONS, SERIES
from anmok.server.settings import Settings, read_settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
_SECONDS = {"s": 1, "m": 60}


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, with their arguments on one line."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines.splitlines()) if word]


def the(instruction: str) -> str:
    """The last one, which holds for the final stage."""
    return [rest for word, rest in instructions() if word == instruction][-1]


def of_yaml(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def unit() -> dict[str, list[str]]:
    """The settings of the systemd unit, each with all of its values."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "anmok.service").read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def served(words: list[str]) -> dict[str, Any]:
    """The options of a command line as ``anmok`` takes it apart; raises for those that it does not know."""
    commands: dict[str, Any] = vars(get_command(app))["commands"]
    assert words[0] == "serve"
    context = commands["serve"].make_context("serve", words[1:])
    return dict(context.params)


def test_the_image_has_no_root_no_shell_and_a_pinned_base() -> None:
    assert [rest for word, rest in instructions() if word == "FROM"] == [
        "python:${PYTHON_TAG} AS build",
        "python:${PYTHON_TAG}",
    ]
    assert re.fullmatch(r"PYTHON_TAG=3\.11\.\d+-slim-\w+", instructions()[0][1])
    assert the("USER") == "10001:10001"
    assert json.loads(the("ENTRYPOINT")) == ["/opt/anmok/bin/anmok"]
    assert the("EXPOSE") == "8000"
    assert the("STOPSIGNAL") == "SIGTERM"
    assert {word for word, _ in instructions()} == {
        *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "VOLUME", "STOPSIGNAL"),
        *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }  # no ADD, which opens addresses
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "latest" not in text
    assert not re.search(r"curl|wget|sudo|apt", text)
    after_user = [word for word, _ in instructions()][::-1]
    assert "RUN" not in after_user[: after_user.index("USER")]


def test_the_image_keeps_weights_in_volumes() -> None:
    environment = dict(pair.split("=") for pair in the("ENV").split())
    assert json.loads(the("VOLUME")) == [environment["ANMOK_CACHE"], environment["HF_HOME"]]
    assert environment["HOME"] == "/tmp"  # the rest of the root is read-only


def test_the_image_is_built_from_files_that_are_let_in() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert {name for names in copied for name in names} == allowed
    assert all((ROOT / name).exists() for name in allowed)
    assert not any(fnmatch("deploy/secrets/scrape-key", name) for name in allowed)
    extras = re.search(r"EXTRAS=(\S+)", the("ARG"))
    assert extras is not None
    assert "serve" in extras[1].split(",")


def test_the_image_starts_a_command_that_exists() -> None:
    options = served(json.loads(the("CMD")))
    assert (options["host"], str(options["config"])) == ("0.0.0.0", "/etc/anmok/serve.toml")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_does_what_it_says(status: int | None, code: int) -> None:
    """The very command, with this Python and another port."""
    command = json.loads(the("HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["/opt/anmok/bin/python", "-c"]

    class Live(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status or 500 if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Live)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    port = server.server_address[1]
    if status is None:
        server.shutdown()
        server.server_close()
    try:
        code_there = command[2].replace("8000", str(port))
        done = subprocess.run([sys.executable, "-c", code_there], capture_output=True, timeout=30, check=False)
    finally:
        if status is not None:
            server.shutdown()
            server.server_close()
        thread.join()
    assert done.returncode == code


def test_the_settings_need_a_key_before_they_serve(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="key prometheus: sha256 must be 64 hexadecimal digits"):
        read_settings(DEPLOY / "serve.toml")
    text = (DEPLOY / "serve.toml").read_text(encoding="utf-8")
    digest = hashlib.sha256(b"a key of somebody's own").hexdigest()
    mended = tmp_path / "serve.toml"
    mended.write_text(re.sub(r'sha256 = ".*"', f'sha256 = "{digest}"', text), encoding="utf-8")
    settings = read_settings(mended)
    assert [one.name for one in settings.models] == ["mini"]
    assert settings.logs == "json"
    assert settings.memory_bytes < _bytes(of_yaml("compose.yaml")["services"]["anmok"]["mem_limit"])
    assert settings.memory_bytes < _bytes(unit()["MemoryHigh"][0]) < _bytes(unit()["MemoryMax"][0])


def _bytes(text: str) -> int:
    return int(text[:-1]) * 2**30 if text[-1] in "gG" else int(text)


@pytest.mark.parametrize("place", ["compose", "systemd"])
def test_whoever_stops_it_waits_for_the_drain(place: str) -> None:
    service = of_yaml("compose.yaml")["services"]["anmok"]
    text = service["stop_grace_period"] if place == "compose" else unit()["TimeoutStopSec"][0] + "s"
    patience = int(text[:-1]) * _SECONDS[text[-1]]
    assert patience >= Settings().drain_seconds + 15


def test_compose_runs_the_server_with_little() -> None:
    compose = of_yaml("compose.yaml")
    server = compose["services"]["anmok"]
    assert server["user"] == the("USER")
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert (ROOT / "deploy" / server["build"]["context"] / server["build"]["dockerfile"]).resolve().is_file()
    for service in compose["services"].values():
        assert not service.get("privileged")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", service["image"])
        assert set(service["networks"]) <= set(compose["networks"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose["volumes"], volume
        for one in service.get("configs", ()):
            yaml.safe_load(compose["configs"][one["source"]]["content"])
        assert set(service.get("secrets", ())) <= set(compose["secrets"])


def test_no_secret_is_committed() -> None:
    secrets = [one["file"] for one in of_yaml("compose.yaml")["secrets"].values()]
    assert all(file.startswith("./secrets/") for file in secrets)
    assert "/secrets/" in (DEPLOY / ".gitignore").read_text(encoding="utf-8").splitlines()
    password = of_yaml("compose.yaml")["services"]["grafana"]["environment"]
    assert password["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana-password"


def test_prometheus_asks_the_server_with_its_key() -> None:
    settings = of_yaml("prometheus.yml")
    [job] = settings["scrape_configs"]
    compose = of_yaml("compose.yaml")["services"]
    assert job["static_configs"] == [{"targets": ["anmok:8000"]}]
    assert "anmok" in compose
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{compose['prometheus']['secrets'][0]}"
    mounted = {volume.split(":")[1] for volume in compose["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in ("prometheus.yml", *settings["rule_files"])} <= mounted


def test_the_unit_is_confined() -> None:
    wanted = {
        "Type": "exec",
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "KillSignal": "SIGTERM",
        "Restart": "on-failure",
        "CacheDirectory": "anmok",
        "LoadCredential": "serve.toml:/etc/anmok/serve.toml",
    }
    assert {name: unit()[name][0] for name in wanted} == wanted
    environment = dict(pair.split("=", 1) for line in unit()["Environment"] for pair in line.split())
    for name in ("ANMOK_CACHE", "HF_HOME", "HOME"):
        assert environment[name].startswith("/var/cache/anmok")  # all that it may write to
    words = shlex.split(unit()["ExecStart"][0])
    assert words[0] == "/opt/anmok/bin/anmok"
    assert str(served(words[1:])["config"]) == "${CREDENTIALS_DIRECTORY}/serve.toml"


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """Where systemd is installed, by its own judgement; what we can tell without it stands above."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    text = (DEPLOY / "anmok.service").read_text(encoding="utf-8")
    copy = tmp_path / "anmok.service"
    copy.write_text(text.replace("/opt/anmok/bin/anmok", sys.executable), encoding="utf-8")  # one that is there
    done = subprocess.run([program, "verify", copy], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "anmok.service" not in done.stderr, done.stderr


def _exported() -> dict[str, set[str]]:
    """Every sample that the server exports, with its labels."""
    own = {name: {*one.labels, *(["le"] if name.endswith("_bucket") else [])} for one in SERIES for name in one.samples}
    process = ProcessCollector(registry=CollectorRegistry()).collect()
    return own | {sample.name: set() for family in process for sample in family.samples} | {"up": set()}


_OF_PROMETHEUS = {"job", "instance"}
_METRIC = re.compile(r"\b((?:anmok|process|python|up)\w*)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")


def expressions() -> list[tuple[str, str]]:
    """All queries, of panels and of alerts, with the text that goes with them."""
    dashboard = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    found = [(one["expr"], one["legendFormat"]) for panel in dashboard["panels"] for one in panel["targets"]]
    rules = [rule for group in of_yaml("alerts.yml")["groups"] for rule in group["rules"]]
    return found + [(rule["expr"], rule["annotations"]["summary"]) for rule in rules]


@pytest.mark.parametrize(("query", "text"), expressions(), ids=lambda value: value[:60])
def test_queries_name_what_is_exported(query: str, text: str) -> None:
    exported = _exported()
    without_strings = re.sub(r'"[^"]*"', '""', query)
    names = [name for name, _ in _METRIC.findall(without_strings)]
    assert names
    assert set(names) <= set(exported), query
    labels = {one for name in names for one in exported[name]} | _OF_PROMETHEUS
    for name, matchers in _METRIC.findall(without_strings):
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert asked <= exported[name] | _OF_PROMETHEUS, query
    grouped = {one.strip() for group in _GROUPED.findall(without_strings) for one in group.split(",")}
    assert grouped <= labels, query
    said = set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text))
    assert said <= labels, text
    assert query.count("(") == query.count(")")
    for reason in re.findall(r'reason="(\w+)"', query):
        assert reason in REASONS


@pytest.mark.parametrize(("query", "_"), expressions(), ids=lambda value: value[:60])
def test_counters_are_asked_for_their_rate(query: str, _: str) -> None:
    """The level of a counter says how long the process has run, and little else."""
    plain = re.sub(r"\{[^}]*\}", "", query)
    for name in re.findall(r"\w+_(?:total|bucket|sum|count)\b", plain):
        assert re.search(rf"(?:rate|increase)\({name}\[", plain), query


def test_the_dashboard_shows_what_an_operator_asks_for() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    shown = {name for query, _ in expressions() for name, _ in _METRIC.findall(query)}
    left = [one.name for one in SERIES if shown.isdisjoint(one.samples)]
    assert left == []
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    assert variables == {"datasource", "instance", "model"}
    asked = {name for panel in panels for one in panel["targets"] for name in re.findall(r"\$\{?(\w+)", one["expr"])}
    assert asked <= variables | {"__rate_interval"}
    for one in panels:
        assert one["datasource"]["uid"] == "${datasource}"
        assert one["gridPos"]["x"] + one["gridPos"]["w"] <= 24
    spots = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(spots)) == len(spots)


def test_alerts_say_what_to_do() -> None:
    rules = [rule for group in of_yaml("alerts.yml")["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["alert"].startswith("Anmok")
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "action"}
        assert re.fullmatch(r"\d+m", rule["for"])


def test_the_page_says_what_was_not_run() -> None:
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[`([\w./-]+)`\]\([^)]+\) \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    assert set(rows) == {path.name for path in DEPLOY.iterdir() if path.is_file() and path.name[0] != "."}
    assert all(said.startswith("not run") for said in rows.values())
