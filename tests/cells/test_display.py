"""Equations as text and as formulas: what a reader sees of a cell."""

from __future__ import annotations

import functools
import re
import time
from textwrap import dedent

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from matplotlib.mathtext import MathTextParser

import lstm_numba as ln
from lstm_numba.cells import CELLS
from random_cells import cell_texts

many = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def lines(text):
    return dedent(text).strip().splitlines()


def shown(equations):
    """Lines with single spaces, as alignment is tested once."""
    return [re.sub(" +", " ", line) for line in str(equations).splitlines()]


def test_lstm_forward_is_the_chapters():
    assert str(CELLS["lstm"].equations).splitlines() == lines("""
        a_iᵗ = U_i xᵗ + W_i hᵗ⁻¹ + b_i + V_i ⊙ cᵗ⁻¹
        a_fᵗ = U_f xᵗ + W_f hᵗ⁻¹ + b_f + V_f ⊙ cᵗ⁻¹
        a_cᵗ = U_c xᵗ + W_c hᵗ⁻¹ + b_c
        iᵗ   = σ(a_iᵗ)
        fᵗ   = σ(a_fᵗ)
        gᵗ   = tanh(a_cᵗ)
        cᵗ   = fᵗ ⊙ cᵗ⁻¹ + iᵗ ⊙ gᵗ
        a_oᵗ = U_o xᵗ + W_o hᵗ⁻¹ + b_o + V_o ⊙ cᵗ
        oᵗ   = σ(a_oᵗ)
        hᵗ   = oᵗ ⊙ tanh(cᵗ)
    """)


def test_lstm_backward_is_the_chapters():
    assert str(CELLS["lstm"].backward_equations).splitlines() == lines("""
        ε_hᵗ    = eᵗ + Σₖ Wₖᵀ δₖᵗ⁺¹    k over i, f, o, c
        δ_oᵗ    = σ′(a_oᵗ) ⊙ tanh(cᵗ) ⊙ ε_hᵗ
        ε_cᵗ    = oᵗ ⊙ tanh′(cᵗ) ⊙ ε_hᵗ + V_o ⊙ δ_oᵗ + fᵗ⁺¹ ⊙ ε_cᵗ⁺¹ + V_i ⊙ δ_iᵗ⁺¹ + V_f ⊙ δ_fᵗ⁺¹
        δ_cᵗ    = iᵗ ⊙ tanh′(a_cᵗ) ⊙ ε_cᵗ
        δ_fᵗ    = σ′(a_fᵗ) ⊙ cᵗ⁻¹ ⊙ ε_cᵗ
        δ_iᵗ    = σ′(a_iᵗ) ⊙ gᵗ ⊙ ε_cᵗ
        ∂L/∂Uₖ  = Σₜ δₖᵗ xᵗᵀ           k over i, f, o, c
        ∂L/∂Wₖ  = Σₜ δₖᵗ hᵗ⁻¹ᵀ         k over i, f, o, c
        ∂L/∂bₖ  = Σₜ δₖᵗ               k over i, f, o, c
        ∂L/∂V_i = Σₜ δ_iᵗ ⊙ cᵗ⁻¹
        ∂L/∂V_f = Σₜ δ_fᵗ ⊙ cᵗ⁻¹
        ∂L/∂V_o = Σₜ δ_oᵗ ⊙ cᵗ
        ∂L/∂xᵗ  = Σₖ Uₖᵀ δₖᵗ           k over i, f, o, c
        ∂L/∂h⁰  = Σₖ Wₖᵀ δₖ¹           k over i, f, o, c
        ∂L/∂c⁰  = f¹ ⊙ ε_c¹ + V_i ⊙ δ_i¹ + V_f ⊙ δ_f¹
    """)


def test_options_choose_the_lines():
    lstm = CELLS["lstm"]
    without = str(lstm.equations_under(peepholes=False, cell_output="identity", gate="relu"))
    assert "V_" not in without
    assert shown(lstm.equations_under(peepholes=False, cell_output="identity", gate="relu"))[-2:] == [
        "oᵗ = relu(a_oᵗ)",
        "hᵗ = oᵗ ⊙ cᵗ",
    ]
    assert shown(lstm.backward_equations_under(peepholes=False, cell_output="identity", gate="relu"))[:3] == [
        "ε_hᵗ = eᵗ + Σₖ Wₖᵀ δₖᵗ⁺¹ k over i, f, o, c",
        "δ_oᵗ = relu′(a_oᵗ) ⊙ cᵗ ⊙ ε_hᵗ",
        "ε_cᵗ = oᵗ ⊙ ε_hᵗ + fᵗ⁺¹ ⊙ ε_cᵗ⁺¹",
    ]
    with pytest.raises(TypeError, match="peephole: lstm has no such option; it has peepholes, gate,"):
        lstm.equations_under(peephole=False)


