"""Pages that are made from the code: settings, commands and metrics.

They lie in docs/, for readers on a git host; a test writes them and holds that they are current.
"""
