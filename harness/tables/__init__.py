"""Tables as pure functions of records and settings. Loads neither torch nor pandas.

`model` says what a table is; `build` makes one from records and settings; `render/` has one file a format, all made
from the model.
"""
