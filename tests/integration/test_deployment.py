"""The images, the compose file and the lock files, checked without a Docker engine."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.domain.datasets import ARTICLE_TABLES
from service.server import GRACEFUL_SHUTDOWN_SECONDS
from service.settings import Settings

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "locks"
LOCK_NAMES = sorted(path.name for path in LOCKS.glob("*.txt"))
IMAGE_LOCK_NAMES = ["api.txt", "api-full.txt", "worker.txt"]
IMAGES = ["api", "api-full", "worker"]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE_FILE = ROOT / "docker-compose.yml"
PROGRAMS = Path(sys.executable).parent

PASSWORD = "onlyforthistest"
LONG_RUNNING = ["postgres", "redis", "api", "worker"]
OURS = ["migrate", "api", "worker"]
ENVIRONMENT_PREFIX = "SELFNORM_"
LOOPBACK = "127.0.0.1"
DOCKER_GRACE_SECONDS = 10
"""What a container gets to end where nothing else is said."""
INDEX_HOST = re.compile(rf"https?://(?!{re.escape(LOOPBACK)}[:/])|index-url|find-links|PIP_INDEX", re.IGNORECASE)
REQUIREMENT = re.compile(
    r"(?P<pin>(?P<name>[a-z0-9-]+)==[^\s;]+)(?: ; [^\\]+?)?(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})*)"
)


# The compose file.


def test_compose_file_without_password_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = _compose(tmp_path)
    assert done.returncode != 0
    assert "required variable POSTGRES_PASSWORD is missing" in done.stderr
    assert "set it in the environment or in the file .env" in done.stderr


def test_services_are_those_of_the_architecture(services: dict[str, Any]) -> None:
    assert {"postgres", "redis", "migrate", "api", "worker"} == services.keys()


def test_images_of_our_own_services_are_built_from_their_targets(services: dict[str, Any]) -> None:
    targets = {name: services[name]["build"]["target"] for name in OURS}
    # The worker's image migrates, for only it can read every built-in table.
    assert targets == {"migrate": "worker", "api": "api-full", "worker": "worker"}
    assert services["migrate"]["image"] == services["worker"]["image"] != services["api"]["image"]


def test_migration_waits_until_postgresql_is_healthy(services: dict[str, Any]) -> None:
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_proxies_are_believed_only_where_they_are_named(tmp_path: Path) -> None:
    for given, expected in (({}, LOOPBACK), ({"FORWARDED_ALLOW_IPS": "172.18.0.1"}, "172.18.0.1")):
        done = _compose(tmp_path, POSTGRES_PASSWORD=PASSWORD, **given)
        assert json.loads(done.stdout)["services"]["api"]["environment"]["FORWARDED_ALLOW_IPS"] == expected


@pytest.mark.parametrize("name", ["api", "worker"])
def test_api_and_worker_wait_until_the_migration_succeeded(services: dict[str, Any], name: str) -> None:
    assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_migration_runs_once(services: dict[str, Any]) -> None:
    assert services["migrate"]["command"] == ["selfnorm", "migrate"]
    assert services["migrate"]["restart"] == "no"


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_long_running_services_start_again(services: dict[str, Any], name: str) -> None:
    assert services[name]["restart"] == "unless-stopped"


def test_long_running_services_have_a_health_check(services: dict[str, Any]) -> None:
    checks = {name: " ".join(services[name].get("healthcheck", {}).get("test", [])) for name in LONG_RUNNING}
    assert "pg_isready --host=127.0.0.1" in checks["postgres"]
    assert "redis-cli ping" in checks["redis"]
    assert "/readyz" in checks["api"]
    assert checks["worker"] == "", "it has its image's"


@pytest.mark.parametrize("name", ["postgres", "redis", "migrate", "api", "worker"])
def test_services_take_only_so_much_of_the_machine(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert int(service["mem_limit"]) >= 2**28
    assert float(service["cpus"]) > 0
    assert service["pids_limit"] > 0
    assert service["logging"]["options"]["max-size"] == "20m"


def test_uploads_that_are_read_at_once_fit_into_the_memory_of_the_api(services: dict[str, Any]) -> None:
    api = services["api"]
    assert 2 * int(api["environment"]["SELFNORM_IMPORT_MEMORY_BYTES"]) + 2**30 <= int(api["mem_limit"])


def test_workers_reach_postgresql_and_redis_and_nothing_else(compose: dict[str, Any]) -> None:
    members: dict[str, set[str]] = {}
    for name, service in compose["services"].items():
        for network in service["networks"]:
            members.setdefault(network, set()).add(name)
    assert compose["services"]["worker"]["networks"].keys() == {"workers"}
    assert members["workers"] == {"postgres", "redis", "migrate", "worker"}
    assert {name for name, network in compose["networks"].items() if network.get("internal")} == {"workers", "storage"}
    assert compose["services"]["postgres"]["networks"].keys() == {"workers", "storage"}
    assert "edge" in compose["services"]["api"]["networks"]


def test_number_of_workers_is_free(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert {"container_name", "ports"} & worker.keys() == set()
    assert [mount.get("source") for mount in worker["volumes"]] == [None, "keras-data"], "scratch is each one's own"


def test_data_sets_are_fetched_where_there_is_a_way_out_into_the_volume_of_the_workers(tmp_path: Path) -> None:
    done = _compose(tmp_path, POSTGRES_PASSWORD=PASSWORD, COMPOSE_PROFILES="datasets")
    service = json.loads(done.stdout)["services"]["datasets"]
    assert service["networks"].keys() == {"edge"}
    assert "environment" not in service, "it needs no password"
    assert _named_volumes(service) == {"keras-data": _environment(_chain("worker"))["KERAS_HOME"]}
    compile(service["command"][2], "datasets", "exec")
    assert all(name in service["command"][2] for name in ARTICLE_TABLES)


def test_what_operators_look_at_is_there_for_the_asking(tmp_path: Path) -> None:
    done = _compose(tmp_path, POSTGRES_PASSWORD=PASSWORD, COMPOSE_PROFILES="observe")
    described = json.loads(done.stdout)
    observing = {name: described["services"][name] for name in ("prometheus", "grafana")}
    for service in observing.values():
        assert service["networks"].keys() == {"observe"}, "neither reaches the database"
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        mounted = [Path(mount["source"]) for mount in service["volumes"] if mount["type"] == "bind"]
        assert mounted
        assert all(path.is_dir() for path in mounted)
    assert observing["grafana"]["ports"][0]["host_ip"] == LOOPBACK
    assert {secret["environment"] for secret in described["secrets"].values()} == {"METRICS_KEY", "GRAFANA_PASSWORD"}


def test_prometheus_asks_what_there_is_for_it() -> None:
    told = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [job] = told["scrape_configs"]
    assert all((ROOT / "deploy/prometheus" / name).is_file() for name in told["rule_files"])
    assert job["job_name"] == "selfnorm", "the alerts say so"
    assert job["dns_sd_configs"][0]["names"] == ["api"]
    assert job["dns_sd_configs"][0]["port"] == 8000
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics-key"


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    folder = ROOT / "deploy/grafana"
    [source] = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((folder / "provisioning/dashboards/selfnorm.yml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    assert provider["options"]["path"] == "/etc/selfnorm"
    assert (folder / "selfnorm.json").is_file()


def test_what_must_outlive_containers_lies_on_named_volumes(compose: dict[str, Any]) -> None:
    expected = {
        # From version 18 on, the image of PostgreSQL keeps nothing on a volume at .../data.
        "postgres": {"postgres-data": "/var/lib/postgresql"},
        "redis": {"redis-data": "/data"},
        "worker": {"keras-data": _environment(_chain("worker"))["KERAS_HOME"]},
    }
    assert expected == {name: _named_volumes(compose["services"][name]) for name in expected}
    assert {volume for volumes in expected.values() for volume in volumes} == compose["volumes"].keys()


def test_rows_that_do_not_fit_into_memory_do_not_go_into_a_file_in_memory(services: dict[str, Any]) -> None:
    worker = services["worker"]
    scratch = worker["environment"]["TMPDIR"]
    assert scratch not in worker["tmpfs"]
    assert scratch in [mount["target"] for mount in worker["volumes"] if mount["type"] == "volume"]
    assert any(scratch in arguments for command, arguments in _chain("worker") if command == "RUN")


def test_redis_keeps_messages_and_never_evicts_them(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_only_the_api_is_published_and_only_on_this_machine(services: dict[str, Any]) -> None:
    published = {
        name: [(port["host_ip"], port["published"]) for port in service.get("ports", [])]
        for name, service in services.items()
    }
    assert {name: ports for name, ports in published.items() if ports} == {"api": [(LOOPBACK, "8000")]}


def test_published_port_can_be_chosen(tmp_path: Path) -> None:
    done = _compose(tmp_path, POSTGRES_PASSWORD=PASSWORD, SELFNORM_PORT="8123")
    assert json.loads(done.stdout)["services"]["api"]["ports"][0]["published"] == "8123"


def test_every_password_comes_from_the_environment(tmp_path: Path) -> None:
    services = json.loads(_compose(tmp_path, "--no-interpolate").stdout)["services"]
    values = {
        f"{name}.{key}": value for name in services for key, value in services[name].get("environment", {}).items()
    }
    secret = {key: value for key, value in values.items() if re.search("password|secret|token", key, re.IGNORECASE)}
    assert secret.pop("grafana.GF_SECURITY_ADMIN_PASSWORD__FILE") == "/run/secrets/grafana-password"
    assert secret.keys() == {"postgres.POSTGRES_PASSWORD"}
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for value in secret.values())
    credentials = [found[1] for value in values.values() if (found := re.search(r"://[^:/@]*:(.+)@", value))]
    assert len(credentials) == len(OURS)
    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}", credential) for credential in credentials)


def test_our_services_reach_postgresql_and_redis_by_their_names(services: dict[str, Any]) -> None:
    expected = {
        "SELFNORM_DATABASE_URL": f"postgresql+psycopg://selfnorm:{PASSWORD}@postgres:5432/selfnorm",
        "SELFNORM_BROKER_URL": "redis://redis:6379/0",
    }
    for name in OURS:
        assert expected.items() <= services[name]["environment"].items()
    assert services["postgres"]["environment"] == {
        "POSTGRES_DB": "selfnorm",
        "POSTGRES_USER": "selfnorm",
        "POSTGRES_PASSWORD": PASSWORD,
    }


def test_variables_of_the_service_are_settings(services: dict[str, Any]) -> None:
    assert Settings.model_config["env_prefix"] == ENVIRONMENT_PREFIX
    known = {f"{ENVIRONMENT_PREFIX}{name}".upper() for name in Settings.model_fields}
    given = {variable for service in services.values() for variable in service.get("environment", {})}
    given |= {variable for target in IMAGES for variable in _environment(_chain(target))}
    assert {variable for variable in given if variable.startswith(ENVIRONMENT_PREFIX)} <= known


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_privileges_and_write_only_to_tmp_and_volumes(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    volumes = [mount["target"] for mount in service.get("volumes", []) if mount["type"] == "volume"]
    assert [*service.get("tmpfs", []), *(target for target in volumes if target == "/tmp")] == ["/tmp"]


def test_uploads_lie_on_the_disk_and_not_in_memory(services: dict[str, Any]) -> None:
    assert {"type": "volume", "target": "/tmp"}.items() <= services["api"]["volumes"][0].items()
    assert "tmpfs" not in services["api"]


def test_services_get_the_time_that_they_need_to_end(services: dict[str, Any]) -> None:
    assert _seconds(services["api"]["stop_grace_period"]) > GRACEFUL_SHUTDOWN_SECONDS
    assert _seconds(services["worker"]["stop_grace_period"]) > DOCKER_GRACE_SECONDS


# The images.


def test_dockerfile_passes_the_linter_without_exceptions() -> None:
    command = [str(PROGRAMS / "hadolint"), "--no-color", "--disable-ignore-pragma", str(DOCKERFILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("target", IMAGES)
def test_images_run_as_a_user_with_a_fixed_number(target: str) -> None:
    user = [argument for instruction, argument in _chain(target) if instruction == "USER"][-1]
    assert user == "10001:10001"
    assert any(
        instruction == "RUN" and "--uid 10001 --user-group" in argument for instruction, argument in _chain(target)
    )


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("api", ["selfnorm", "api", "--host", "0.0.0.0", "--port", "8000"]),  # noqa: S104  # in a container
        ("api-full", ["selfnorm", "api", "--host", "0.0.0.0", "--port", "8000"]),  # noqa: S104
        ("worker", ["selfnorm", "worker"]),
    ],
)
def test_images_run_the_command_line(target: str, command: list[str]) -> None:
    assert [json.loads(argument) for instruction, argument in _chain(target) if instruction == "CMD"][-1] == command


@pytest.mark.parametrize("target", IMAGES)
def test_images_hold_what_their_own_lock_file_names_and_the_project_above_it(target: str) -> None:
    chain = _chain(target)
    [copied] = [argument for instruction, argument in chain if instruction == "COPY"]
    assert copied == f"--from={target}-packages /opt/venv /opt/venv"
    [place] = [index for index, step in enumerate(chain) if step[0] == "COPY"]
    instruction, project = chain[place + 1]
    assert instruction == "RUN", "a change of code changes this layer only"
    assert project.endswith("pip --python /opt/venv install --no-cache-dir --no-deps /wheel/*.whl")
    assert "--mount=type=bind,from=package,source=/wheel,target=/wheel" in project
    installs = [argument for instruction, argument in _chain(f"{target}-packages") if "pip --python" in argument]
    assert installs[-1].endswith(f"pip --python /opt/venv install --require-hashes -r deploy/locks/{target}.txt")
    assert len(installs) == (2 if target == "api-full" else 1)


@pytest.mark.parametrize("target", IMAGES)
def test_packages_do_not_depend_on_the_source(target: str) -> None:
    copied = [argument.split()[0] for step, argument in _chain(f"{target}-packages") if step == "COPY"]
    assert copied[-1] == f"deploy/locks/{target}.txt"
    assert all(name.startswith("deploy/locks/") for name in copied)


def test_project_is_built_once_with_what_its_lock_file_names() -> None:
    chain = _chain("package")
    installs = [argument for instruction, argument in chain if instruction == "RUN"]
    assert installs[0].endswith("pip install --no-deps --require-hashes -r deploy/locks/build.txt")
    assert installs[1:] == ["pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel ."]


def test_health_check_of_the_worker_image_looks_at_the_file_that_the_worker_touches(tmp_path: Path) -> None:
    [check] = [argument for instruction, argument in _chain("worker") if instruction == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    file = _environment(_chain("worker"))["SELFNORM_HEALTH_FILE"]
    assert file.startswith("/tmp/"), "the rest cannot be written"
    assert file in command[-1]
    here = tmp_path / "alive"
    command[-1] = command[-1].replace(file, str(here))
    run = partial(subprocess.run, command, check=False, stderr=subprocess.DEVNULL)
    assert run().returncode != 0
    here.touch()
    assert run().returncode == 0
    os.utime(here, (time.time() - 90, time.time() - 90))
    assert run().returncode != 0


def test_what_the_dockerfile_copies_is_exactly_what_the_build_may_read() -> None:
    copied = {
        source
        for stage in _stages().values()
        for instruction, argument in stage.instructions
        if instruction == "COPY" and not argument.startswith("--from=")
        for source in argument.split()[:-1]
    }
    assert all((ROOT / source).exists() for source in copied)
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied


def test_health_check_of_the_api_image_asks_the_process_only() -> None:
    checks = [argument for instruction, argument in _chain("api") if instruction == "HEALTHCHECK"]
    assert len(checks) == 1
    probe = json.loads(checks[0].partition("CMD ")[2])
    assert probe[:2] == ["python", "-c"]
    compile(probe[2], "probe", "exec")
    assert "http://127.0.0.1:8000/healthz" in probe[2]


@pytest.mark.parametrize("target", IMAGES)
def test_images_send_no_usage_data(target: str) -> None:
    assert _environment(_chain(target))["ORT_DISABLE_TELEMETRY"] == "1"


# The lock files.


@pytest.mark.parametrize("name", LOCK_NAMES)
def test_every_locked_requirement_is_pinned_and_has_hashes(name: str) -> None:
    lines = _requirements(name)
    assert lines
    assert [line for line in lines if not ((found := REQUIREMENT.fullmatch(line)) and found["hashes"])] == []


def test_worker_image_holds_tensorflow_and_keras() -> None:
    assert {"keras", "tensorflow", "tensorflow-cpu"} <= _pins("worker.txt").keys()


@pytest.mark.parametrize("name", IMAGE_LOCK_NAMES)
def test_images_hold_the_versions_that_are_tested(name: str) -> None:
    tested = _pins("dev.txt")
    assert {package: pins for package, pins in _pins(name).items() if pins != tested.get(package)} == {}


def test_build_has_what_the_project_says_it_needs() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {requirement.partition(">=")[0] for requirement in told} == _pins("build.txt").keys()


def test_full_image_holds_all_that_the_plain_one_does() -> None:
    assert _pins("api.txt").items() <= _pins("api-full.txt").items()


@pytest.mark.parametrize("path", [DOCKERFILE, *sorted(LOCKS.iterdir())], ids=lambda path: path.name)
def test_no_file_names_a_package_index(path: Path) -> None:
    assert INDEX_HOST.findall(path.read_text()) == []


# How they are read.


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The compose file as Docker understands it."""
    done = _compose(tmp_path_factory.mktemp("compose"), POSTGRES_PASSWORD=PASSWORD)
    assert (done.stderr, done.returncode) == ("", 0)
    described: dict[str, Any] = json.loads(done.stdout)
    return described


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = compose["services"]
    return described


