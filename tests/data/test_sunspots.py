"""The sunspot numbers beside what was published elsewhere, and the networks that have learned them."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.data import DataError, load_sunspot_nets, load_sunspots, sunspots

# From the yearly table of the same centre, which is made apart from the monthly one.
YEARLY = {
    1749: 80.9, 1778: 154.4, 1810: 0.0, 1816: 45.8, 1837: 138.3, 1870: 139.0, 1901: 2.7, 1913: 1.4, 1928: 77.8,
    1957: 190.2, 1976: 12.6, 1979: 155.4, 2000: 119.6, 2008: 2.9,
}  # fmt: skip
# From another collection's copy (Andrews & Herzberg, 1985).
MONTHLY = {
    "1749-01": 58.0, "1749-02": 62.6, "1958-03": 190.7, "1959-01": 217.4, "1964-07": 3.1, "1969-03": 135.8,
    "1976-07": 1.9, "1979-09": 188.4, "1982-12": 127.0, "1983-01": 84.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def sun():
    return load_sunspots()


def test_every_month_is_there_once(sun):
    assert len(sun.months) == len(sun.numbers) == 12 * 260
    assert np.array_equal(sun.months, np.arange("1749-01", "2009-01", dtype="datetime64[M]"))
    assert np.isfinite(sun.numbers).all() and (sun.numbers >= 0).all()
    assert sun.numbers.max() == 253.8 and str(sun.months[sun.numbers.argmax()]) == "1957-10"


def test_the_years_are_those_of_the_months(sun):
    assert np.allclose(sun.years, 1749 + (np.arange(3120) + 0.5) / 12)


def test_the_means_of_years_are_those_of_the_yearly_table(sun):
    means = dict(zip(range(1749, 2009), sun.numbers.reshape(-1, 12).mean(axis=1), strict=True))
    assert {year: means[year] for year in YEARLY} == pytest.approx(YEARLY, abs=0.4)


def test_single_months_are_those_of_another_copy(sun):
    numbers = dict(zip(map(str, sun.months), sun.numbers, strict=True))
    assert {month: numbers[month] for month in MONTHLY} == MONTHLY


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a,b\n1749-01,58.0\n", 1, "expected 'month,sunspots', got 'a,b'"),
        ("month,sunspots\n1749-01,58.0\n1749-03,70.0\n", 3, "expected the month 1749-02, got 1749-03"),
        ("month,sunspots\n1749-01,many\n", 2, "expected a month and a number, got '1749-01,many'"),
        ("month,sunspots\nJanuary,58.0\n", 2, "expected a month and a number, got 'January,58.0'"),
        ("month,sunspots\n1749-01,58.0\n1749-02\n", 3, "expected a month and a number, got '1749-02'"),
    ],
)
def test_a_file_that_was_changed_is_refused(tmp_path, monkeypatch, text, line, says):
    path = tmp_path / "sunspots.csv"
    path.write_text(text)
    monkeypatch.setattr(sunspots, "_NUMBERS", path)
    with pytest.raises(DataError) as error:
        load_sunspots()
    assert error.value.line == line and says in str(error.value)


def test_each_change_has_three_seeds_of_whole_networks():
    nets = load_sunspot_nets()
    assert {"as it comes", "as it comes, untrained", "forget bias 3"} <= set(nets)
    for change, states in nets.items():
        assert len(states) == (1 if "untrained" in change else 3)
        for state in states:
            size = len(state["out.bias"]) and state["out.weight"].shape[1]
            assert state["lstm.weight_hh_l0"].shape == (4 * size, size)
            assert ("lstm.peephole_l0" in state) == (change == "peepholes")
            assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in state.values())


def test_a_network_can_be_loaded_from_the_file_by_its_name():
    state = load_sunspot_nets()["forget bias 3"][2]
    by_name = ln.from_torch(ln.data.SUNSPOT_NETS, name="forget bias 3/2/lstm")
    by_state = ln.from_torch(state, name="lstm")
    for name, array in by_state.parameters().items():
        assert np.array_equal(array, by_name[name])


def test_the_networks_are_those_that_pytorch_computes():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = (load_sunspots().numbers[:600] / 100).astype(np.float32)[:, None, None]
    state = load_sunspot_nets()["forget bias 3"][0]
    theirs = torch.nn.LSTM(1, 16)
    theirs.load_state_dict({n[5:]: torch.tensor(array) for n, array in state.items() if n.startswith("lstm.")})
    with torch.no_grad():
        output, _ = theirs(torch.tensor(x))
    np.testing.assert_allclose(ln.from_torch(state, name="lstm").forward(x).h, output.numpy(), atol=1e-5)


def test_missing_networks_are_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(sunspots, "SUNSPOT_NETS", tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: expected the networks of notebook 11"):
        load_sunspot_nets()