def test_a_cell_with_one_pre_activation():
    assert str(CELLS["rnn"].equations).splitlines() == ["aᵗ = U xᵗ + W hᵗ⁻¹ + b", "hᵗ = tanh(aᵗ)"]
    assert shown(CELLS["rnn"].backward_equations) == lines("""
        ε_hᵗ = eᵗ + Wᵀ δᵗ⁺¹
        δᵗ = tanh′(aᵗ) ⊙ ε_hᵗ
        ∂L/∂U = Σₜ δᵗ xᵗᵀ
        ∂L/∂W = Σₜ δᵗ hᵗ⁻¹ᵀ
        ∂L/∂b = Σₜ δᵗ
        ∂L/∂xᵗ = Uᵀ δᵗ
        ∂L/∂h⁰ = Wᵀ δ¹
    """)


def test_gru():
    assert shown(CELLS["gru"].equations) == lines("""
        a_rᵗ = U_r xᵗ + W_r hᵗ⁻¹ + b_r
        a_zᵗ = U_z xᵗ + W_z hᵗ⁻¹ + b_z
        u_nᵗ = U_n xᵗ + b_n
        w_nᵗ = W_n hᵗ⁻¹ + b′_n
        rᵗ = σ(a_rᵗ)
        zᵗ = σ(a_zᵗ)
        nᵗ = tanh(u_nᵗ + rᵗ ⊙ w_nᵗ)
        hᵗ = (1 − zᵗ) ⊙ nᵗ + zᵗ ⊙ hᵗ⁻¹
    """)
    assert shown(CELLS["gru"].backward_equations) == lines("""
        ε_hᵗ = eᵗ + Σₖ Wₖᵀ δₖᵗ⁺¹ + W_nᵀ δ_w_nᵗ⁺¹ + zᵗ⁺¹ ⊙ ε_hᵗ⁺¹ k over r, z
        δ_nᵗ = (1 − zᵗ) ⊙ tanh′(u_nᵗ + rᵗ ⊙ w_nᵗ) ⊙ ε_hᵗ
        δ_w_nᵗ = rᵗ ⊙ δ_nᵗ
        δ_zᵗ = σ′(a_zᵗ) ⊙ (hᵗ⁻¹ − nᵗ) ⊙ ε_hᵗ
        δ_rᵗ = σ′(a_rᵗ) ⊙ w_nᵗ ⊙ δ_nᵗ
        ∂L/∂Uₖ = Σₜ δₖᵗ xᵗᵀ k over r, z, n
        ∂L/∂Wₖ = Σₜ δₖᵗ hᵗ⁻¹ᵀ k over r, z
        ∂L/∂W_n = Σₜ δ_w_nᵗ hᵗ⁻¹ᵀ
        ∂L/∂bₖ = Σₜ δₖᵗ k over r, z, n
        ∂L/∂b′_n = Σₜ δ_w_nᵗ
        ∂L/∂xᵗ = Σₖ Uₖᵀ δₖᵗ k over r, z, n
        ∂L/∂h⁰ = Σₖ Wₖᵀ δₖ¹ + W_nᵀ δ_w_n¹ + z¹ ⊙ ε_h¹ k over r, z
    """)


def test_a_product_of_what_the_step_computed():
    assert "nᵗ = tanh(u_nᵗ + W_n (rᵗ ⊙ hᵗ⁻¹))" in shown(CELLS["gru_2014"].equations)
    backward = shown(CELLS["gru_2014"].backward_equations)
    assert "δ_nᵗ = (1 − zᵗ) ⊙ tanh′(u_nᵗ + W_n (rᵗ ⊙ hᵗ⁻¹)) ⊙ ε_hᵗ" in backward
    assert "δ_rᵗ = σ′(a_rᵗ) ⊙ hᵗ⁻¹ ⊙ W_nᵀ δ_w_nᵗ" in backward
    assert "∂L/∂W_n = Σₜ δ_w_nᵗ (rᵗ ⊙ hᵗ⁻¹)ᵀ" in backward