def _compose(home: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``docker-compose config`` without this machine's variables, .env file and Docker configuration."""
    command = [
        str(PROGRAMS / "docker-compose"),
        "--env-file",
        "/dev/null",
        "-f",
        str(COMPOSE_FILE),
        "config",
        "--format",
        "json",
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": str(home), **environment})


def _named_volumes(service: dict[str, Any]) -> dict[str, str]:
    return {mount["source"]: mount["target"] for mount in service["volumes"] if mount.get("source")}


def _seconds(duration: str) -> int:
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found is not None
    return int(found[1] or 0) * 60 + int(found[2] or 0)


@dataclass
class _Stage:
    parent: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def _stages() -> dict[str, _Stage]:
    """Read the Dockerfile: the stages by name, each with its instructions."""
    stages: dict[str, _Stage] = {}
    for instruction, argument in _instructions():
        if instruction == "FROM":
            parent, _, name = argument.partition(" AS ")
            stages[name] = stage = _Stage(parent)
        else:
            stage.instructions.append((instruction, argument))
    return stages


def _instructions() -> Iterator[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line:
            instruction, *words = line.split()
            yield instruction, " ".join(words)


def _chain(target: str) -> list[tuple[str, str]]:
    """Return every instruction that makes a stage, those of the stages that it builds on first."""
    stages = _stages()
    stage = stages[target]
    return [*(_chain(stage.parent) if stage.parent in stages else []), *stage.instructions]


def _environment(chain: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [
        pair.partition("=") for instruction, argument in chain if instruction == "ENV" for pair in argument.split()
    ]
    return {name: value for name, _, value in pairs}


def _requirements(name: str) -> list[str]:
    """Return the requirements of a lock file, each on one line with its hashes."""
    text = re.sub(r"\s*\\\n\s*", " ", (LOCKS / name).read_text())
    return [line for line in text.splitlines() if line]


def _pins(name: str) -> dict[str, set[str]]:
    """Return the pinned versions by package; a package has several where its version depends on Python's."""
    pins: dict[str, set[str]] = {}
    for line in _requirements(name):
        found = REQUIREMENT.fullmatch(line)
        assert found is not None
        pins.setdefault(found["name"], set()).add(found["pin"])
    return pins
