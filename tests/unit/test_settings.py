"""Settings from IRIS_* variables."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iris import settings
from iris.errors import SettingsError


def test_without_variables_the_defaults_hold() -> None:
    config = settings.load()
    assert (config.host, config.port, config.model) == ("127.0.0.1", 7860, "iris-id2223")
    assert config.threads == settings.cpu_quota()
    assert config.cache >= config.context


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("IRIS_HOST", " 0.0.0.0 ", "host", "0.0.0.0"),
        ("IRIS_PORT", "8080", "port", 8080),
        ("IRIS_PORT", "0", "port", 0),
        ("IRIS_PORT", "  ", "port", 7860),
        ("IRIS_MODEL", "llama32-3b-qlora-exam", "model", "llama32-3b-qlora-exam"),
        ("IRIS_ENGINE_URL", "http://gpu:8000", "engine_url", "http://gpu:8000"),
        ("IRIS_ENGINE_KEY", "secret", "engine_key", "secret"),
        ("IRIS_THREADS", "3", "threads", 3),
        ("IRIS_SLOTS", "2", "slots", 2),
        ("IRIS_QUEUE", "0", "queue", 0),
        ("IRIS_CONTEXT", "512", "context", 512),
        ("IRIS_CACHE", "8192", "cache", 8192),
        ("IRIS_LOADED_MODELS", "1", "loaded_models", 1),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(name, value)
    changed = settings.load()
    assert getattr(changed, field) == expected
    monkeypatch.delenv(name)
    assert dataclasses.replace(changed, **{field: getattr(settings.load(), field)}) == settings.load()


def test_a_larger_context_alone_makes_the_cache_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_CONTEXT", "32768")
    assert settings.load().cache == 32768


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("IRIS_PORT", "http", "IRIS_PORT must be a whole number, not 'http'"),
        ("IRIS_PORT", "7860.5", "IRIS_PORT must be a whole number"),
        ("IRIS_PORT", "65536", "IRIS_PORT must be between 0 and 65535, not 65536"),
        ("IRIS_PORT", "-1", "IRIS_PORT must be between 0 and 65535"),
        ("IRIS_THREADS", "0", "IRIS_THREADS must be between 1"),
        ("IRIS_SLOTS", "0", "IRIS_SLOTS must be between 1"),
        ("IRIS_SLOTS", "1e3", "IRIS_SLOTS must be a whole number"),
        ("IRIS_QUEUE", "-5", "IRIS_QUEUE must be between 0"),
        ("IRIS_CONTEXT", "10", "IRIS_CONTEXT must be between 256"),
        ("IRIS_CONTEXT", "99999999999", "IRIS_CONTEXT must be between 256"),
        ("IRIS_CACHE", "300", "IRIS_CACHE (300) must be at least IRIS_CONTEXT (4096)"),
        ("IRIS_LOADED_MODELS", "many", "IRIS_LOADED_MODELS must be a whole number"),
    ],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        settings.load()
    assert complaint in str(error.value)


def test_the_state_folder_is_read_when_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    assert settings.home() == home
    monkeypatch.setenv("IRIS_HOME", str(tmp_path / "other"))
    assert settings.home() == tmp_path / "other"
    monkeypatch.setenv("IRIS_HOME", " ")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.home() == tmp_path / ".iris"
    monkeypatch.setenv("IRIS_HOME", "~/iris")
    assert settings.home() == tmp_path / "iris"
    assert not home.exists()


def test_a_user_without_a_home_folder_gets_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_HOME", "~no-such-user/iris")
    with pytest.raises(SettingsError, match="Set IRIS_HOME"):
        settings.home()


def test_the_state_folder_is_made(home: Path) -> None:
    assert settings.writable_home() == home
    assert list(home.iterdir()) == [], "nothing of the probe is left"
    assert settings.writable_home() == home, "it may be there already"


def test_a_file_in_place_of_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/inside"):
        monkeypatch.setenv("IRIS_HOME", str(folder))
        with pytest.raises(SettingsError) as error:
            settings.writable_home()
        assert str(folder) in str(error.value)
        assert "Set IRIS_HOME" in str(error.value)


def test_a_state_folder_that_nobody_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc takes no new files, not even from root."""
    monkeypatch.setenv("IRIS_HOME", "/proc/iris")
    with pytest.raises(SettingsError, match=r"Iris cannot write to its state folder /proc/iris \("):
        settings.writable_home()


def test_threads_follow_the_affinity_mask() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from iris import settings; print(settings.cpu_quota(), settings.load().threads)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1", "1"], done.stderr


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen CPUs to run on, so that the quota under test is the smallest limit."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("CPU_CORES", raising=False)


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.usefixtures("sixteen_cores")
@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 16),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 16),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),  # never less than one
        ({"sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3),  # the half would only be throttled
        ({"sys/fs/cgroup/cpu.max": "garbage"}, 16),
        ({"sys/fs/cgroup/cpu.max": "0 0"}, 16),
        (  # a systemd service: the quota is set on its own group, or on one above it
            {"proc/self/cgroup": "0::/a.slice/b.service\n", "sys/fs/cgroup/a.slice/b.service/cpu.max": "300000 100000"},
            3,
        ),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/a.slice/b.service/cpu.max": "max 100000",
            },
            2,
        ),
        (  # a container sees its group as the mount's root, under the path the host knows
            {"proc/self/cgroup": "0::/docker/0123\n", "sys/fs/cgroup/cpu.max": "400000 100000"},
            4,
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            16,
        ),
        (
            {
                "proc/self/cgroup": "3:memory:/x\n1:cpu,cpuacct:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
    ],
)
def test_threads_follow_the_control_group(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    assert settings.cpu_quota(machine(tmp_path, files)) == cpus


@pytest.mark.usefixtures("sixteen_cores")
@pytest.mark.parametrize(
    ("cores", "cpus"), [("2", 2), ("2.0", 2), ("32", 16), ("", 16), ("many", 16), ("nan", 16), ("0", 16), ("-4", 16)]
)
def test_threads_follow_what_a_space_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: str, cpus: int
) -> None:
    monkeypatch.setenv("CPU_CORES", cores)
    assert settings.cpu_quota(tmp_path) == cpus