def test_a_reassigned_name_that_is_read_once_is_merged():
    cell = ln.cell("""
        def twice(a_i, h_prev, c_prev, v_i):
            a_i = a_i + v_i * c_prev
            a_i = 2 * a_i
            i = sigmoid(a_i)
            c = i + c_prev
            h = tanh(c)
            return h, c
        """)
    assert shown(cell.equations)[0] == "a_iᵗ = 2 (U_i xᵗ + W_i hᵗ⁻¹ + b_i + V_i ⊙ cᵗ⁻¹)"
    assert "δ_iᵗ = 2 σ′(a_iᵗ) ⊙ ε_cᵗ" in shown(cell.backward_equations)


def test_a_reassigned_name_that_is_read_twice_has_versions():
    cell = ln.cell("""
        def twice(a_i, h_prev):
            b_2 = tanh(a_i)
            a_i = a_i + b_2
            g = a_i * a_i
            g = exp(g) + g
            h = tanh(g) + h_prev
            return h
        """)
    assert shown(cell.equations) == lines("""
        a_i₍₀₎ᵗ = U_i xᵗ + W_i hᵗ⁻¹ + b_i
        b_2ᵗ = tanh(a_i₍₀₎ᵗ)
        a_iᵗ = a_i₍₀₎ᵗ + b_2ᵗ
        g₍₀₎ᵗ = a_iᵗ ⊙ a_iᵗ
        gᵗ = exp(g₍₀₎ᵗ) + g₍₀₎ᵗ
        hᵗ = tanh(gᵗ) + hᵗ⁻¹
    """)
    backward = shown(cell.backward_equations)
    assert backward[-1] == "∂L/∂h⁰ = W_iᵀ δ_i¹ + ε_h¹"
    assert any(line.startswith("δ_iᵗ = ") and "tanh′(a_i₍₀₎ᵗ)" in line for line in backward)


def test_a_name_is_defined_where_its_derivative_is_shown():
    cell = ln.cell("""
        def own(a_f, a_g, h_prev, c_prev):
            f = sigmoid(a_f)
            c = f * c_prev
            c = c * c + tanh(a_g)
            c = c / 2 + f * c_prev
            n = f * c_prev + tanh(a_g)
            n = tanh(n) + f
            h = tanh(c) * n
            return h, c
        """)
    forward, backward = cell.equations, cell.backward_equations
    lefts = {each.left for each in forward.text}
    parts = set(re.findall(r"ε_(\w[\w₍₀₁₂₎]*?ᵗ)", str(backward)))
    assert any("₍" in each for each in parts)
    assert parts - {"hᵗ"} <= lefts
    assert_renders(forward)
    assert_renders(backward)


def test_brackets_are_as_high_as_fractions():
    cell = ln.cell("""
        def own(a_x, h_prev):
            h = (a_x + h_prev) / (1 + abs(a_x / 3)) + tanh(h_prev / 2) * (1 - a_x / 4) + sqrt(a_x / 5)
            return h
        """)
    latex = cell.equations.latex[-1].right
    assert latex.startswith(r"\frac{a_{x}^{t} + h^{t-1}}{1 + \left| \frac{a_{x}^{t}}{3} \right|} + \tanh\left( \frac{h")
    assert r"\odot \left( 1 - \frac{a_{x}^{t}}{4} \right) + \sqrt{\frac" in latex
    assert_renders(cell.equations)
    assert_renders(cell.backward_equations)


def test_functions_and_numbers():
    cell = ln.cell("""
        def every(a_x, a_y, h_prev, n_prev, *, rate=0.25):
            n = maximum(abs(a_x), sqrt(n_prev)) - 1e-6
            h = identity(a_y) / (n + 1e15) + minimum(softplus(h_prev), log(rate)) - (1 - rate) * relu(n)
            return h, n
        """)
    assert shown(cell.equations)[-2:] == [
        "nᵗ = max(|a_xᵗ|, √(nᵗ⁻¹)) − 1e-06",
        "hᵗ = a_yᵗ / (nᵗ + 1e15) + min(softplus(hᵗ⁻¹), log(0.25)) − 0.75 relu(nᵗ)",
    ]
    latex = cell.equations._repr_latex_()
    assert r"n^{t} &= \max(|a_{x}^{t}|, \sqrt{n^{t-1}}) - 10^{-6}" in latex
    assert r"\frac{a_{y}^{t}}{n^{t} + 10^{15}}" in latex
    assert "sign(a_xᵗ)" in str(cell.backward_equations)
    assert "[|a_xᵗ| > √(nᵗ⁻¹)]" in str(cell.backward_equations)


