"""Exact integer arithmetic for models whose outputs decide decoded symbols.

``fixed_point``, ``lookup_tables`` and ``normalisation`` work without torch; ``integer_linear`` and
``integer_gru`` are torch layers. Import the modules directly.
"""
