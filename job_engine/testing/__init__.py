"""What demonstrations and tests need beside an engine, such as a git server to clone from."""
