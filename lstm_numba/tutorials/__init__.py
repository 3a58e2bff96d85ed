"""Figures, widgets and programs for the notebooks, which users of the layers don't need.

Read `gallery` first: every figure of the series, a module for each notebook. `widgets` and `block_widget` are the
pictures with sliders, and `bugs_of_2015` has the mistakes of the original's program, each with a switch.
"""
