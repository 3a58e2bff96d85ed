"""Figures with sliders, for notebooks: the sensitivity explorer, and the memory block of `block_widget`.

An explorer only chooses what is drawn. The drawing itself is a function that anybody may call, so that each explorer
can stand beside a still picture that says the same. ipywidgets is imported when an explorer is made, matplotlib when
one is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks
from lstm_numba.tutorials.block_widget import draw_block, memory_block_explorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["VIEWS", "draw_block", "draw_sensitivity", "memory_block_explorer", "sensitivity_explorer"]

# What is chosen in a map S[s, t]: a column or a row.
VIEWS: dict[str, str] = {
    "output": "what an output depends on",
    "input": "where an input goes",
}
_MOST_WORDS_NAMED = 3
_OF_OUTPUTS = r"$\|\partial h^t / \partial x^s\|$"


def draw_sensitivity(
    S: ArrayLike,
    place: int,
    *,
    view: str = "output",
    words: Sequence[object] | None = None,
    labels: Sequence[object] | None = None,
    direction: str = "forward",
    vmin: float | None = None,
    vmax: float | None = None,
    label: str = _OF_OUTPUTS,
    name: str = "",
) -> tuple[Figure, str]:
    """Draw one column or one row of a sensitivity map: framed in the map, and over the words of the sentence.

    Parameters
    ----------
    S : array_like, shape (T, T)
        Norms S[s, t], as `lstm_numba.sensitivity` returns them.
    place : int
        The output t, or the input s, from 0 to T − 1.
    view : {"output", "input"}
        "output": column t, what output t depends on. "input": row s, where input s goes.
    words : sequence of T words, optional
        Time steps 1 ... T by default.
    labels : sequence of T words, optional
        The tags of the outputs, named in the title.
    direction : {"forward", "backward", "both"}
        As in `plots.sensitivity_map`.
    vmin, vmax : float, optional
        Ends of the colour scale, by default those of the whole map.
    label : str
        Label of the colour bar, for maps of something else than ∂hᵗ/∂xˢ.
    name : str
        What the map is of, for the title.

    Returns
    -------
    (Figure, str)
        The figure and its alternative text, with the words that count most.

    Raises
    ------
    TypeError, ValueError
        As `plots.sensitivity_map` and `plots.word_sensitivity`; a place or a view that there is not.
    """
    picture = _SensitivityPicture(
        S, words=words, labels=labels, direction=direction, vmin=vmin, vmax=vmax, label=label, name=name
    )
    alt = picture.choose(place, view)
    return picture.figure, alt


class _SensitivityPicture:
    """A sensitivity map that is drawn once, in which one column or row after the other is framed.

    The arguments are those of `draw_sensitivity`. `figure` is the matplotlib figure; it is whole after the first
    `choose`.
    """

    def __init__(
        self,
        S: ArrayLike,
        *,
        words: Sequence[object] | None = None,
        labels: Sequence[object] | None = None,
        direction: str = "forward",
        vmin: float | None = None,
        vmax: float | None = None,
        label: str = _OF_OUTPUTS,
        name: str = "",
    ) -> None:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        from lstm_numba import plots

        self.values = np.asarray(S, dtype=np.float64)
        self.words = words
        self.labels = labels
        self.name = name
        shown = self.values[self.values > 0]
        self.low = vmin if vmin is not None else shown.min() if shown.size else None
        self.high = vmax if vmax is not None else shown.max() if shown.size else None

        with plots.style():
            self.figure = Figure(figsize=(plots.WIDTH, 7.4), layout="constrained")
            parts: Any = self.figure.subfigures(2, height_ratios=(5, 1.3))  # each with a layout of its own
            above, self._below = (part.subplots() for part in parts)
            plots.sensitivity_map(
                self.values, above, words=words, direction=direction, vmin=vmin, vmax=vmax, label=label
            )
        if label != _OF_OUTPUTS:  # a map of something else, such as the log-odds of tags
            above.set_xlabel("step $t$")
        self._frame = Rectangle((0, 0), 1, 1, fill=False, edgecolor="#C04000", linewidth=2.6, clip_on=False)
        above.add_patch(self._frame)

    def choose(self, place: int, view: str = "output") -> str:
        """Frame a column or a row, lay its numbers over the words, and return the alternative text."""
        from lstm_numba import plots
        from lstm_numba.plots.words import word_sensitivity

        _checks.choice("view", view, VIEWS)
        steps = len(self.values)
        place = _checks.size("place", place, 0)
        if place >= steps:
            raise ValueError(f"place: expected 0 to {steps - 1}, got {place}")
        chosen = self.values[:, place] if view == "output" else self.values[place]
        texts = [str(step) for step in range(1, steps + 1)] if self.words is None else [str(w) for w in self.words]

        self._frame.set_bounds(*((place - 0.5, -0.5, 1, steps) if view == "output" else (-0.5, place - 0.5, steps, 1)))
        self._below.clear()
        self._below.set_aspect("auto")  # for the words before, it took only a part of its room
        with plots.style():
            ends: dict[str, Any] = {"vmin": self.low, "vmax": self.high}
            word_sensitivity(chosen, texts, self._below, targets=place, log=True, colorbar=False, **ends)
            self.figure.suptitle(_title(self.name, place, view, self.words, self.labels))
        return _description(chosen, place, view, texts, self.labels, self.name)

    def keep_layout(self) -> None:
        """Leave every part where it is now, so that the next picture needn't look for their places again."""
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")


def _title(name: str, place: int, view: str, words: Any, labels: Any) -> str:
    where = f"step {place + 1}" if words is None else f"“{words[place]}”"
    tag = f" ({labels[place]})" if labels is not None else ""
    about = f"the output at {where}{tag} depends on …" if view == "output" else f"the input at {where} is felt at …"
    return f"{name}: {about}" if name else about[0].upper() + about[1:]


