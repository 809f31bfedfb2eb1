"""The command line: one file a command, each with a click command named `command`.

Only click and what is light is imported at the top of these files, so that `--help` is quick.
"""
