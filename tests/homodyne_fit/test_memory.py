from types import SimpleNamespace

import pytest

from homodyne_fit.data.storage.memory import allowed_memory, available_memory, size_in_words


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10_000))


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 10_000),
        ({"proc/self/cgroup": "0::/a/b\n"}, 10_000),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "10\n",
                "sys/fs/cgroup/a/memory.max": "6000\n",
                "sys/fs/cgroup/a/memory.current": "2500\n",
                "sys/fs/cgroup/a/memory.stat": "anon 2000\ninactive_file 300\n",
            },
            3800,
        ),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "100\n",
                "sys/fs/cgroup/memory.current": "400\n",
            },
            0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n2:memory:/job\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "5000",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000",
                "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 500\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "7000",
            },
            4500,
        ),
    ],
    ids=["no groups", "no limits", "version 2", "over the limit", "version 1"],
)
def test_the_least_of_machine_and_limits(tmp_path, files, expected):
    write(tmp_path, files)
    assert available_memory(tmp_path) == expected


def test_three_quarters_unless_said_otherwise(monkeypatch):
    monkeypatch.setattr("homodyne_fit.data.storage.memory.available_memory", lambda: 1000)
    assert allowed_memory(None) == 750
    assert allowed_memory(5) == 5


@pytest.mark.parametrize(
    ("size", "words"), [(3.31e9, "3.31 GB"), (2_000_000, "2 MB"), (19_200, "19.2 kB")]
)
def test_sizes_in_words(size, words):
    assert size_in_words(size) == words
