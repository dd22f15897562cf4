"""Packed training: the steps of several trials at once, over one frozen backbone behind its cut.

    packable    which trials can be packed, and which of them share a launch
    layout      a trial's weights as one row of numbers, bottlenecks padded to common widths
    optimizer   clipping and AdamW, row by row
    model       the backbone with a trial axis: frozen layers slot by slot, adapters and head [K, ...]
    merging     the strategies with a trial axis
    slot        one trial in a pack: its data, its random streams, what is due next
    pack        a family's model, and the rows of its slots
    steps       a launch: the host's part, and the device's, which is a pure function over tensors
    captured    the device's part from static buffers, on a GPU as CUDA graphs
    engine      which slots run together, and the launches

A *launch* is one forward (and backward) pass for some slots whose next batches have the same padded shape. Every
operation works on each slot by itself, so that a trial's numbers do not depend on which slots run beside it.
"""
