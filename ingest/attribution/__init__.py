"""Attribution graphs in closed form: from one forward pass to nodes and edges, without a gradient.

Read in this order: targets (what is explained), frozen (the linear model), sources (what its columns are), sweep (one
batch backwards), features (which rows), influence and prune (what is kept), result (the tables).
"""
