"""Text as tokens for language models: equal-info windows and dictionaries of strings."""
