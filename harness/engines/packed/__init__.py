"""Packed training: the steps of several trials at once, over one frozen backbone behind its cut.

    packable    which trials can be packed, and which of them may be in one pack
    launch      what the parts share: the kind of a pack, and one pass of some of its slots
    layout      a trial's weights as one row of numbers, padded to common shapes
    optimizer   clipping and AdamW, row by row
    model       the backbone with a trial axis: frozen layers slot by slot, adapters and head [K, ...]
    unpadded    layers of a wide model on the real steps of a batch alone
    items       what a slot trains and scores on, and the shapes that its batches are padded to
    slot        one trial in a pack: its data, its random streams, what is due next
    pack        the model of one kind of trials, and the rows of its slots
    steps       a launch: the host's part, and the device's, which is a pure function over tensors
    captured    the device's part from static buffers, on a GPU as CUDA graphs
    scheduler   which slots run together, and the launches
    driver      many trials under way, those that can be packed together
    engine      the engine that trials are handed

The packed forms of strategies and adapters lie in their own files (harness/adapters).

A *launch* is one forward (and backward) pass for some slots whose next batches have the same padded shape. Every
operation works on each slot by itself, so that a trial's numbers do not depend on which slots run beside it.
"""
