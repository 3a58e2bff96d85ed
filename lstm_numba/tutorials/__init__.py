"""What the notebooks show, beyond what a user of the layers needs.

Read `gallery` first: every figure of the series, a module for each notebook. `widgets` and `block_widget` are the
pictures with sliders, `bugs_of_2015` the mistakes of the original's programs, and `packed_order` says in plain NumPy
where the engine puts each weight.
"""
