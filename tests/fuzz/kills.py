"""Kill and interrupt commands at random moments, and look at what is left: ``python tests/fuzz/kills.py``.

A life is one job, such as a training, that is stopped again and again and then left in peace. After each stop its files
are whole, and what it said is what it did; in the end they hold the same bits as those of a job that nobody stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import lstm_numba as ln

PACKAGE = Path(ln.__file__).parents[1]
STOPS_A_LIFE = 8
COLD = 0.04  # share of lives that begin with an empty cache of compiled code
OPTIONS_OF_LOOK = ("--input", "series.npy", "--units", "0,1", "--steps", "31-40", "--format", "svg")
SLOW = 5.0  # seconds from an interrupt to the end of the process that are a finding


class Finding(AssertionError):
    """Something that should not be."""


def require(holds: bool, text: str) -> None:
    if not holds:
        raise Finding(text)


@dataclass
class Stopped:
    """How a process ended: the signal it got (None where it came too late), exit code, output, seconds it took."""

    number: signal.Signals | None
    code: int
    out: str
    err: str
    seconds: float


class Training:
    """``train``, which writes its file after each epoch and resumes from it."""

    name = "train"
    words = ("--generated", "--queries", "40", "--epochs", "40")

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "m.safetensors"

    def command(self) -> list[str]:
        """Return what to run next: the training, or what is left of it."""
        if self.file.exists():
            return ["train", *self.words, "--resume", self.file.name]
        return ["train", *self.words, "--hidden-sizes", "6", "--embedding-size", "4", "-o", self.file.name]

    def check(self, end: Stopped) -> None:
        """Raise if the file is not whole, or has less than what the process said that it learned."""
        if not self.file.exists():
            require("has what was learned" not in end.err, f"no file, and yet: {end.err}")
            return
        epochs = len(ln.Tagger.load(self.file).history.get("loss", []))
        said = max((int(line.split()[1].split("/")[0]) for line in end.out.splitlines() if line.startswith("epoch")),
                   default=0)  # fmt: skip
        written = said - (end.number == signal.SIGKILL)  # the line comes before the file
        require(epochs >= written, f"{said} epochs said, {epochs} in the file")

    def result(self) -> bytes:
        """Return what the whole job must come to."""
        return ln.Tagger.load(self.file).network.parameters().flat.tobytes()


class Looking:
    """``look``, which draws a handful of figures."""

    name = "look"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ln.Stack(2, (5,), seed=0).save(folder / "layer.safetensors")
        np.save(folder / "series.npy", np.random.default_rng(0).standard_normal((40, 2)))

    def command(self) -> list[str]:
        return ["look", "layer.safetensors", *OPTIONS_OF_LOOK]

    def check(self, end: Stopped) -> None:
        for file in self._figures():
            raw = file.read_bytes()
            require(raw.rstrip().endswith(b"</svg>"), f"{file.name} is cut short")

    def result(self) -> bytes:
        return b"".join(file.name.encode() + file.read_bytes() for file in self._figures())

    def _figures(self) -> list[Path]:
        return sorted(file for file in self.folder.glob("look/*") if not file.name.startswith("."))


class Studying:
    """``study``, which keeps each finished run and continues with the rest."""

    name = "study"
    words = ("parity", "--set", "length=3", "--cells", "rnn,lstm", "--seeds", "4", "--sequences", "1600", "--quiet")

    def __init__(self, folder: Path) -> None:
        self.folder, self.study = folder, folder / "parity"

    def command(self) -> list[str]:
        """Return what to run next: the study, or what is left of it."""
        if (self.study / "study.json").exists():
            return ["study", "--resume", self.study.name, "--quiet"]
        return ["study", *self.words, "-o", self.study.name]

    def check(self, end: Stopped) -> None:
        for file in (self.study / "runs").glob("[!.]*"):
            require("seed" in json.loads(file.read_text()), f"{file.name} is no row")

    def result(self) -> bytes:
        rows = [json.loads(file.read_text()) for file in sorted((self.study / "runs").glob("[!.]*"))]
        return json.dumps([row | {"seconds": 0} for row in rows]).encode()


# What is stopped, in turn. Another command is another class with these methods.
JOBS = (Training, Training, Studying, Training, Studying, Looking)


@dataclass
class Campaign:
    """Counts of what was done and found.

    Attributes
    ----------
    stops
        (command, signal) → how often.
    reactions
        Seconds from an interrupt to the end of its process.
    """

    seed: int
    folder: Path
    jobs: tuple[type, ...] = JOBS
    stops: Counter = field(default_factory=Counter)
    lives: Counter = field(default_factory=Counter)
    reactions: list[float] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.wanted: dict[type, bytes] = {}
        self.seconds: dict[type, float] = {}

    def run(self, kills: int, interrupts: int) -> None:
        """Stop jobs that often, one life after another."""
        signals = [signal.SIGKILL] * kills
        signals += [self.rng.choice((signal.SIGINT, signal.SIGTERM)) for _ in range(interrupts)]
        self.rng.shuffle(signals)
        for number, kind in enumerate(self._kinds()):
            if not signals:
                return
            self._live(kind, self._new_folder(f"{kind.name}{number}"), signals)

    def _kinds(self) -> Iterator[type]:
        """First each job in peace, for what it comes to and how long it takes; then one after another for ever."""
        for kind in dict.fromkeys(self.jobs):
            folder = self._new_folder(f"{kind.name}-peace")
            job = kind(folder)
            self._stopped(job, None, {})  # compiles
            shutil.rmtree(folder)
            job = kind(self._new_folder(f"{kind.name}-peace"))
            end = self._stopped(job, None, {})
            require(end.code == 0, f"{kind.name}: {end.err}")
            self.wanted[kind], self.seconds[kind] = job.result(), end.seconds
        while True:
            yield from self.jobs

    def _new_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def _live(self, kind: type, folder: Path, signals: list[signal.Signals]) -> None:
        """Stop a job some times, then let it end; what is found is noted, and the next life begins."""
        job, environment, seconds = kind(folder), {}, self.seconds[kind]
        cold = self.rng.random() < COLD
        if cold:
            environment, seconds = {"NUMBA_CACHE_DIR": str(folder / "cache")}, seconds + 10
        log: list[Stopped] = []
        try:
            for _ in range(STOPS_A_LIFE):
                if not signals or (log and log[-1].code == 0):
                    break
                log.append(self._stopped(job, signals[-1], environment, self.rng.uniform(0.1, seconds)))
                if log[-1].number is not None:
                    signals.pop()
                    self.stops[kind.name, log[-1].number.name] += 1
                self._check_end(log[-1])
                job.check(log[-1])
            self._end_in_peace(job, log, environment)
            self.lives[kind.name + cold * ", nothing compiled"] += 1
        except Exception as problem:
            ends = [(end.number and end.number.name, end.code, round(end.seconds, 2), end.err[-2000:]) for end in log]
            self.findings.append(f"{folder}: {type(problem).__name__}: {problem}; {ends}")
            print(self.findings[-1], flush=True)
        else:
            shutil.rmtree(folder)

    def _stopped(self, job, number: signal.Signals | None, environment: dict, seconds: float = 0.0) -> Stopped:
        """Run what comes next of a job, and send it a signal after some seconds."""
        command = [sys.executable, "-m", "lstm_numba", *job.command()]
        path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
        variables = os.environ | {"PYTHONPATH": path, "LSTM_NUMBA_QUIET": "1"} | environment
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=job.folder, env=variables, **streams)
        began = time.monotonic()
        if number is not None:
            try:
                out, err = process.communicate(timeout=seconds)
                return Stopped(None, process.returncode, out, err, time.monotonic() - began)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        sent = time.monotonic()
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Finding(f"no end 300 s after {number}") from None
        if number in (signal.SIGINT, signal.SIGTERM):
            self.reactions.append(time.monotonic() - sent)
        return Stopped(number, process.returncode, out, err, time.monotonic() - began)

    def _check_end(self, end: Stopped) -> None:
        """Raise unless the process ended as the signal says, with lines of its own and nothing else."""
        if end.code == 0 or outside(end):
            return
        wanted = -signal.SIGKILL if end.number == signal.SIGKILL else 128 + (end.number or 0)
        require(end.code == wanted, f"exit code {end.code} after {end.number}")
        if end.number != signal.SIGKILL:
            foreign = [line for line in end.err.splitlines() if not line.startswith("lstm-numba: ")]
            require(bool(end.err) and not foreign, f"on standard error: {end.err}")
            require(self.reactions[-1] < SLOW, f"no end for {self.reactions[-1]:.1f} s after {end.number}")

    def _end_in_peace(self, job, log: list[Stopped], environment: dict) -> None:
        """Let the job end, and compare with one that was never stopped; no temporary file is left."""
        if not log or log[-1].code != 0 or job.name == "look":
            log.append(self._stopped(job, None, environment))
        require(log[-1].code == 0 and not log[-1].err, f"exit code {log[-1].code}: {log[-1].err}")
        require(job.result() == self.wanted[type(job)], "not the bits of a job that nobody stopped")
        left = [str(file) for file in job.folder.rglob(".*.tmp") if "cache" not in file.parts]
        require(not left, f"temporary files are left: {left}")

    def report(self) -> str:
        """Return the figures in lines."""
        stops = ", ".join(f"{command} {name} {count}" for (command, name), count in sorted(self.stops.items()))
        lives = ", ".join(f"{name} {count}" for name, count in sorted(self.lives.items()))
        reactions = sorted(self.reactions) or [0.0]
        quantiles = ", ".join(f"{share:.0%} within {reactions[int(share * (len(reactions) - 1))]:.2f} s"
                              for share in (0.5, 0.99, 1.0))  # fmt: skip
        lines = [f"stops: {stops}", f"whole lives: {lives}", f"ends after an interrupt: {quantiles}"]
        return "\n".join([*lines, f"findings: {len(self.findings)}"])


def outside(end: Stopped) -> bool:
    """Whether the signal came before the command's own code ran, or after it: then Python answers, in its own way."""
    if end.number in (signal.SIGKILL, None):
        return False
    if end.code == -end.number and not end.err:  # which a shell shows as the same exit code
        return True
    return end.seconds < 1 and not end.out and "lstm-numba:" not in end.err and "cli/__init__.py" not in end.err


def main() -> int:
    """Run a campaign; exit with 1 if it found something."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--interrupts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, as its children do
    folder = Path(tempfile.mkdtemp(prefix="lstm_numba_kills_"))
    campaign, began = Campaign(arguments.seed, folder), time.monotonic()
    try:
        campaign.run(arguments.kills, arguments.interrupts)
    finally:  # also after Ctrl-C
        print(campaign.report(), f"{time.monotonic() - began:.0f} s", sep="\n")
    if not campaign.findings:
        shutil.rmtree(folder)
    return bool(campaign.findings)


if __name__ == "__main__":
    sys.exit(main())
