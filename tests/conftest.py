"""What every test runs under: no display, no network, repeatable examples, and on request no skips."""

from __future__ import annotations

import ipaddress
import os
import socket

import pytest

os.environ["MPLBACKEND"] = "Agg"

# Subprocesses too: what obeys these meets a closed port of this machine, just as without a network.
for _variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ[_variable] = os.environ[_variable.lower()] = "http://127.0.0.1:9"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1,::1"

try:
    from hypothesis import settings
except ImportError:  # tests with properties skip themselves
    pass
else:
    # The first call of a kernel compiles it, so a deadline would say nothing; the same examples on every run.
    settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True)
    settings.load_profile("repeatable")

_patch = pytest.MonkeyPatch()


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


def _guarded(method):
    def connect(self, address, *args):
        if not _is_local(address):
            raise RuntimeError(f"a test may not use the network, and this one tried to reach {address}")
        return method(self, address, *args)

    return connect


def pytest_configure(config):
    for name in ("connect", "connect_ex"):
        _patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))


def pytest_unconfigure(config):
    _patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _more_threads_than_cores():
    """Let tests ask for more threads than this machine has cores: results must not depend on how many there are."""
    from lstm_numba.engine import pool

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_available_cores", lambda: 64)
        yield


# LSTM_NUMBA_NO_SKIPS=1, as in .ci/run, where everything is installed: a skipped test fails the run.
_NO_SKIPS = os.environ.get("LSTM_NUMBA_NO_SKIPS", "") not in ("", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """A test that sets the number of threads doesn't set it for the next ones."""
    from lstm_numba.engine import pool

    before = pool.get_num_threads()
    try:
        return (yield)
    finally:
        pool.set_num_threads(before)


_skipped: list[str] = []


def _note_skip(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")


def pytest_runtest_logreport(report):
    _note_skip(report)


def pytest_collectreport(report):
    _note_skip(report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if _NO_SKIPS and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if _NO_SKIPS and _skipped:
        terminalreporter.section("skipped, and LSTM_NUMBA_NO_SKIPS is set: the run fails", red=True)
        for line in _skipped:
            terminalreporter.line(line)


def pytest_report_header():
    folder = os.environ.get("LSTM_NUMBA_DATA")
    return f"LSTM_NUMBA_DATA: {folder if folder else 'not set, so tests on the news data are skipped'}"
