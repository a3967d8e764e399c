"""python -m llmpool COMMAND: a module for each command, and what they draw with.

Nothing else of the package imports it, and what is heavy is imported by the command that needs it.
"""
