"""What a drain needs to know to be right: which pods may go, in which order, and what holds them back.

``classify``, ``budgets`` and ``plan`` are pure: what was read comes in, a verdict or a plan comes out, and no call is made. ``cordon``,
``evictor``, ``volumes`` and ``watch`` use the doors that they are given.
"""