def test_greek_and_long_names():
    cell = ln.cell("""
        def greek(a_alpha, h_prev):
            alpha = sigmoid(a_alpha)
            keep = 1 - alpha
            h = alpha * h_prev + keep
            return h
        """)
    assert "αᵗ = σ(a_alphaᵗ)" in shown(cell.equations)
    assert r"\mathrm{keep}^{t} &= 1 - \alpha^{t}" in cell.equations._repr_latex_()


def test_a_cell_that_calls_something_e_and_divides_by_a_number():
    cell = ln.cell("""
        def own(a_x, h_prev):
            e = tanh(a_x) / 3
            h = e + h_prev / -2
            return h
        """)
    assert shown(cell.equations)[1:] == ["eᵗ = tanh(a_xᵗ) / 3", "hᵗ = eᵗ + hᵗ⁻¹ / (−2)"]
    assert shown(cell.backward_equations)[0] == "ε_hᵗ = e_Lᵗ + W_xᵀ δ_xᵗ⁺¹ + ε_hᵗ⁺¹ / (−2)"


def test_repr_is_the_text():
    equations = CELLS["rnn"].equations
    assert repr(equations) == str(equations)
    assert CELLS["rnn"]._repr_latex_() == equations._repr_latex_()


# -- LaTeX ------------------------------------------------------------------------------------------------------------


@functools.cache
def assert_parses(formula):
    """A formula is what Matplotlib takes, which knows no transposition sign."""
    MathTextParser("path").parse(formula.replace(r"\top", "T"))


def assert_renders(equations, parse=True):
    """Every line is what Matplotlib's parser of formulas takes, too, and braces and environments are closed."""
    latex = equations._repr_latex_()
    assert latex.startswith("$$\\begin{aligned}\n")
    assert latex.endswith("\n\\end{aligned}$$")
    assert latex.count("{") == latex.count("}")
    body = latex.removeprefix("$$\\begin{aligned}\n").removesuffix("\n\\end{aligned}$$")
    assert body.isascii()
    rows = body.split(" \\\\\n")
    assert len(rows) == len(equations.text) == len(str(equations).splitlines())
    for row in rows:
        left, right = row.split(" &= ")
        if parse:
            assert_parses(f"${left} = {right}$")


@pytest.mark.parametrize("name", CELLS)
def test_formulas_render(name):
    cell = CELLS[name]
    assert_renders(cell.equations)
    assert_renders(cell.backward_equations)
    for program in cell.programs():
        assert_renders(cell.equations_under(**program.options))
        assert_renders(cell.backward_equations_under(**program.options))


def test_deriving_and_showing_takes_no_time():
    lstm = CELLS["lstm"]
    start = time.perf_counter()
    str(lstm.backward_equations)
    assert time.perf_counter() - start < 0.5


def symbols(text):
    """Names with time, as far as text shows them."""
    return {re.sub("[ᵗ⁻⁺⁰¹]+$", "", each) for each in re.findall(r"[^\W\d₍][^\s()⊙+,|\[\]]*ᵗ", text)}


@many
@given(cell_texts())
def test_random_cells_show_what_they_name(text):
    cell = ln.cell(text)
    for flag in (True, False):
        forward, backward = cell.equations_under(flag=flag), cell.backward_equations_under(flag=flag)
        assert_renders(forward, parse=False)
        assert_renders(backward, parse=False)
        lefts = [each.left for each in (*forward.text, *backward.text)]
        assert len(set(lefts)) == len(lefts)
        assert not re.search(r"\be\.|\bp_[nmq]", str(backward))
        known = {each.left.removesuffix("ᵗ") for each in (*forward.text, *backward.text)}
        read = symbols(" ".join(each.right for each in (*forward.text, *backward.text)))
        generic = {"x", "h", "e", "Σₖ", "δₖ", "δₖᵗ⁺¹"}
        states = set(cell.arguments.states)
        unknown = {each for each in read if each.lstrip("(−") not in known | generic | states}
        assert not {each for each in unknown if each[0] in "δε"}, unknown
        versions = {each.removeprefix("ε_") for each in read if each.startswith("ε_") and "₎" in each}
        assert versions <= {each.left.removesuffix("ᵗ") for each in forward.text}
