"""Both campaigns, each for some seconds, and that each can find something."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace

import pytest

if os.name == "nt":
    pytest.skip("Windows has neither SIGKILL nor limits of memory", allow_module_level=True)

import kills
import readers


@pytest.fixture
def alarm():
    before = signal.signal(signal.SIGALRM, readers._late)
    yield
    signal.signal(signal.SIGALRM, before)


def test_damaged_files_are_read_or_refused(tmp_path, alarm):
    """In this process, whose memory has no limit; the command's child has one."""
    for reader in readers.readers(tmp_path):
        counts = readers.Counts()
        for number in range(40):
            readers.call(reader, number, 7, tmp_path, counts)
        assert counts.calls == 40 and not counts.findings, (reader.name, counts.findings)


def test_good_files_are_read(tmp_path):
    for reader in readers.readers(tmp_path):
        read = 0
        for seed in reader.seeds:
            path = tmp_path / f"good{reader.ending}"
            path.write_bytes(seed)
            try:
                reader.read(path)
                read += 1
            except readers.ALLOWED:  # such as a table of which one has to choose columns
                pass
        assert read, reader.name


def test_a_mutation_is_the_same_on_every_run_and_seldom_none(tmp_path):
    for reader in readers.readers(tmp_path):
        made = [readers.mutated(reader, random.Random(f"0/{number}")) for number in range(20)]
        assert made == [readers.mutated(reader, random.Random(f"0/{number}")) for number in range(20)]
        assert sum(raw in reader.seeds for raw in made) < 10, reader.name


def test_other_errors_and_late_answers_are_findings(tmp_path, alarm, monkeypatch):
    def fails(path):
        raise KeyError("x")

    monkeypatch.setattr(readers, "SECONDS", 0.05)
    reader = readers.Reader("a reader", ".x", 1, fails, [b"abc"])
    counts = readers.Counts()
    readers.call(reader, 0, 0, tmp_path, counts)
    readers.call(replace(reader, read=lambda path: time.sleep(5)), 1, 0, tmp_path, counts)
    assert [kind.split(" in ")[0] for kind in counts.findings] == ["KeyError", "Late"]
    assert "--reader 'a reader' --first 0 --seed 0" in next(iter(counts.findings.values()))


@pytest.mark.slow
def test_a_child_reads_with_little_memory(tmp_path):
    counts = readers.campaign("CSV", 0, 50, 0, tmp_path)
    assert (counts.calls, counts.findings) == (50, {})


@pytest.mark.slow
def test_training_that_is_stopped_loses_nothing(tmp_path):
    campaign = kills.Campaign(0, tmp_path, (kills.Training,))
    campaign.run(kills=3, interrupts=3)
    assert sum(campaign.stops.values()) == 6 and not campaign.findings, campaign.report()


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (kills.Stopped(signal.SIGINT, 1, "epoch", "Traceback", 2.0), "exit code 1"),
        (kills.Stopped(signal.SIGINT, 130, "epoch", "lstm-numba: interrupted\nTraceback", 2.0), "on standard error"),
        (kills.Stopped(signal.SIGTERM, 130, "epoch", "lstm-numba: interrupted", 2.0), "exit code 130"),
        (kills.Stopped(signal.SIGTERM, 143, "epoch", "", 2.0), "on standard error"),
        (kills.Stopped(signal.SIGINT, 130, "epoch", "lstm-numba: interrupted", 90.0), "no end for 80.0 s"),
    ],
)
def test_a_bad_end_is_a_finding(tmp_path, end, says):
    campaign = kills.Campaign(0, tmp_path)
    campaign.reactions.append(80.0 if end.seconds > 80 else 0.1)
    with pytest.raises(kills.Finding, match=says):
        campaign._check_end(end)
