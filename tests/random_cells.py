"""Random cells, and one step of any cell in NumPy with its derivatives."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lstm_numba.cells import joined
from lstm_numba.cells.derive import delta_names

SIZE = 4
ARGUMENTS = {
    "gates": ["a_i", "a_f", "u_n", "w_n", "W_m", "v_i", "v_f"],
    "one": ["a"],
    "products": ["u_n", "W_n", "a_z", "W_q"],
    "apart": ["u_h", "v_h", "w_r"],
}
FUNCTIONS = "sigmoid tanh relu identity exp log softplus sqrt abs maximum minimum gate".split()
TARGETS = ["i", "f", "g", "n", "z", "tmp_1"]


@st.composite
def cell_texts(draw):
    """The source of a valid cell."""
    kind = draw(st.sampled_from(sorted(ARGUMENTS)))
    arguments = ARGUMENTS[kind]
    states = draw(st.sampled_from([("h",), ("h", "c"), ("h", "c", "m")]))
    matrices = [each for each in arguments if each[0] == "W"]
    plain = [each for each in arguments if each not in matrices] + [f"{state}_prev" for state in states]
    options = ["gate=sigmoid", "rate=0.5", "flag=True"]

    def expression(names, depth):
        form = draw(
            st.sampled_from(["name", "name", "number", "binary", "binary", "negative", "call"][: 7 if depth else 3])
        )
        if form == "name":
            return draw(st.sampled_from([*names, "rate"]))
        if form == "number":
            return draw(st.sampled_from(["0.5", "1", "2", "1.5e-1"]))
        if form == "negative":
            return f"-{expression(names, 0)}"
        if form == "binary":
            operator = draw(st.sampled_from("+-*/"))
            return f"({expression(names, depth - 1)} {operator} {expression(names, depth - 1)})"
        function = draw(st.sampled_from(FUNCTIONS))
        inner = [expression(names, depth - 1) for _ in range(2 if function in ("maximum", "minimum") else 1)]
        return f"{function}({', '.join(inner)})"

    lines, before_products = [], [*plain]
    for matrix in matrices:
        lines.append(f"y{matrix.lower().replace('_', '')} = {matrix} @ ({expression(before_products, 2)})")
    defined = [*plain, *(line.split(" ")[0] for line in lines)]
    reassigned = [each for each in plain if each[0] in "auw" and not each.endswith("_prev")]
    for _ in range(draw(st.integers(1, 5))):
        target = draw(st.sampled_from(TARGETS + reassigned))
        own = f"{target} * 0.5 + " if target in reassigned else ""
        lines.append(f"{target} = {own}{expression(defined, 3)}")
        defined = list(dict.fromkeys([*defined, target]))
    target = draw(st.sampled_from(TARGETS))
    lines += [
        f"if flag:\n        {target} = {expression(defined, 2)}",
        f"else:\n        {target} = {expression(defined, 1)}",
    ]
    defined = list(dict.fromkeys([*defined, target]))
    everything = " + ".join(f"0.3 * {each}" for each in defined)
    for state in states[::-1]:
        lines.append(f"{state} = gate({everything}) * rate + {expression(defined, 2)}")
        defined.append(state)
        everything = " - ".join(defined)
    signature = ", ".join([*arguments, *(f"{state}_prev" for state in states), "*", *options])
    body = "".join(f"    {line}\n" for line in [*lines, f"return {', '.join(states)}"])
    return f"def random_cell({signature}):\n{body}"


class Weight:
    """A matrix as one number for each unit: diagonal, so that units stay apart."""

    def __init__(self, diagonal):
        self.diagonal = diagonal

    def __matmul__(self, x):
        return self.diagonal * x


def random_arguments(program, seed=0):
    """Values of a program's arguments."""
    rng = np.random.default_rng(seed)
    given = {name: rng.uniform(-1.5, 1.5, SIZE) for name in program.arguments.names()}
    return {name: Weight(value) if name[0] == "W" and "_" in name else value for name, value in given.items()}


def derivatives(backward, given, epsilon):
    """∂L/∂ of every argument by a backward step, where ∂L/∂ of the states are given."""
    program = backward.program
    values = program.values(given) | {f"epsilon_{state}": value for state, value in epsilon.items()}
    late = {f"e_{operand}": np.zeros(SIZE) for operand in program.operands}
    if late:
        first = backward.compute(values | late)
        late = {
            f"e_{operand}": given[joined("W", gate)].diagonal * first[f"delta_{joined('p', gate)}"]
            for gate, operand in zip(program.arguments.W, program.operands, strict=True)
        }
    found = backward.compute(values | late)
    result = {gate: found[f"delta_{gate}"] for gate in delta_names(program) if gate[0] != "p"}
    result |= {joined("v", gate): found[f"dV_{gate}"] for gate in program.arguments.v}
    result |= {f"{state}_prev": found[f"epsilon_{state}_prev"] for state in program.arguments.states}
    return {name: np.broadcast_to(value, SIZE) for name, value in result.items()}


def central_differences(program, given, epsilon, name, step):
    """∂L/∂ of one argument by central differences."""

    def loss(value):
        states = program.compute(given | {name: value})
        return sum(epsilon[state] * value for state, value in zip(program.arguments.states, states, strict=True))

    return (loss(given[name] + step) - loss(given[name] - step)) / (2 * step)
