"""The bundled actions, one file each; the file's name is the action's name.

They import the core only, and are found by name like any third party's.
"""