def _description(
    chosen: NDArray, place: int, view: str, texts: Sequence[str], labels: Sequence[object] | None, name: str
) -> str:
    """Describe the picture in words and numbers."""
    most = np.argsort(-chosen, kind="stable")[:_MOST_WORDS_NAMED]
    ranked = ", ".join(f"“{texts[n]}” ({chosen[n]:.2g})" for n in most if chosen[n] > 0) or "none"
    tag = f", tagged {labels[place]}," if labels is not None else ""
    verb = (
        f"the output at “{texts[place]}”{tag} depends most on the inputs"
        if view == "output"
        else f"the input “{texts[place]}” is felt most by the outputs at"
    )
    return f"Sensitivity map{f' of {name}' if name else ''}, one {_line(view)} framed: {verb} {ranked}."


def _line(view: str) -> str:
    return "column" if view == "output" else "row"


def sensitivity_explorer(
    maps: ArrayLike | Mapping[str, ArrayLike],
    *,
    words: Sequence[object] | None = None,
    labels: Sequence[object] | Mapping[str, Sequence[object]] | None = None,
    direction: str = "forward",
    view: str = "output",
    place: int | None = None,
    label: str = _OF_OUTPUTS,
) -> Any:
    """Return a sensitivity map with a slider over its steps, to be shown as the last line of a notebook's cell.

    A menu has the maps, buttons turn between what an output depends on (a column) and where an input goes (a row), a
    slider chooses the word. All maps are drawn on one colour scale. A still picture for pages without a running kernel
    is `draw_sensitivity`, or `plots.word_sensitivity` with all columns at once.

    Parameters
    ----------
    maps : array_like (T, T), or mapping of name to such arrays
        S[s, t], as `lstm_numba.sensitivity` returns them.
    words : sequence of T words, optional
        Time steps 1 ... T by default.
    labels : sequence of T words, or mapping of a map's name to such, optional
        The tags of the outputs.
    direction : {"forward", "backward", "both"}
        As in `plots.sensitivity_map`.
    view : {"output", "input"}
        Which button is pressed at first.
    place : int, optional
        Where the slider stands at first, 0 ... T − 1; by default at the end.
    label : str
        Label of the colour bar.

    Returns
    -------
    ipywidgets.VBox
        Its ``menu``, ``buttons`` and ``slider`` are the controls, its ``picture`` is the HTML widget with the image.

    Raises
    ------
    ImportError
        Without ipywidgets.
    TypeError, ValueError
        No map, maps of different shapes, and as `draw_sensitivity`.

    Examples
    --------
    >>> sensitivity_explorer(np.triu(np.ones((4, 4))), words="show me sports news".split())  # doctest: +SKIP
    """
    try:
        import ipywidgets as widgets
    except ImportError as error:
        raise ImportError("sensitivity_explorer needs ipywidgets: pip install 'lstm-numba[notebooks]'") from error
    from lstm_numba.plots.output import quick_image

    named = _named_maps(maps)
    steps = len(next(iter(named.values())))
    place = steps - 1 if place is None else place
    positive = np.concatenate([S[S > 0] for S in named.values()])
    ends = {"vmin": positive.min(), "vmax": positive.max()} if positive.size else {}
    tags: dict[str, Any] = {name: labels.get(name) if isinstance(labels, Mapping) else labels for name in named}

    options: dict[str, Any] = {"words": words, "direction": direction, "label": label, **ends}
    pictures = {name: _SensitivityPicture(S, labels=tags[name], name=name, **options) for name, S in named.items()}
    for each in pictures.values():  # what is wrong is said here, not by a slider
        each.choose(place, view)
        each.keep_layout()
    first = next(iter(named))
    layout = widgets.Layout(width="34em")
    wide = {"description_width": "5em"}
    menu = widgets.Dropdown(options=list(named), value=first, description="net", layout=layout, style=wide)
    buttons = widgets.ToggleButtons(
        options=[(text, key) for key, text in VIEWS.items()],
        value=view,
        description="show",
        style=wide | {"button_width": "16em"},
    )
    places = [(f"{n + 1}" if words is None else f"{n + 1}  {words[n]}", n) for n in range(steps)]
    slider = widgets.SelectionSlider(options=places, value=place, description="step", layout=layout, style=wide)
    picture = widgets.HTML()

    def redraw(_: Any = None) -> None:
        chosen = pictures[menu.value]
        alt = chosen.choose(slider.value, buttons.value)
        picture.value = quick_image(chosen.figure, alt)

    for control in (menu, buttons, slider):
        control.observe(redraw, names="value")
    redraw()
    box = widgets.VBox([*([menu] if len(named) > 1 else []), buttons, slider, picture])
    box.menu, box.buttons, box.slider, box.picture = menu, buttons, slider, picture
    return box


def _named_maps(maps: Any) -> dict[str, NDArray]:
    """Maps by name, all of one shape (T, T)."""
    given = dict(maps) if isinstance(maps, Mapping) else {"": maps}
    if not given:
        raise ValueError("maps: expected at least one map, got an empty mapping")
    named = {str(name): np.asarray(S, dtype=np.float64) for name, S in given.items()}
    shape = next(iter(named.values())).shape
    for name, S in named.items():
        key = f"maps[{name!r}]" if isinstance(maps, Mapping) else "maps"
        if S.ndim != 2 or S.shape[0] != S.shape[1] or not S.size:
            raise ValueError(f"{key}: expected shape (T, T), got {S.shape}")
        if S.shape != shape:
            raise ValueError(f"{key}: expected shape {shape} as the first map, got {S.shape}")
    return named
