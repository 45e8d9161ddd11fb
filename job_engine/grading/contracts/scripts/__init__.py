"""What contracts run in the sandbox: harnesses of the engine's own, and shell scripts.

They run beside untrusted code, need a shell or Python 3.9 and nothing else, and are read as
text; only tests import them.
"""
